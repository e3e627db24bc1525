package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
)

// scriptedMessage is what a scripted server reads.
type scriptedMessage struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

// scripted returns a server with these capabilities, of the modern era if they begin with
// "modern ", that passes every message but those of
// the beginning to on. on writes lines.
func scripted(capabilities string, on func(m scriptedMessage, write func(format string, args ...any))) agenttest.Server {
	return func(ctx context.Context, s *agenttest.Stdio) int {
		stop := context.AfterFunc(ctx, s.CloseOut)
		defer stop()
		write := func(format string, args ...any) { fmt.Fprintf(s.Out, format+"\n", args...) }
		in := bufio.NewReader(s.In)
		for {
			line, err := in.ReadBytes('\n')
			var m scriptedMessage
			if json.Unmarshal(line, &m) == nil {
				switch m.Method {
				case "initialize":
					write(`{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":%s,"serverInfo":{"name":"scripted","version":"1"}}}`, m.ID, capabilities)
				case "ping":
					write(`{"jsonrpc":"2.0","id":%s,"result":{}}`, m.ID)
				case "tools/list":
					write(`{"jsonrpc":"2.0","id":%s,"result":{"tools":[]}}`, m.ID)
				case "server/discover":
					if modern, is := strings.CutPrefix(capabilities, "modern "); is {
						write(`{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","ttlMs":0,"cacheScope":"public","supportedVersions":["2026-07-28"],"capabilities":%s,"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"scripted","version":"1"}}}}`, m.ID, modern)
					} else {
						write(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"unknown"}}`, m.ID)
					}
				default:
					on(m, write)
				}
			}
			if err != nil {
				return 0
			}
		}
	}
}
