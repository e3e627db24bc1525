package fleettest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// begin begins a session at a controller, and returns the status and the answer.
func (m *mcpClient) begin(c *Controller) (int, string) {
	m.t.Helper()
	m.session = ""
	return m.post(c, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}`)
}

// begun begins a session that must begin.
func (c *Cluster) begun(t *testing.T, at fleet.NodeID) *mcpClient {
	t.Helper()
	m := &mcpClient{t: t}
	if status, text := m.begin(c.Controller(at)); status != http.StatusOK || m.session == "" {
		t.Fatalf("initialize: %d %s", status, text)
	}
	return m
}

const askWho = `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"whoami","arguments":{}}}`

// A session ends when it is not used for session_idle, and at the end of session_lifetime
// however much it is used. Its replica is stopped, and its id is 404 at every controller.
func TestSessionsExpire(t *testing.T) {
	for name, c := range map[string]struct {
		keys string
		busy bool
		want string // reason of the event
	}{
		"idle":     {"    session_idle: 2s\n", false, "idle for 2s"},
		"lifetime": {"    session_idle: 4s\n    session_lifetime: 4s\n", true, "session_lifetime is over"},
	} {
		t.Run(name, func(t *testing.T) {
			f := Start(t, Options{Controllers: 2, Workers: 1, File: sessionFile(1, c.keys)})
			f.AwaitReady(1)
			f.awaitOwners(0, 1)
			m := f.begun(t, "c1")
			first := m.whoami(f.Controller("c2"))
			if c.busy {
				Eventually(t, func(context.Context) error {
					status, text := m.post(f.Controller("c1"), askWho)
					if status == http.StatusOK && !strings.Contains(text, first) {
						t.Errorf("the session moved from %s: %s", first, text)
					}
					if status != http.StatusNotFound {
						return fmt.Errorf("got %d %s", status, text)
					}
					return nil
				})
			}
			f.awaitOwners(0, 1)
			for _, at := range []fleet.NodeID{"c1", "c2"} {
				if status, text := m.post(f.Controller(at), askWho); status != http.StatusNotFound || !strings.Contains(text, `"code":-31010`) {
					t.Errorf("afterwards at %s: %d %s", at, status, text)
				}
			}
			events, err := f.Controller(f.Leader()).Events(t.Context(), api.EventOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var ended []string
			for _, e := range events.Events {
				if e.Kind == fleet.EventSessionEnded {
					ended = append(ended, e.Message)
				}
			}
			if len(ended) != 1 || !strings.HasSuffix(ended[0], c.want) {
				t.Errorf("events say %q, want one that ends in %q", ended, c.want)
			}
		})
	}
}

// A session more than the bounds allow is refused with an error that names the bound, and
// begins once another one has ended. Nobody authenticates, so all clients are one principal.
func TestTooManySessions(t *testing.T) {
	for _, key := range []string{"max_sessions", "max_sessions_per_principal"} {
		t.Run(key, func(t *testing.T) {
			f := Start(t, Options{Controllers: 2, Workers: 1, File: sessionFile(0, "    "+key+": 1\n")})
			f.AwaitReady(1)
			first := f.begun(t, "c1")
			second := &mcpClient{t: t}
			status, text := second.begin(f.Controller("c2"))
			if status != http.StatusServiceUnavailable || second.session != "" {
				t.Errorf("one session more: %d %s", status, text)
			}
			for _, want := range []string{`"code":-31001`, `"code":"overloaded"`, `"retry_after":`, key + " is 1"} {
				if !strings.Contains(text, want) {
					t.Errorf("got %s, want %s in it", text, want)
				}
			}
			if status, text := f.modern(t, "c2", "whoami", ""); status != http.StatusServiceUnavailable || !strings.Contains(text, key+" is 1") {
				t.Errorf("a modern request: %d %s", status, text)
			}
			first.end(f.Controller("c2"))
			Eventually(t, func(context.Context) error {
				if status, text := second.begin(f.Controller("c2")); status != http.StatusOK {
					return fmt.Errorf("after the end of the first one: %d %s", status, text)
				}
				return nil
			})
		})
	}
}

// end ends the session with DELETE.
func (m *mcpClient) end(c *Controller) {
	m.t.Helper()
	req, err := http.NewRequestWithContext(m.t.Context(), http.MethodDelete, "http://"+c.Addresses.HTTP+"/echo/mcp", nil)
	if err != nil {
		m.t.Fatal(err)
	}
	if status, text := m.do(req); status != http.StatusNoContent {
		m.t.Errorf("DELETE: %d %s", status, text)
	}
}

// A drain moves sessions once they had session_idle to finish. Their clients see that lists
// may have changed, and nothing else.
func TestDrainMovesSessions(t *testing.T) {
	f := Start(t, Options{Controllers: 2, Workers: 2, File: sessionFile(1, "    session_idle: 2s\n")})
	f.AwaitReady(2)
	f.awaitOwners(0, 1)
	m := f.begun(t, "c1")
	first := m.whoami(f.Controller("c2"))
	node := f.nodeOf(t, first)

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+f.Controller("c1").Addresses.HTTP+"/echo/mcp", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Mcp-Session-Id", m.session)
	req.Header.Set("MCP-Protocol-Version", "2025-11-25")
	stream, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	if stream.StatusCode != http.StatusOK {
		t.Fatalf("GET: %s", stream.Status)
	}
	if _, err := f.Drain(t.Context(), node, time.Minute, api.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := m.whoami(f.Controller("c1")); got != first {
		t.Errorf("the session moved at once, from %s to %s", first, got)
	}
	var moved string
	Eventually(t, func(context.Context) error {
		if moved = m.whoami(f.Controller("c2")); moved == first {
			return errors.New("the session has not moved")
		}
		return nil
	})
	if at := f.nodeOf(t, moved); at == node {
		t.Errorf("the session moved to the node that drains, %s", at)
	}
	for events := bufio.NewReader(stream.Body); ; {
		_, data, err := nextEvent(events)
		if err != nil {
			t.Fatalf("the client's stream: %v", err)
		}
		if data == "" {
			continue // an id, to come back with
		}
		if data != `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}` {
			t.Errorf("the client was told %s", data)
		}
		break
	}
}

// nodeOf returns the node of a replica.
func (c *Cluster) nodeOf(t *testing.T, replica string) fleet.NodeID {
	t.Helper()
	list, err := c.Replicas(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		if string(r.ID) == replica {
			return r.Node
		}
	}
	t.Fatalf("no replica %s", replica)
	return ""
}
