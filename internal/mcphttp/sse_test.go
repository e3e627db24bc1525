package mcphttp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// listener is a client of the HTTP+SSE transport.
type listener struct {
	t      *testing.T
	base   string // address of the controller that it sends to
	post   string // the path that it was told
	lastID string
	events *bufio.Scanner
	leave  func()
}

// listen opens a stream. Headers come in pairs.
func (f *fixture) listen(t *testing.T, path string, headers ...string) *listener {
	t.Helper()
	server := httptest.NewServer(f.handler)
	t.Cleanup(server.Close)
	return listenAt(t, server.URL, path, headers...)
}

func listenAt(t *testing.T, base, path string, headers ...string) *listener {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // an event that does not come ends the test
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" || res.Header.Get("X-Accel-Buffering") != "no" {
		t.Fatalf("got %d %v", res.StatusCode, res.Header)
	}
	l := &listener{t: t, base: base, leave: cancel, events: bufio.NewScanner(res.Body)}
	l.events.Buffer(nil, 1<<20)
	kind, data := l.next()
	if kind != "endpoint" || !strings.HasPrefix(data, path+"?stream=sse-") {
		t.Fatalf("got %s %q", kind, data)
	}
	l.post = data
	return l
}

// next returns the next event, and "" at the end.
func (l *listener) next() (kind, data string) {
	l.t.Helper()
	for l.events.Scan() {
		name, value, _ := strings.Cut(l.events.Text(), ": ")
		switch name {
		case "event":
			kind = value
		case "data":
			data = value
		case "id":
			l.lastID = value
		case "":
			if kind != "" || data != "" {
				return kind, data
			}
		}
	}
	return "", ""
}

// want reads the next event, which must be this message.
func (l *listener) want(message string) {
	l.t.Helper()
	if kind, data := l.next(); kind != "message" || data != message {
		l.t.Errorf("got %s %s\nwant message %s", kind, data, message)
	}
}

