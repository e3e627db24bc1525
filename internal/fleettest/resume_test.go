package fleettest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// post sends a message of a legacy client to a controller.
func (c *Cluster) post(ctx context.Context, at fleet.NodeID, session, message string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.Controller(at).Addresses.HTTP+"/echo/mcp", strings.NewReader(message))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if session != "" {
		req.Header.Set("Mcp-Session-Id", session)
		req.Header.Set("MCP-Protocol-Version", "2025-11-25")
	}
	return http.DefaultClient.Do(req)
}

// awaitKnown waits until these controllers know so many replicas that are READY.
func (c *Cluster) awaitKnown(replicas int, at ...fleet.NodeID) {
	c.t.Helper()
	Eventually(c.t, func(ctx context.Context) error {
		for _, name := range at {
			list, err := c.Controller(name).Replicas(ctx)
			if err != nil {
				return err
			}
			ready := 0
			for _, r := range list {
				if r.Phase == fleet.PhaseReady.String() {
					ready++
				}
			}
			if ready < replicas {
				return fmt.Errorf("controller %s knows %d replicas that are READY", name, ready)
			}
		}
		return nil
	})
}

// nextEvent reads one server-sent event: its id and its data.
func nextEvent(r *bufio.Reader) (id, data string, err error) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return id, data, err
		}
		switch field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); field {
		case "id":
			id = value
		case "data", "data:":
			data = value
		case "":
			if id != "" || data != "" {
				return id, data, nil
			}
		}
	}
}

// A client that loses its connection in mid-call gets the rest through another controller,
// each message once. The call runs once.
func TestAnswerThroughAnotherController(t *testing.T) {
	c := Start(t, Options{Controllers: 3, Workers: 2, File: echoFile(2, "")})
	c.AwaitReady(2)
	c.awaitKnown(2, "c1", "c2")
	resp, err := c.post(t.Context(), "c1", "", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	session := resp.Header.Get("Mcp-Session-Id")
	if session == "" {
		t.Fatalf("no session: %s %s", resp.Status, body)
	}

	ctx, lose := context.WithCancel(t.Context())
	defer lose()
	resp, err = c.post(ctx, "c1", session, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"slow","arguments":{"ms":3000},"_meta":{"progressToken":"mine"}}}`)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	events := bufio.NewReader(resp.Body)
	var last string
	for seen := ""; !strings.Contains(seen, `"progress":1`); {
		id, data, err := nextEvent(events)
		if err != nil {
			t.Fatalf("%s, content type %s: %v", resp.Status, resp.Header.Get("Content-Type"), err)
		}
		last, seen = id, data
	}
	lose()

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+c.Controller("c2").Addresses.HTTP+"/echo/mcp", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Mcp-Session-Id", session)
	req.Header.Set("MCP-Protocol-Version", "2025-11-25")
	req.Header.Set("Last-Event-ID", last)
	back, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Body.Close()
	events = bufio.NewReader(back.Body)
	var got []string
	for range 20 {
		_, data, err := nextEvent(events)
		if err != nil {
			t.Fatalf("%s: %v after %q", back.Status, err, got)
		}
		if data != "" {
			got = append(got, data)
		}
		if strings.Contains(data, `"result"`) {
			break
		}
	}
	want := []string{
		`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"mine","progress":2,"total":3}}`,
		`{"jsonrpc":"2.0","id":2,"result":{"content":[{"type":"text","text":"slept"}]}}`,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("came back to\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
