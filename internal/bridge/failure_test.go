package bridge

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// refusing returns the URL of nobody.
func refusing(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		body   string
		want   string // of the error
	}{
		{"JSON-RPC", 503, `{"jsonrpc":"2.0","id":7,"error":{"code":-31001,"message":"busy","data":{"retry_after":9007199254740993}}}`, `{"code":-31001,"message":"busy","data":{"retry_after":9007199254740993}}`},
		{"JSON-RPC without an id", 400, `{"jsonrpc":"2.0","error":{"code":-32600,"message":"no"}}`, `{"code":-32600,"message":"no"}`},
		{"JSON-RPC with a null id and a good status", 200, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no"}}`, `{"code":-32600,"message":"no"}`},
		{"the HTTP API", 404, `{"detail":"no such path","code":"not_found"}`, `{"code":-31013,"message":"the controller answers 404 Not Found: no such path","data":{"code":"unavailable"}}`},
		{"text", 502, `<html>`, `{"code":-31013,"message":"the controller answers 502 Bad Gateway","data":{"code":"unavailable"}}`},
		{"a redirect", 307, ``, `{"code":-31013,"message":"the controller answers 307 Temporary Redirect","data":{"code":"unavailable"}}`},
		{"nothing", 202, ``, `{"code":-31007,"message":"the controller answers 202 Accepted without a message","data":{"code":"bad_reply"}}`},
		{"no message", 200, `{"a":1}`, `{"code":-31007,"message":"the controller's answer is not a response: \"{\\\"a\\\":1}\"","data":{"code":"bad_reply"}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPeer(t, func(w http.ResponseWriter, _ *http.Request, m *message) bool {
				if m.method != mcp.MethodToolsCall {
					return false
				}
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(tt.status)
				fmt.Fprint(w, tt.body)
				return true
			})
			c := start(t, p.URL)
			c.send(call7)
			c.wants(`{"jsonrpc":"2.0","id":7,"error":` + tt.want + `}`)
		})
	}
}

func TestBadLines(t *testing.T) {
	p := newPeer(t, nil)
	c := start(t, p.URL)
	c.send(`{"jsonrpc":"2.0","id":3,"method":"x"`, `nonsense`, `{"jsonrpc":"1.0","id":4,"method":"x"}`, `{"jsonrpc":"2.0","id":5}`, "{\"jsonrpc\":\"2.0\",\"id\":6,\"method\":\"\xff\"}")
	for _, want := range []string{`"id":3,"error":{"code":-32700,`, `"id":4,"error":{"code":-32600,`, `"id":5,"error":{"code":-32600,`, `"id":6,"error":{"code":-32700,`} {
		if got := c.next(); !strings.Contains(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	c.send(`[{"jsonrpc":"2.0","id":1,"method":"a"},{"jsonrpc":"2.0","id":2,"method":"a"}]`)
	got := []string{c.next(), c.next()}
	for _, id := range []string{"1", "2"} {
		if want := `{"jsonrpc":"2.0","id":` + id + `,"result":{}}`; got[0] != want && got[1] != want {
			t.Errorf("got %s, without %s", got, want)
		}
	}
}

// broken is a peer whose connections break once the test says so.
func breaking(t *testing.T, method string) *peer {
	return newPeer(t, func(_ http.ResponseWriter, _ *http.Request, m *message) bool {
		if m.method == method {
			panic(http.ErrAbortHandler)
		}
		return false
	})
}

func TestAnotherControllerTakesOver(t *testing.T) {
	t.Run("a request that was not sent", func(t *testing.T) {
		p := newPeer(t, nil)
		c := start(t, refusing(t), p.URL)
		c.send(call7)
		c.wants(`{"jsonrpc":"2.0","id":7,"result":{}}`)
	})
	t.Run("a call that may have been made is not repeated", func(t *testing.T) {
		lost, other := breaking(t, mcp.MethodToolsCall), newPeer(t, nil)
		c := start(t, lost.URL, other.URL)
		c.send(call7)
		if got := c.next(); !strings.Contains(got, `"id":7,"error":{"code":-31015,`) || !strings.Contains(got, "it is unknown whether") {
			t.Errorf("got %s", got)
		}
		if n := lost.count("POST  tools/call") + len(other.all()); n != 1 {
			t.Errorf("%d requests", n)
		}
		c.send(strings.Replace(call7, "7", "8", 1)) // the next one goes to the other
		c.wants(`{"jsonrpc":"2.0","id":8,"result":{}}`)
	})
	t.Run("a list is repeated", func(t *testing.T) {
		lost, other := breaking(t, mcp.MethodToolsList), newPeer(t, nil)
		c := start(t, lost.URL, other.URL)
		c.send(`{"jsonrpc":"2.0","id":"l","method":"tools/list"}`)
		c.wants(`{"jsonrpc":"2.0","id":"l","result":{}}`)
	})
	t.Run("one that stops", func(t *testing.T) {
		stops := newPeer(t, func(w http.ResponseWriter, _ *http.Request, _ *message) bool {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `{"jsonrpc":"2.0","id":7,"error":{"code":-31013,"message":"stops"}}`)
			return true
		})
		other := newPeer(t, nil)
		c := start(t, stops.URL, other.URL)
		c.send(call7)
		c.wants(`{"jsonrpc":"2.0","id":7,"result":{}}`)
	})
}

func TestASessionThatIsForgottenBeginsAgain(t *testing.T) {
	restarted := false
	p := newPeer(t, nil)
	p.on = func(w http.ResponseWriter, r *http.Request, m *message) bool {
		p.mu.Lock()
		forgotten := restarted && r.Header.Get(headerSession) == "s1"
		restarted = restarted || m.method == "restart"
		p.mu.Unlock()
		if forgotten {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"jsonrpc":"2.0","id":7,"error":{"code":-31010,"message":"session not found"}}`)
		}
		return forgotten
	}
	c := start(t, p.URL)
	c.open(p)
	c.send(`{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"info"}}`)
	c.wants(`{"jsonrpc":"2.0","id":1,"result":{}}`)
	for i, uri := range []string{"a", "b", "a"} {
		c.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"resources/subscribe","params":{"uri":"%s"}}`, i, uri))
		c.next()
	}
	for _, line := range []string{`{"jsonrpc":"2.0","id":2,"method":"resources/unsubscribe","params":{"uri":"b"}}`, `{"jsonrpc":"2.0","id":3,"method":"restart"}`} {
		c.send(line)
		c.next()
	}
	c.send(call7)
	c.wants(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`, `{"jsonrpc":"2.0","id":7,"result":{}}`)
	for note, want := range map[string]int{"POST  initialize": 2, "POST s2 notifications/initialized": 1, "POST s2 resources/subscribe": 1,
		"POST s2 logging/setLevel": 1, "POST s2 tools/call": 1, "POST s1 tools/call": 1} {
		if got := p.count(note); got != want {
			t.Errorf("%d of %q, want %d; got %q", got, note, want, p.all())
		}
	}
	c.ends()
	p.waits("DELETE s2")
}

func TestASessionThatCannotBeginAgain(t *testing.T) {
	p := newPeer(t, nil)
	p.on = func(w http.ResponseWriter, r *http.Request, m *message) bool {
		if m.method == mcp.MethodToolsCall || m.method == mcp.MethodInitialize && p.count("POST s1 tools/call") > 0 {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"jsonrpc":"2.0","id":0,"error":{"code":-31011,"message":"no server"}}`)
			return true
		}
		return false
	}
	c := start(t, p.URL)
	c.open(p)
	c.send(call7)
	c.wants(`{"jsonrpc":"2.0","id":7,"error":{"code":-31011,"message":"no server"}}`)
}
