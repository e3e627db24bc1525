package fleettest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/rpc/rpctest"
)

// changing is a modern server that says with every call that its tools have changed, to
// whoever listens. Its list stays the same, so that nothing else tells of it.
func changing(ctx context.Context, s *agenttest.Stdio) int {
	stop := context.AfterFunc(ctx, s.CloseOut)
	defer stop()
	listens := map[string]bool{} // the ids of subscriptions/listen
	in := bufio.NewReader(s.In)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return 0
		}
		var m struct {
			ID     json.RawMessage `json:"id"`
			Method string          `json:"method"`
			Params struct{ RequestID json.RawMessage }
		}
		if json.Unmarshal(line, &m) != nil {
			continue
		}
		notify := func(method, id, more string) {
			fmt.Fprintf(s.Out, `{"jsonrpc":"2.0","method":"notifications/%s","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":%s}%s}}`+"\n", method, id, more)
		}
		result := ""
		switch m.Method {
		case "server/discover":
			result = `"supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}},"ttlMs":1,"cacheScope":"public"`
		case "tools/list":
			result = `"tools":[{"name":"change","inputSchema":{"type":"object"}}],"ttlMs":1,"cacheScope":"public"`
		case "tools/call":
			for id := range listens {
				notify("tools/list_changed", id, "")
			}
			result = `"content":[]`
		case "subscriptions/listen":
			listens[string(m.ID)] = true
			notify("subscriptions/acknowledged", string(m.ID), `,"notifications":{"toolsListChanged":true}`)
			continue
		case "notifications/cancelled":
			delete(listens, string(m.Params.RequestID))
			continue
		default:
			fmt.Fprintf(s.Out, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"unknown"}}`+"\n", m.ID)
			continue
		}
		fmt.Fprintf(s.Out, `{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete",%s}}`+"\n", m.ID, result)
	}
}

// A modern client whose subscription is acknowledged hears of a change right after that,
// through another controller, however late workers learn who listens.
func TestChangesAfterTheAcknowledgement(t *testing.T) {
	c := Start(t, Options{Controllers: 2, Workers: 2, File: echoFile(1, ""), Dial: rpctest.LateInterests(100 * time.Millisecond),
		Runtimes: func(fleet.NodeID, string, *slog.Logger) ([]fleet.Runtime, error) {
			rt := agenttest.New()
			rt.Handle("", changing)
			return []fleet.Runtime{plain{rt}}, nil
		}})
	c.awaitKnown(1, "c1", "c2")
	const rounds = 6
	missed := 0
	for n := range rounds {
		here, there := fleet.NodeID("c1"), fleet.NodeID("c2")
		if n%2 > 0 {
			here, there = there, here
		}
		if !c.hearsOfChange(t, here, there) {
			missed++
		}
	}
	if missed > 0 {
		t.Errorf("%d of %d clients did not hear of the change", missed, rounds)
	}
}

// hearsOfChange subscribes to changes of tools at one controller, calls the server through
// another one, and reports whether the change is announced.
func (c *Cluster) hearsOfChange(t *testing.T, here, there fleet.NodeID) bool {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	body := `{"jsonrpc":"2.0","id":"l","method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true},"_meta":{` +
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.Controller(here).Addresses.HTTP+"/echo/mcp", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen",
	} {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	events := bufio.NewReader(resp.Body)
	if _, data, err := nextEvent(events); err != nil || !strings.Contains(data, "notifications/subscriptions/acknowledged") {
		t.Fatalf("the subscription got %s %s, %v", resp.Status, data, err)
	}
	if status, answer := c.modern(t, there, "change", ""); status != http.StatusOK {
		t.Fatalf("the call got %d %s", status, answer)
	}
	// It comes at once, or never.
	late := time.AfterFunc(5*time.Second, cancel)
	defer late.Stop()
	_, data, err := nextEvent(events)
	if err == nil && !strings.Contains(data, "notifications/tools/list_changed") {
		t.Fatalf("heard %s", data)
	}
	return err == nil
}
