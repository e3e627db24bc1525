package fleettest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// watchable is a server with one resource, which every replica says has changed once
// anybody calls a tool of any.
type watchable struct {
	mu         sync.Mutex
	subscribed map[fleet.ReplicaID]func() // tell of a change
}

func (w *watchable) serve(ctx context.Context, s *agenttest.Stdio) int {
	stop := context.AfterFunc(ctx, s.CloseOut)
	defer stop()
	var out sync.Mutex
	write := func(format string, args ...any) {
		out.Lock()
		defer out.Unlock()
		fmt.Fprintf(s.Out, format+"\n", args...)
	}
	in := bufio.NewReader(s.In)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return 0
		}
		var m struct {
			ID     json.RawMessage `json:"id"`
			Method string          `json:"method"`
		}
		if json.Unmarshal(line, &m) != nil || m.ID == nil {
			continue
		}
		result := `{}`
		switch m.Method {
		case "server/discover":
			write(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"unknown"}}`, m.ID)
			continue
		case "initialize":
			result = `{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"resources":{"subscribe":true}},"serverInfo":{"name":"w","version":"1"}}`
		case "tools/list":
			result = `{"tools":[{"name":"change","inputSchema":{"type":"object"}}]}`
		case "resources/list":
			result = `{"resources":[{"uri":"w:1","name":"one"}]}`
		case "resources/templates/list":
			result = `{"resourceTemplates":[]}`
		case "resources/subscribe", "resources/unsubscribe":
			w.mu.Lock()
			w.subscribed[s.Launch.Replica] = func() {
				write(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"w:1","n":9007199254740993}}`)
			}
			if m.Method == "resources/unsubscribe" {
				delete(w.subscribed, s.Launch.Replica)
			}
			w.mu.Unlock()
		case "tools/call":
			w.mu.Lock()
			for _, tell := range w.subscribed {
				tell()
			}
			w.mu.Unlock()
			result = `{"content":[]}`
		}
		write(`{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result)
	}
}

func (w *watchable) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.subscribed)
}

// A client that subscribes, through another controller than that of its stream, hears of a
// change right after that, once, although every replica of the server on every worker tells
// of it.
func TestSubscribersHearOfChanges(t *testing.T) {
	w := &watchable{subscribed: map[fleet.ReplicaID]func(){}}
	c := Start(t, Options{Controllers: 2, Workers: 2, File: echoFile(2, ""),
		Runtimes: func(fleet.NodeID, string, *slog.Logger) ([]fleet.Runtime, error) {
			rt := agenttest.New()
			rt.Handle("", w.serve)
			return []fleet.Runtime{plain{rt}}, nil
		}})
	c.awaitKnown(2, "c1", "c2")
	initialized, err := c.post(t.Context(), "c1", "", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(initialized.Body)
	initialized.Body.Close()
	session := initialized.Header.Get("Mcp-Session-Id")
	if session == "" {
		t.Fatalf("no session: %s %s", initialized.Status, body)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+c.Controller("c1").Addresses.HTTP+"/echo/mcp", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Mcp-Session-Id", session)
	req.Header.Set("MCP-Protocol-Version", "2025-11-25")
	stream, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	send := func(at fleet.NodeID, message string) {
		t.Helper()
		resp, err := c.post(t.Context(), at, session, message)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if body, _ := io.ReadAll(resp.Body); !strings.Contains(string(body), `"result"`) {
			t.Fatalf("%s got %s %s", message, resp.Status, body)
		}
	}
	send("c2", `{"jsonrpc":"2.0","id":2,"method":"resources/subscribe","params":{"uri":"w:1"}}`)
	if n := w.count(); n != 2 {
		t.Fatalf("the subscription is answered when %d of 2 replicas are subscribed to", n)
	}
	events := bufio.NewReader(stream.Body)
	for i := range 2 {
		send("c2", fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"change"}}`, 3+i))
		const want = `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"w:1","n":9007199254740993}}`
		if _, data, err := nextEvent(events); err != nil || data != want {
			t.Fatalf("heard %q, %v; want %s", data, err, want)
		}
	}
}
