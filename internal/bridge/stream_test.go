package bridge

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

const answer7 = `{"jsonrpc":"2.0","id":7,"result":{"content":[]}}`

func TestAStreamGoesOnAtAnotherController(t *testing.T) {
	other := newPeer(t, func(w http.ResponseWriter, r *http.Request, _ *message) bool {
		if r.Header.Get(headerLastEvent) != "e2" {
			return false
		}
		if got := r.Header.Get(mcp.HeaderVersion); got != "2025-11-25" {
			t.Errorf("version %q", got)
		}
		events(w, "id: e3\ndata: "+answer7+"\n\n")
		return true
	})
	lost := newPeer(t, nil)
	var dead atomic.Bool
	lost.on = func(w http.ResponseWriter, _ *http.Request, m *message) bool {
		if dead.Load() {
			panic(http.ErrAbortHandler)
		}
		if m.method != mcp.MethodToolsCall {
			return false
		}
		dead.Store(true)
		events(w, "id: e1\nretry: 10\ndata:\n\n")
		events(w, "id: e2\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{}}\n\nid: e3\ndata: {cut off")
		panic(http.ErrAbortHandler)
	}
	c := start(t, lost.URL, other.URL)
	c.open(lost)
	c.send(call7)
	c.wants(`{"jsonrpc":"2.0","method":"notifications/progress","params":{}}`, answer7)
	if n := other.count("POST s1 tools/call"); n != 0 {
		t.Errorf("the call was repeated %d times", n)
	}
}

func TestPolling(t *testing.T) {
	var mu sync.Mutex
	polls := 0
	p := newPeer(t, func(w http.ResponseWriter, r *http.Request, m *message) bool {
		if m.method == mcp.MethodToolsCall {
			events(w, "id: e0\nretry: 10\ndata:\n\n") // and the connection ends in order
			return true
		}
		if last := r.Header.Get(headerLastEvent); last != "" {
			mu.Lock()
			defer mu.Unlock()
			if want := fmt.Sprintf("e%d", polls); last != want {
				t.Errorf("asks for %s, want %s", last, want)
			}
			if polls++; polls == 3 {
				events(w, "data: "+answer7+"\n\n")
			} else {
				events(w, fmt.Sprintf("id: e%d\ndata:\n\n", polls))
			}
			return true
		}
		return false
	})
	c := start(t, p.URL)
	c.open(p)
	c.send(call7)
	c.wants(answer7)
}

