package mcphttp

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

func TestInitialize(t *testing.T) {
	for _, c := range []struct{ path, asked, got string }{
		{"/old/mcp", "2025-11-25", "2025-11-25"},
		{"/old/mcp", "2025-03-26", "2025-03-26"},
		{"/old/mcp", "1999-01-01", "2025-11-25"},
		{"/new/mcp", "2025-06-18", "2025-06-18"},
		{"/mcp", "2025-06-18", "2025-06-18"},
	} {
		w := newFixture().do("POST", c.path, fmt.Sprintf(`{"jsonrpc":"2.0","id":"a","method":"initialize","params":{"protocolVersion":%q,"capabilities":{}}}`, c.asked))
		want(t, w, 200, fmt.Sprintf(`{"jsonrpc":"2.0","id":"a","result":{"protocolVersion":%q,"capabilities":{"tools":{"listChanged":true},"logging":{},"resources":{"subscribe":true}},"serverInfo":{"name":"srv","version":"1"},"instructions":"be nice"}}`, c.got))
		if id := w.Header().Get("Mcp-Session-Id"); id == "" {
			t.Error("no session id")
		}
	}
}

func TestLegacyRequests(t *testing.T) {
	f := newFixture()
	id := f.open(t, "/old/mcp", "2025-11-25")
	for _, c := range []struct{ method, params, result string }{
		{"ping", ``, `{}`},
		{"tools/list", ``, `{"tools":[{"name":"echo"},{"name":"read"}]}`},
		{"tools/list", `,"params":{}`, `{"tools":[{"name":"echo"},{"name":"read"}]}`},
		{"prompts/list", ``, `{"prompts":[]}`},
		{"resources/list", ``, `{"resources":[]}`},
		{"resources/templates/list", ``, `{"resourceTemplates":[]}`},
		{"logging/setLevel", `,"params":{"level":"info"}`, `{}`},
		{"resources/subscribe", `,"params":{"uri":"x:/y"}`, `{}`},
		{"resources/unsubscribe", `,"params":{"uri":"x:/y"}`, `{}`},
		{"tools/call", `,"params":{"name":"echo","arguments":{"n":12345678901234567890},"_meta":{"a":1}}`, `{"name":"echo","arguments":{"n":12345678901234567890},"_meta":{"a":1}}`},
		{"x/strange", `,"params":{"q":1}`, `{"q":1}`},
		{"resources/read", `,"params":{"uri":"x:/y"}`, `{"uri":"x:/y"}`},
		{"completion/complete", `,"params":{"ref":{"type":"ref/prompt","name":"p"},"argument":{}}`, `{"ref":{"type":"ref/prompt","name":"p"},"argument":{}}`},
	} {
		w := f.do("POST", "/old/mcp", fmt.Sprintf(`{"jsonrpc":"2.0","id":7,"method":%q%s}`, c.method, c.params), "Mcp-Session-Id", id)
		want(t, w, 200, `{"jsonrpc":"2.0","id":7,"result":`+c.result+`}`)
		if got := w.Header().Get("Content-Type"); got != "application/json" {
			t.Errorf("%s: Content-Type %q", c.method, got)
		}
	}
}

func TestCallAtRoot(t *testing.T) {
	f := newFixture()
	id := f.open(t, "/mcp", "2025-11-25")
	w := f.do("POST", "/mcp", "{\"jsonrpc\":\"2.0\",\"id\":7,\n\"method\":\"tools/call\",\"params\":{\"arguments\":{\n}, \"name\":\"old__read\"}}", "Mcp-Session-Id", id, "X-Request-Id", "r1")
	want(t, w, 200, `{"jsonrpc":"2.0","id":7,"result":{"arguments":{ }, "name":"read"}}`)
	if c := f.router.last; c.Server != "old" || c.Tool != "read" || !c.Idempotent || c.Method != "tools/call" || c.Trace.RequestID != "r1" || c.Caller != fleet.Anonymous {
		t.Errorf("got %+v", c)
	}
	wantError(t, f.do("POST", "/mcp", `{"jsonrpc":"2.0","id":7,"method":"x/strange"}`, "Mcp-Session-Id", id), 200, "7", mcp.CodeMethodNotFound, "x/strange")
}