// send sends a message and returns status and body of the answer. Headers come in pairs.
func (l *listener) send(message string, headers ...string) (int, string) {
	l.t.Helper()
	r, err := http.NewRequestWithContext(l.t.Context(), http.MethodPost, l.base+l.post, strings.NewReader(message))
	if err != nil {
		l.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		l.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// take sends a message that is taken.
func (l *listener) take(message string, headers ...string) {
	l.t.Helper()
	if status, body := l.send(message, headers...); status != 202 || body != "" {
		l.t.Fatalf("%s: got %d %s", message, status, body)
	}
}

const beginning = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2024-11-05","capabilities":{"roots":{}},"clientInfo":{"name":"cli","version":"2"}}}`

// initialize begins the session.
func (l *listener) initialize() {
	l.t.Helper()
	l.take(beginning)
	if kind, data := l.next(); kind != "message" || !strings.HasPrefix(data, `{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2024-11-05",`) {
		l.t.Fatalf("got %s %s", kind, data)
	}
	l.take(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
}

func TestSSE(t *testing.T) {
	for _, path := range []string{"/old/sse", "/sse", "/new/sse"} {
		t.Run(path, func(t *testing.T) {
			f := newFixture()
			l := f.listen(t, path)
			l.take(`{"jsonrpc":"2.0","id":8,"method":"ping"}`)
			l.want(`{"jsonrpc":"2.0","id":8,"result":{}}`)
			l.take(`{"jsonrpc":"2.0","id":9,"method":"tools/list"}`)
			if _, data := l.next(); !strings.Contains(data, "begins with initialize") || !strings.HasPrefix(data, `{"jsonrpc":"2.0","id":9,"error"`) {
				t.Errorf("got %s", data)
			}
			if status, body := l.send(`{"jsonrpc":"2.0","method":"notifications/initialized"}`); status != 400 || !strings.Contains(body, "begins with initialize") {
				t.Errorf("got %d %s", status, body)
			}
			l.initialize()
			l.take(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
			l.want(`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"echo"},{"name":"read"}]}}`)
			tool := "echo"
			if path == "/sse" {
				tool = "old__echo"
			}
			l.take(fmt.Sprintf("{\"jsonrpc\":\"2.0\",\"id\":\"c\",\n\"method\":\"tools/call\",\"params\":{\"name\":%q,\r\n\"n\":12345678901234567890}}", tool), "X-Request-Id", "r1")
			if _, data := l.next(); !strings.Contains(data, `"id":"c"`) || !strings.Contains(data, `"n":12345678901234567890`) {
				t.Errorf("got %s", data)
			}
			f.router.mu.Lock()
			if c := f.router.last; c.Trace.RequestID != "r1" || c.Stream.ID == "" || c.Stream.Window != pipedWindow || c.Stream.Keep {
				t.Errorf("got %+v", c)
			}
			f.router.mu.Unlock()
			l.take(beginning)
			if _, data := l.next(); !strings.Contains(data, "begun already") {
				t.Errorf("got %s", data)
			}
			if status, body := l.send(`[]`); status != 400 || !strings.Contains(body, "no batches") {
				t.Errorf("got %d %s", status, body)
			}
			if status, body := l.send(`{"jsonrpc":"2.0","id":7,"method":`); status != 400 || !strings.Contains(body, "-32700") {
				t.Errorf("got %d %s", status, body)
			}
		})
	}
}

// Answers come in the order in which they are ready, with the messages of their calls
// before them. Only the answer to initialize has an id.
func TestSSECallsAtOnce(t *testing.T) {
	f := newFixture()
	l := f.listen(t, "/old/sse")
	l.initialize()
	id := l.lastID
	entered, release := make(chan struct{}), make(chan struct{})
	f.router.f = func(_ context.Context, c fleet.Call) (fleet.CallResult, error) {
		c.Sent("w1")
		c.Message(fleet.Message{Seq: 1, Kind: fleet.MessageNotification, Method: "notifications/progress", Params: []byte(`{"progressToken":"t","progress":1}`)})
		close(entered)
		<-release
		return fleet.CallResult{Stream: io.NopCloser(strings.NewReader("{\"large\":\n1}")), StreamSize: 12, Seq: 2}, nil
	}
	l.take(slowCall)
	<-entered
	l.want(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":1}}`)
	l.take(`{"jsonrpc":"2.0","id":2,"method":"ping"}`)
	l.want(`{"jsonrpc":"2.0","id":2,"result":{}}`)
	close(release)
	l.want(`{"jsonrpc":"2.0","id":"c","result":{"large": 1}}`)
	if l.lastID != id || id == "" {
		t.Errorf("the last id is %q, that of initialize was %q", l.lastID, id)
	}
}

func TestSSECancel(t *testing.T) {
	f := newFixture()
	l := f.listen(t, "/old/sse")
	l.initialize()
	entered, ended := make(chan struct{}, 1), make(chan error, 1)
	f.router.f = func(ctx context.Context, _ fleet.Call) (fleet.CallResult, error) {
		entered <- struct{}{}
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return fleet.CallResult{}, context.Cause(ctx)
	}
	l.take(slowCall)
	<-entered
	l.take(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"c"}}`)
	if err := <-ended; !errors.Is(err, errCancelled) {
		t.Errorf("got %v", err)
	}
	l.take(`{"jsonrpc":"2.0","id":2,"method":"ping"}`) // the cancelled request has no answer
	l.want(`{"jsonrpc":"2.0","id":2,"result":{}}`)
	l.take(slowCall) // the end of the stream cancels, too
	<-entered
	l.leave()
	if err := <-ended; !errors.Is(err, errCancelled) {
		t.Errorf("got %v", err)
	}
}

// A session survives the stream: a client that comes back, to any controller, need not
// initialize.
func TestSSEComesBack(t *testing.T) {
	f := newFixture()
	l := f.listen(t, "/old/sse")
	l.initialize()
	f.offers.change("old", "tools/list", `[]`)
	l.want(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
	l.leave()
	again := f.listen(t, "/old/sse", "Last-Event-Id", l.lastID)
	again.take(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
	again.want(`{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}`)
	other := f.listen(t, "/new/sse", "Last-Event-Id", l.lastID) // not a session of this endpoint
	other.initialize()
}

// A message that arrives at another controller goes to the one that has the stream.
func TestSSERelay(t *testing.T) {
	one, two := newFixture(), newFixture()
	two.front.cfg.Self = "c2"
	l := one.listen(t, "/old/sse")
	two.peers["c1"] = strings.TrimPrefix(l.base, "http://")
	server := httptest.NewServer(two.handler)
	defer server.Close()
	own := l.base
	l.base = server.URL
	l.initialize()
	l.take(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}`, "X-Request-Id", "r7", "X-Request-Timeout", "7s")
	l.want(`{"jsonrpc":"2.0","id":1,"result":{"name":"echo"}}`)
	one.router.mu.Lock()
	if c := one.router.last; c.Trace.RequestID != "r7" || c.Timeout != 7*time.Second {
		t.Errorf("got %+v", c)
	}
	one.router.mu.Unlock()
	if status, body := l.send(`{}`); status != 400 || !strings.Contains(body, "-32600") {
		t.Errorf("got %d %s", status, body)
	}
	two.peers["c1"] = "127.0.0.1:1"
	if status, body := l.send(`{"jsonrpc":"2.0","id":1,"method":"ping"}`); status != 503 || !strings.Contains(body, `"id":1,"error":{"code":-31013`) {
		t.Errorf("got %d %s", status, body)
	}
	delete(two.peers, "c1")
	if status, body := l.send(`{"jsonrpc":"2.0","id":1,"method":"ping"}`); status != 404 || !strings.Contains(body, `"id":1,"error":{"code":-31010`) {
		t.Errorf("got %d %s", status, body)
	}
	l.base, l.post = own, strings.Replace(l.post, "/old/", "/new/", 1)
	if status, _ := l.send(`{"jsonrpc":"2.0","id":1,"method":"ping"}`); status != 404 {
		t.Errorf("at another endpoint: got %d", status)
	}
}

// A server's own requests reach the client of its session, and the answers the server.
func TestSSEOwned(t *testing.T) {
	f := newFixture()
	l := f.listen(t, "/own/sse")
	l.take(beginning)
	if kind, data := l.next(); kind != "message" || !strings.HasPrefix(data, `{"jsonrpc":"2.0","id":0,"result":`) {
		t.Fatalf("got %s %s", kind, data)
	}
	f.router.f = func(_ context.Context, c fleet.Call) (fleet.CallResult, error) {
		c.Message(fleet.Message{Seq: 1, Kind: fleet.MessageRequest, ID: []byte("5"), Method: "roots/list"})
		return fleet.CallResult{Result: []byte(`{}`)}, nil
	}
	l.take(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}`)
	l.want(`{"jsonrpc":"2.0","id":5,"method":"roots/list"}`)
	l.want(`{"jsonrpc":"2.0","id":1,"result":{}}`)
	l.take(`{"jsonrpc":"2.0","id":5,"result":{"roots":[]}}`)
	f.kept.mu.Lock()
	defer f.kept.mu.Unlock()
	if len(f.kept.sent) != 1 || !strings.HasSuffix(f.kept.sent[0], ` {"jsonrpc":"2.0","id":5,"result":{"roots":[]}}`) {
		t.Errorf("got %q", f.kept.sent)
	}
}

// A controller that is told to stop ends a stream once its requests are answered.
func TestSSELeaving(t *testing.T) {
	f := newFixture()
	l := f.listen(t, "/old/sse")
	l.initialize()
	entered, release := make(chan struct{}), make(chan struct{})
	f.router.f = func(context.Context, fleet.Call) (fleet.CallResult, error) {
		close(entered)
		<-release
		return fleet.CallResult{Result: []byte(`{}`)}, nil
	}
	l.take(slowCall)
	<-entered
	close(f.leaving)
	close(release)
	l.want(`{"jsonrpc":"2.0","id":"c","result":{}}`)
	if kind, data := l.next(); kind != "" {
		t.Errorf("got %s %s", kind, data)
	}
}

func TestSSEBounds(t *testing.T) {
	f := newFixture()
	l := f.listen(t, "/old/sse")
	l.initialize()
	release := make(chan struct{})
	f.router.f = func(context.Context, fleet.Call) (fleet.CallResult, error) {
		<-release
		return fleet.CallResult{Result: []byte(`{}`)}, nil
	}
	for range maxPiped {
		l.take(slowCall)
	}
	if status, body := l.send(slowCall); status != 503 || !strings.Contains(body, `"id":"c","error":{"code":-31001`) {
		t.Errorf("got %d %s", status, body)
	}
	close(release)
	for range maxPiped {
		l.want(`{"jsonrpc":"2.0","id":"c","result":{}}`)
	}
	l.take(slowCall)
	l.want(`{"jsonrpc":"2.0","id":"c","result":{}}`)
	l.leave()
	for deadline := time.Now().Add(10 * time.Second); f.front.pipes.bytes.Load() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes are held", f.front.pipes.bytes.Load())
		}
	}
}

func TestSSERefused(t *testing.T) {
	f := newFixture()
	ping := `{"jsonrpc":"2.0","id":7,"method":"ping"}`
	w := f.do("POST", "/old/sse", ping)
	wantError(t, w, 405, "", mcp.CodeInvalidRequest, "GET")
	if got := w.Header().Get("Allow"); got != "GET, HEAD" {
		t.Errorf("Allow: %s", got)
	}
	wantError(t, f.do("POST", "/old/sse?stream=x", ping), 404, "7", codeSessionNotFound, "open another")
	wantError(t, f.do("POST", "/old/sse?stream=sse-00", ping), 404, "7", codeSessionNotFound, "open another")
	wantError(t, f.do("GET", "/none/sse", ""), 404, "", codeUnknownServer, "none")
	wantError(t, f.do("GET", "/old/sse", "", "Accept", "application/json"), 406, "", mcp.CodeInvalidRequest, "text/event-stream")
	if w := f.do("HEAD", "/old/sse", ""); w.Code != 200 || w.Header().Get("Content-Type") != "text/event-stream" {
		t.Errorf("HEAD: %d %v", w.Code, w.Header())
	}
	f.front.cfg.LegacySSE = false
	f.handler = web.NewMux(web.Config{AllowedHosts: []string{"*"}, Log: slog.New(slog.DiscardHandler)}, f.front.Routes()...)
	for _, method := range []string{"GET", "POST"} {
		for _, path := range []string{"/sse", "/old/sse", "/g/x/sse"} {
			wantError(t, f.do(method, path, ping), 404, "", mcp.CodeInvalidRequest, "--legacy-sse")
		}
	}
	if w := f.do("GET", "/nothing", ""); w.Code != 404 || strings.Contains(w.Body.String(), "sse") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}