func TestAStreamThatDoesNotGoOn(t *testing.T) {
	for name, status := range map[string]int{"unknown": 404, "not offered": 405, "refused": 400} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t, func(w http.ResponseWriter, r *http.Request, m *message) bool {
				if m.method == mcp.MethodToolsCall {
					events(w, "id: e0\ndata:\n\n")
				} else if r.Header.Get(headerLastEvent) != "" {
					w.WriteHeader(status)
				} else {
					return false
				}
				return true
			})
			c := start(t, p.URL)
			c.open(p)
			c.send(call7)
			if got := c.next(); !strings.Contains(got, `"id":7,"error":{"code":-31015,`) {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestTheStreamOfTheSession(t *testing.T) {
	const changed, asks = `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`, `{"jsonrpc":"2.0","id":"r1","method":"ping"}`
	p := newPeer(t, nil)
	p.on = func(w http.ResponseWriter, r *http.Request, _ *message) bool {
		switch {
		case r.Method != http.MethodGet:
			return false
		case r.Header.Get(headerLastEvent) == "":
			events(w, ": hello\n\nretry: 1\nid: g1\ndata: "+changed+"\n\ndata: no message\n\n") // and the stream ends
		default:
			events(w, "data: "+asks+"\n\n")
			<-r.Context().Done()
		}
		return true
	}
	c := start(t, p.URL)
	c.open(p)
	c.wants(changed, asks)
	c.send(`{"jsonrpc":"2.0","id":"r1","result":{}}`)
	p.waits("POST s1 response")
	if got := p.count("GET s1 after g1"); got != 1 {
		t.Errorf("%d requests, want 1: %q", got, p.all())
	}
	c.ends()
}

func TestTheStreamFollowsTheSession(t *testing.T) {
	var mu sync.Mutex
	forgotten := false
	p := newPeer(t, nil)
	p.on = func(w http.ResponseWriter, r *http.Request, m *message) bool {
		mu.Lock()
		defer mu.Unlock()
		switch old := r.Header.Get(headerSession) == "s1"; {
		case m.method == "forget":
			forgotten = true
			return false
		case old && forgotten:
			w.WriteHeader(http.StatusNotFound)
		case r.Method == http.MethodGet && old:
			events(w, "id: g1\nretry: 1\ndata:\n\n")
		case r.Method == http.MethodGet:
			events(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}\n\n")
		default:
			return false
		}
		return true
	}
	c := start(t, p.URL)
	c.open(p)
	c.send(`{"jsonrpc":"2.0","id":1,"method":"forget"}`)
	c.wants(`{"jsonrpc":"2.0","id":1,"result":{}}`) // the client is idle from here on
	c.wants(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`, `{"jsonrpc":"2.0","method":"notifications/x"}`)
}

func TestCancelling(t *testing.T) {
	const cancelled = `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`
	t.Run("legacy", func(t *testing.T) {
		release := make(chan struct{})
		p := newPeer(t, nil)
		p.on = func(w http.ResponseWriter, r *http.Request, m *message) bool {
			switch m.method {
			case mcp.MethodToolsCall:
				events(w, ": begins\n\n")
				<-release
				events(w, "data: "+answer7+"\n\n")
				<-r.Context().Done()
				return true
			case mcp.MethodCancelled:
				if string(m.line) != cancelled {
					t.Errorf("got %s", m.line)
				}
				close(release)
			}
			return false
		}
		c := start(t, p.URL)
		c.open(p)
		c.send(call7)
		p.waits("POST s1 tools/call")
		c.send(cancelled)
		p.waits("POST s1 notifications/cancelled")
		c.send(`{"jsonrpc":"2.0","id":8,"method":"ping"}`)
		c.wants(`{"jsonrpc":"2.0","id":8,"result":{}}`)
		c.ends()
	})
	t.Run("modern", func(t *testing.T) {
		gone := make(chan struct{})
		p := newPeer(t, nil)
		p.on = func(w http.ResponseWriter, r *http.Request, m *message) bool {
			if m.method == mcp.MethodToolsCall {
				events(w, ": begins\n\n")
				<-r.Context().Done()
				close(gone)
			}
			return m.method == mcp.MethodToolsCall
		}
		c := start(t, p.URL)
		c.send(modern(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t"`))
		p.waits("POST  tools/call")
		c.send(cancelled)
		<-gone
		c.send(modern(`{"jsonrpc":"2.0","id":8,"method":"x","params":{"a":1`))
		c.wants(`{"jsonrpc":"2.0","id":8,"result":{}}`)
		if n := p.count("POST  notifications/cancelled"); n != 0 {
			t.Errorf("the server got %d notifications", n)
		}
	})
	t.Run("nothing", func(t *testing.T) {
		p := newPeer(t, nil)
		c := start(t, p.URL)
		c.send(cancelled, call7)
		c.wants(`{"jsonrpc":"2.0","id":7,"result":{}}`)
		c.ends()
		if n := len(p.all()); n != 1 {
			t.Errorf("got %q", p.all())
		}
	})
}