// A legacy client's request reaches a modern server with what its client said once.
func TestLegacyOverModern(t *testing.T) {
	f := newFixture()
	id := f.open(t, "/new/mcp", "2025-11-25")
	f.do("POST", "/new/mcp", `{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"info"}}`, "Mcp-Session-Id", id)
	w := f.do("POST", "/new/mcp", `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo"}}`, "Mcp-Session-Id", id)
	want(t, w, 200, `{"jsonrpc":"2.0","id":7,"result":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"cli","version":"2"},"io.modelcontextprotocol/clientCapabilities":{"roots":{}},"io.modelcontextprotocol/logLevel":"info"},"name":"echo"}}`)
	if c := f.router.last; c.Message == nil || !c.Logs || !c.Ask {
		t.Error("log messages of the call have no way to the client")
	}
	wantError(t, f.do("POST", "/new/mcp", `{"jsonrpc":"2.0","id":7,"method":"server/discover"}`, "Mcp-Session-Id", id), 200, "7", mcp.CodeMethodNotFound, "server/discover")
}

func TestSessions(t *testing.T) {
	f := newFixture()
	id, other := f.open(t, "/old/mcp", "2025-11-25"), f.open(t, "/old/mcp", "2025-11-25")
	ping := `{"jsonrpc":"2.0","id":7,"method":"ping"}`
	wantError(t, f.do("POST", "/old/mcp", ping), 400, "7", mcp.CodeInvalidRequest, "Mcp-Session-Id")
	wantError(t, f.do("POST", "/old/mcp", ping, "Mcp-Session-Id", "x"), 404, "7", codeSessionNotFound, "initialize again")
	wantError(t, f.do("POST", "/new/mcp", ping, "Mcp-Session-Id", id), 404, "7", codeSessionNotFound, "initialize again")
	if w := f.do("POST", "/old/mcp", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, "Mcp-Session-Id", id); w.Code != 202 || w.Body.Len() > 0 {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if w := f.do("POST", "/old/mcp", `{"jsonrpc":"2.0","id":3,"result":{}}`, "Mcp-Session-Id", id); w.Code != 202 {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if w := f.do("DELETE", "/old/mcp", "", "Mcp-Session-Id", id); w.Code != 204 {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	wantError(t, f.do("POST", "/old/mcp", ping, "Mcp-Session-Id", id), 404, "7", codeSessionNotFound, "")
	wantError(t, f.do("GET", "/old/mcp", "", "Mcp-Session-Id", id), 404, "", codeSessionNotFound, "")
	wantError(t, f.do("DELETE", "/old/mcp", "", "Mcp-Session-Id", id), 404, "", codeSessionNotFound, "")
	for _, method := range []string{"GET", "DELETE"} {
		w := f.do(method, "/old/mcp", "")
		wantError(t, w, 405, "", mcp.CodeInvalidRequest, "Mcp-Session-Id")
		if got := w.Header().Get("Allow"); got != "POST" {
			t.Errorf("Allow: %q", got)
		}
		w = f.do(method, "/old/mcp", "", "Mcp-Session-Id", other, "Mcp-Protocol-Version", "2026-07-28")
		wantError(t, w, 405, "", mcp.CodeInvalidRequest, "Mcp-Session-Id") // the modern era has no sessions
	}
	wantError(t, f.do("POST", "/none/mcp", ping), 404, "7", codeUnknownServer, "none")
}

func TestSessionForm(t *testing.T) {
	params := []byte(`{"protocolVersion":"2025-11-25","capabilities":{"x":[` + strings.Repeat("1,", 1000) + `1]}}`)
	s, err := newSession("g/all", "2025-06-18", params)
	if err != nil {
		t.Fatal(err)
	}
	sealed := s.encode()
	if len(sealed) > 300 {
		t.Errorf("%d bytes", len(sealed))
	}
	got, err := decodeSession(sealed)
	if err != nil || got.uid != s.uid || got.scope != "g/all" || got.version != "2025-06-18" || !got.created.Equal(s.created) {
		t.Errorf("got %+v, %v, want %+v", got, err, s)
	}
	if p, err := got.params(); err != nil || string(p) != string(params) {
		t.Errorf("got %s, %v", p, err)
	}
	for n := range 20 {
		_, _ = decodeSession(sealed[:n]) // does not panic
	}
}

func TestErrors(t *testing.T) {
	f := newFixture(func(c *web.Config) { c.MaxBody = 400 })
	id := f.open(t, "/old/mcp", "2025-11-25")
	call := `{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"name":"%s"}}`
	for _, c := range []struct {
		err    error
		status int
		code   mcp.Code
		name   string
	}{
		{fleet.ErrOverloaded, 503, codeOverloaded, "overloaded"},
		{fleet.ErrTimeout, 504, codeTimeout, "timeout"},
		{fleet.ErrWorkerLost, 502, codeReplicaLost, "replica_lost"},
		{fleet.ErrNoReplica, 503, codeNoReplica, "no_replica"},
		{fleet.ErrStopped, 503, codeStopped, "stopped"},
		{fleet.ErrRequestTooLarge, 413, codeTooLarge, "body_too_large"},
		{fleet.ErrBadReply, 502, codeBadReply, "bad_reply"},
		{fleet.ErrReplyTooLarge, 502, codeReplyTooLarge, "reply_too_large"},
		{fmt.Errorf("strange"), 500, mcp.CodeInternalError, "internal"},
	} {
		f.router.f = func(context.Context, fleet.Call) (fleet.CallResult, error) {
			return fleet.CallResult{}, fmt.Errorf("server: %w", c.err)
		}
		w := f.do("POST", "/old/mcp", fmt.Sprintf(call, "echo"), "Mcp-Session-Id", id, "X-Request-Id", "r9")
		data := wantError(t, w, c.status, `"c"`, c.code, "")
		if data["code"] != c.name || data["request_id"] != "r9" || (data["retry_after"] != nil) != (c.status == 503) {
			t.Errorf("%v: data %v", c.err, data)
		}
	}
	for _, c := range []struct {
		name, path, body string
		headers          []string
		status           int
		id               string
		code             mcp.Code
		says             string
	}{
		{"unknown tool", "/old/mcp", fmt.Sprintf(call, "ecko"), nil, 200, `"c"`, mcp.CodeInvalidParams, "unknown tool"},
		{"no name", "/old/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}`, nil, 200, `1`, mcp.CodeInvalidParams, "name"},
		{"cursor", "/old/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"x"}}`, nil, 200, `1`, mcp.CodeInvalidParams, "cursor"},
		{"no JSON", "/old/mcp", `{"jsonrpc":`, nil, 400, ``, mcp.CodeParseError, "Parse error"},
		{"no message", "/old/mcp", `{"id":5}`, nil, 400, `5`, mcp.CodeInvalidRequest, "jsonrpc"},
		{"too large", "/old/mcp", `{"jsonrpc":"2.0","id":1,"method":"` + strings.Repeat("x", 500) + `"}`, nil, 413, ``, codeTooLarge, "larger than"},
		{"media", "/old/mcp", `{}`, []string{"Content-Type", "text/plain"}, 415, ``, mcp.CodeInvalidRequest, "Content-Type"},
		{"origin", "/old/mcp", `{}`, []string{"Origin", "http://evil.example"}, 403, ``, codeForbidden, "evil"},
		{"accept", "/old/mcp", `{"jsonrpc":"2.0","id":1,"method":"ping"}`, []string{"Accept", "text/html"}, 406, `1`, mcp.CodeInvalidRequest, "Accept"},
		{"unknown server", "/none/mcp", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"x"}}`, nil, 404, `1`, codeUnknownServer, "none"},
		{"not known yet", "/young/mcp", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"x"}}`, nil, 503, `1`, codeCatalogueUnknown, "pulled"},
		{"batch", "/old/mcp", `[]`, nil, 400, ``, mcp.CodeInvalidRequest, "batch"},
		{"version", "/old/mcp", `{"jsonrpc":"2.0","id":1,"method":"ping"}`, []string{"MCP-Protocol-Version", "1999-01-01"}, 400, `1`, mcp.CodeUnsupportedVersion, "Unsupported protocol version"},
		{"no version", "/old/mcp", `{"jsonrpc":"2.0","id":1,"method":"ping"}`, []string{"MCP-Protocol-Version", "2026-07-28"}, 400, `1`, mcp.CodeInvalidParams, "_meta"},
		{"batch of the modern era", "/old/mcp", `[]`, []string{"MCP-Protocol-Version", "2026-07-28"}, 400, ``, mcp.CodeInvalidRequest, "the modern era has no batches"},
		{"batch that nobody accepts", "/old/mcp", `[]`, []string{"Accept", "text/html"}, 406, ``, mcp.CodeInvalidRequest, "Accept"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := f.do("POST", c.path, c.body, append([]string{"Mcp-Session-Id", id}, c.headers...)...)
			wantError(t, w, c.status, c.id, c.code, c.says)
		})
	}
	w := f.do("PUT", "/old/mcp", "")
	wantError(t, w, 405, "", mcp.CodeInvalidRequest, "PUT")
	f.router.full = fmt.Errorf("%w: too many", fleet.ErrOverloaded)
	wantError(t, f.do("POST", "/old/mcp", fmt.Sprintf(call, "echo"), "Mcp-Session-Id", id), 503, `"c"`, codeOverloaded, "")
}

// A server's own error passes as it is.
func TestServerError(t *testing.T) {
	f := newFixture()
	id := f.open(t, "/old/mcp", "2025-11-25")
	f.router.f = func(context.Context, fleet.Call) (fleet.CallResult, error) {
		return fleet.CallResult{Error: []byte(`{"code":-32601,"message":"no","data":{"x":1.0}}`)}, nil
	}
	w := f.do("POST", "/old/mcp", `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"p"}}`, "Mcp-Session-Id", id)
	want(t, w, 200, `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no","data":{"x":1.0}}}`)
}

func TestLargeResult(t *testing.T) {
	f := newFixture()
	id := f.open(t, "/old/mcp", "2025-11-25")
	large := `{"content":["` + strings.Repeat("x", 1<<20) + "\"\r\n]}"
	f.router.f = func(context.Context, fleet.Call) (fleet.CallResult, error) {
		return fleet.CallResult{Stream: io.NopCloser(strings.NewReader(large)), StreamSize: int64(len(large))}, nil
	}
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}`
	want(t, f.do("POST", "/old/mcp", body, "Mcp-Session-Id", id), 200, `{"jsonrpc":"2.0","id":1,"result":`+large+`}`)
	w := f.do("POST", "/old/mcp", body, "Mcp-Session-Id", id, "Accept", "text/event-stream")
	want(t, w, 200, "event: message\ndata: "+`{"jsonrpc":"2.0","id":1,"result":`+strings.NewReplacer("\r", " ", "\n", " ").Replace(large)+`}`)
}

func TestBatch(t *testing.T) {
	f := newFixture()
	id := f.open(t, "/old/mcp", "2025-03-26")
	w := f.do("POST", "/old/mcp", `[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"notifications/initialized"},
		{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"echo"}},{"jsonrpc":"2.0","id":3,"method":"initialize","params":{}}]`, "Mcp-Session-Id", id)
	want(t, w, 200, `[{"jsonrpc":"2.0","id":1,"result":{}},{"jsonrpc":"2.0","id":2,"result":{"name":"echo"}},{"jsonrpc":"2.0","id":3,"error":{"code":-32600,"message":"Invalid request: initialize must not be part of a batch"}}]`)
	w = f.do("POST", "/old/mcp", `[{"jsonrpc":"2.0","id":1,"method":"ping"},[]]`, "Mcp-Session-Id", id)
	want(t, w, 200, `[{"jsonrpc":"2.0","id":1,"result":{}},{"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid request: a batch inside a batch"}}]`)
	w = f.do("POST", "/old/mcp", `[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":2,"method":"ping"}]`, "Mcp-Session-Id", id, "Accept", "text/event-stream")
	want(t, w, 200, "event: message\ndata: "+`{"jsonrpc":"2.0","id":1,"result":{}}`+"\n\nevent: message\ndata: "+`{"jsonrpc":"2.0","id":2,"result":{}}`)
	if w := f.do("POST", "/old/mcp", `[{"jsonrpc":"2.0","method":"notifications/initialized"}]`, "Mcp-Session-Id", id); w.Code != http.StatusAccepted {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}
