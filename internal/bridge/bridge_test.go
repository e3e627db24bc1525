package bridge

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

const waitLimit = 20 * time.Second

// client is a client at the bridge, and the bridge.
type client struct {
	t    *testing.T
	in   *io.PipeWriter
	out  chan string
	done chan error
	stop context.CancelFunc
}

// start starts a bridge to the endpoints.
func start(t *testing.T, urls ...string) *client {
	t.Helper()
	inRead, inWrite := io.Pipe()
	outRead, outWrite := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	c := &client{t: t, in: inWrite, out: make(chan string, 1000), done: make(chan error, 1), stop: cancel}
	go func() {
		err := Run(ctx, Config{In: inRead, Out: outWrite, URLs: urls, Agent: "test", Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))})
		outWrite.Close()
		c.done <- err
	}()
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(c.out)
		lines := bufio.NewReader(outRead)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			c.out <- strings.TrimSuffix(line, "\n")
		}
	}()
	t.Cleanup(func() {
		inWrite.Close()
		cancel()
		<-read
	})
	return c
}

func (c *client) send(lines ...string) {
	c.t.Helper()
	for _, line := range lines {
		if _, err := io.WriteString(c.in, line+"\n"); err != nil {
			c.t.Fatal(err)
		}
	}
}

// next returns the next line for the client.
func (c *client) next() string {
	c.t.Helper()
	select {
	case line, ok := <-c.out:
		if !ok {
			c.t.Fatal("the bridge has ended")
		}
		return line
	case <-time.After(waitLimit):
		c.t.Fatal("nothing came")
		return ""
	}
}

func (c *client) wants(want ...string) {
	c.t.Helper()
	for _, w := range want {
		if got := c.next(); got != w {
			c.t.Errorf("got  %s\nwant %s", got, w)
		}
	}
}

// ends closes the input and waits for the end.
func (c *client) ends() {
	c.t.Helper()
	c.in.Close()
	select {
	case err := <-c.done:
		if err != nil {
			c.t.Errorf("the bridge ended with %v", err)
		}
	case <-time.After(waitLimit):
		c.t.Fatal("the bridge does not end")
	}
}

// peer is an MCP server that records its requests, and answers as the test says.
type peer struct {
	*httptest.Server
	t  *testing.T
	mu sync.Mutex
	// on handles a request. It returns false for the usual answer.
	on    func(w http.ResponseWriter, r *http.Request, m *message) bool
	seen  []string
	noted chan string
	lives int
}

const (
	hello    = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}`
	helloOK  = `{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"s","version":"1"}}}`
	welcomed = `{"jsonrpc":"2.0","method":"notifications/initialized"}`
)

func newPeer(t *testing.T, on func(w http.ResponseWriter, r *http.Request, m *message) bool) *peer {
	t.Helper()
	p := &peer{t: t, on: on, noted: make(chan string, 1000)}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

// Close ends the peer at once, with its streams.
func (p *peer) Close() {
	p.CloseClientConnections()
	p.Listener.Close()
	go p.Server.Close()
}

// ServeHTTP implements http.Handler. It notes a request as its method, session
// and version, and the message's method or kind.
func (p *peer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	m := &message{}
	if len(body) > 0 {
		if m, err = parse(body); err != nil {
			p.t.Errorf("not a message: %s", body)
		}
	}
	note := strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Method, r.Header.Get(headerSession), m.method))
	if m.method == "" && len(body) > 0 {
		note = "POST " + r.Header.Get(headerSession) + " " + m.env.Kind.String()
	}
	if last := r.Header.Get(headerLastEvent); last != "" {
		note += " after " + last
	}
	p.mu.Lock()
	p.seen = append(p.seen, note)
	p.mu.Unlock()
	p.noted <- note
	if p.on != nil && p.on(w, r, m) {
		return
	}
	switch {
	case r.Method != http.MethodPost:
		w.WriteHeader(http.StatusMethodNotAllowed)
	case m.method == mcp.MethodInitialize:
		p.mu.Lock()
		p.lives++
		w.Header().Set(headerSession, fmt.Sprintf("s%d", p.lives))
		p.mu.Unlock()
		reply(w, helloOK)
	case m.env.Kind == mcp.KindRequest:
		reply(w, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{}}`, m.env.ID))
	default:
		w.WriteHeader(http.StatusAccepted)
	}
}

func reply(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "application/json")
	io.WriteString(w, body)
}

// events sends events and flushes them.
func events(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/event-stream")
	io.WriteString(w, text)
	_ = http.NewResponseController(w).Flush()
}

// waits waits until the peer has got a request.
func (p *peer) waits(note string) {
	p.t.Helper()
	for {
		select {
		case got := <-p.noted:
			if got == note {
				return
			}
		case <-time.After(waitLimit):
			p.t.Fatalf("no request %q; got %q", note, p.all())
		}
	}
}

func (p *peer) all() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.seen...)
}

func (p *peer) count(note string) (n int) {
	for _, s := range p.all() {
		if s == note {
			n++
		}
	}
	return n
}

// open begins a session.
func (c *client) open(p *peer) {
	c.t.Helper()
	c.send(hello)
	c.wants(helloOK)
	c.send(welcomed)
	p.waits("POST s1 notifications/initialized")
}