// modern completes a request that ends within its params.
func modern(begin string) string {
	return begin + `,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
}

func TestParametersAreHeaders(t *testing.T) {
	const mismatch = `{"jsonrpc":"2.0","id":7,"error":{"code":-32020,"message":"no header"}}`
	p := newPeer(t, func(w http.ResponseWriter, r *http.Request, m *message) bool {
		if r.Header.Get(mcp.HeaderVersion) != "2026-07-28" || r.Header.Get(mcp.HeaderMethod) != m.method {
			t.Errorf("%s with %v", m.method, r.Header)
		}
		switch {
		case m.method == mcp.MethodToolsList && within(m.env.Params, "cursor") == nil:
			reply(w, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"tools":[],"nextCursor":"2"}}`, m.env.ID))
		case m.method == mcp.MethodToolsList:
			events(w, fmt.Sprintf(`data: {"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"t","inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}}]}}`+"\n\n", m.env.ID))
		case m.method == mcp.MethodToolsCall && r.Header.Get("Mcp-Param-A") != "x":
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, mismatch)
		default:
			return false
		}
		return true
	})
	const call = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t","arguments":{"a":"x"}`
	t.Run("learnt from the refusal", func(t *testing.T) {
		c := start(t, p.URL)
		c.send(modern(call))
		c.wants(`{"jsonrpc":"2.0","id":7,"result":{}}`)
	})
	t.Run("learnt from the client's own list", func(t *testing.T) {
		c := start(t, p.URL)
		c.send(modern(`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"2"`))
		c.next()
		before := p.count("POST  tools/list")
		c.send(modern(call))
		c.wants(`{"jsonrpc":"2.0","id":7,"result":{}}`)
		if n := p.count("POST  tools/list") - before; n != 0 {
			t.Errorf("listed %d times", n)
		}
	})
	t.Run("wrong all the same", func(t *testing.T) {
		c := start(t, p.URL)
		c.send(modern(strings.Replace(call, `"x"`, `"y"`, 1)))
		c.wants(mismatch)
	})
}

func TestASubscriptionIsSentAgain(t *testing.T) {
	const (
		ack   = `{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":{"toolsListChanged":true,"resourceSubscriptions":["a:b"]}}}`
		event = `{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}`
		over  = `{"jsonrpc":"2.0","id":"l","result":{"resultType":"complete"}}`
	)
	missed := []string{
		`{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"l"}}}`,
		`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"l"},"uri":"a:b"}}`,
	}
	var mu sync.Mutex
	tries := 0
	p := newPeer(t, nil)
	p.on = func(w http.ResponseWriter, r *http.Request, m *message) bool {
		mu.Lock()
		tries++
		now := tries
		mu.Unlock()
		switch now {
		case 1: // breaks
			events(w, "data: "+ack+"\n\n")
			events(w, "data: "+event+"\n\n")
			panic(http.ErrAbortHandler)
		case 2: // a proxy without a controller
			w.WriteHeader(http.StatusBadGateway)
		case 3: // ends in order
			events(w, "data: "+ack+"\n\ndata: "+over+"\n\n")
		default:
			events(w, "data: "+ack+"\n\ndata: "+event+"\n\n")
			<-r.Context().Done()
		}
		return true
	}
	c := start(t, p.URL)
	c.send(modern(`{"jsonrpc":"2.0","id":"l","method":"subscriptions/listen","params":{"notifications":{}`))
	c.wants(ack, event)
	c.wants(missed...)
	c.wants(missed...)
	c.wants(event)
	began := time.Now()
	c.ends()
	if took := time.Since(began); took > lastAnswers/2 {
		t.Errorf("ended after %s: it waited for the subscription", took)
	}
}

func TestASubscriptionThatIsRefused(t *testing.T) {
	const refused = `{"jsonrpc":"2.0","id":"l","error":{"code":-32601,"message":"no"}}`
	p := newPeer(t, func(w http.ResponseWriter, _ *http.Request, _ *message) bool {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, refused)
		return true
	})
	c := start(t, p.URL)
	c.send(modern(`{"jsonrpc":"2.0","id":"l","method":"subscriptions/listen","params":{"notifications":{}`))
	c.wants(refused)
}