const call7 = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t","arguments":{"n":9007199254740993}}}`

func TestSession(t *testing.T) {
	p := newPeer(t, func(w http.ResponseWriter, r *http.Request, m *message) bool {
		if r.Method == http.MethodPost && m.method != mcp.MethodInitialize && r.Header.Get(mcp.HeaderVersion) != "2025-11-25" {
			t.Errorf("%s with version %q", m.method, r.Header.Get(mcp.HeaderVersion))
		}
		if m.method == mcp.MethodToolsCall && string(m.line) != call7 {
			t.Errorf("got %s", m.line)
		}
		return false
	})
	c := start(t, p.URL)
	c.open(p)
	c.send(call7)
	c.wants(`{"jsonrpc":"2.0","id":7,"result":{}}`)
	p.waits("GET s1")
	c.ends()
	p.waits("DELETE s1")
	if got := p.count("GET s1"); got != 1 {
		t.Errorf("got %d requests for a stream, want 1: the server has none", got)
	}
}

func TestTheClientBeginsAnew(t *testing.T) {
	p := newPeer(t, nil)
	c := start(t, p.URL)
	c.open(p)
	c.send(hello, welcomed, call7)
	c.wants(helloOK, `{"jsonrpc":"2.0","id":7,"result":{}}`)
	p.waits("DELETE s1")
	c.ends()
	p.waits("DELETE s2")
	if n := p.count("POST s2 tools/call"); n != 1 {
		t.Errorf("got %q", p.all())
	}
}

func TestNotificationsComeBeforeLaterRequests(t *testing.T) {
	p := newPeer(t, func(_ http.ResponseWriter, _ *http.Request, m *message) bool {
		if m.method == mcp.MethodInitialized {
			time.Sleep(50 * time.Millisecond) // a slow server
		}
		return false
	})
	c := start(t, p.URL)
	c.send(hello, welcomed, call7) // a script does not wait for answers
	c.wants(helloOK, `{"jsonrpc":"2.0","id":7,"result":{}}`)
	p.waits("POST s1 notifications/initialized")
	p.waits("POST s1 tools/call")
}

func TestServerRequests(t *testing.T) {
	answered := make(chan string, 1)
	p := newPeer(t, func(w http.ResponseWriter, _ *http.Request, m *message) bool {
		switch {
		case m.method == mcp.MethodToolsCall:
			events(w, "data: {\"jsonrpc\":\"2.0\",\"id\":\"q\",\n"+`data: "method":"roots/list"}`+"\n\n")
			events(w, "data: "+<-answered+"\n\n")
		case m.env.Kind == mcp.KindResponse:
			answered <- fmt.Sprintf(`{"jsonrpc":"2.0","id":7,"result":%s}`, m.env.Result)
			return false
		default:
			return false
		}
		return true
	})
	c := start(t, p.URL)
	c.open(p)
	c.send(call7)
	c.wants(`{"jsonrpc":"2.0","id":"q", "method":"roots/list"}`)
	c.send(`{"jsonrpc":"2.0","id":"q","result":{"roots":[]}}`)
	c.wants(`{"jsonrpc":"2.0","id":7,"result":{"roots":[]}}`)
	p.waits("POST s1 response")
}

func TestTheInputsEnd(t *testing.T) {
	began, release := make(chan struct{}), make(chan struct{})
	p := newPeer(t, func(_ http.ResponseWriter, _ *http.Request, m *message) bool {
		if m.method == mcp.MethodToolsCall {
			close(began)
			<-release
		}
		return false
	})
	c := start(t, p.URL)
	c.send(hello)
	c.wants(helloOK)
	c.send(call7)
	<-began
	c.in.Close()
	close(release)
	c.wants(`{"jsonrpc":"2.0","id":7,"result":{}}`)
	c.ends()
	p.waits("DELETE s1")
}

func TestTheContextsEnd(t *testing.T) {
	p := newPeer(t, func(_ http.ResponseWriter, r *http.Request, m *message) bool {
		if m.method == mcp.MethodToolsCall {
			<-r.Context().Done()
		}
		return false
	})
	c := start(t, p.URL)
	c.send(hello)
	c.wants(helloOK)
	c.send(call7)
	p.waits("POST s1 tools/call")
	c.stop()
	if err := <-c.done; err != nil {
		t.Error(err)
	}
	p.waits("DELETE s1")
}

func TestBigMessages(t *testing.T) {
	big := strings.Repeat("x", 4<<20)
	p := newPeer(t, func(w http.ResponseWriter, _ *http.Request, m *message) bool {
		if m.env.Kind != mcp.KindRequest {
			return false
		}
		if m.method == "a/b" {
			reply(w, fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"result":%s}`, m.env.Params))
		} else {
			events(w, "data: "+fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"result":%s}`, m.env.Params)+"\n\n")
		}
		return true
	})
	c := start(t, p.URL)
	for _, method := range []string{"a/b", "a/c"} {
		c.send(`{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":{"x":"` + big + `"}}`)
		if got := c.next(); got != `{"jsonrpc":"2.0","id":1,"result":{"x":"`+big+`"}}` {
			t.Errorf("got %d bytes, %.100s", len(got), got)
		}
	}
}
