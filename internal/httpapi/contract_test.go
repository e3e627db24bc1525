package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// The errors of what clients send are a contract.
func TestBadRequests(t *testing.T) {
	const args = `{"tool_args":{}}`
	cases := []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		code, detail             string
	}{
		{"no args", "POST", "/call", `{}`, nil, 400, api.CodeBadRequest, "must include 'tool_args'"},
		{"null args", "POST", "/call", `{"tool_name":"echo","tool_args":null}`, nil, 400, api.CodeBadRequest, "must include 'tool_args'"},
		{"args array", "POST", "/call", `{"tool_args":[1]}`, nil, 400, api.CodeBadRequest, "'tool_args' must be an object, got array"},
		{"args string", "POST", "/call", `{"tool_args":"{}"}`, nil, 400, api.CodeBadRequest, "'tool_args' must be an object, got string"},
		{"name number", "POST", "/call", `{"tool_args":{},"tool_name":7}`, nil, 400, api.CodeBadRequest, "'tool_name' must be a string, got number"},
		{"body array", "POST", "/call", `[]`, nil, 400, api.CodeBadRequest, "the body must be an object, got array"},
		{"body null", "POST", "/call", `null`, nil, 400, api.CodeBadRequest, "got null"},
		{"no body", "POST", "/call", ``, nil, 400, api.CodeBadRequest, "line 1, column 1"},
		{"bad JSON", "POST", "/call", "{\n  \"tool_args\": {,}}", nil, 400, api.CodeBadRequest, "line 2, column 17"},
		{"bad JSON in args", "POST", "/call", `{"tool_args":{"a":01}}`, nil, 400, api.CodeBadRequest, "line 1, column 20"},
		{"bad UTF-8", "POST", "/call", "{\"tool_args\":{\"a\":\"\xff\"}}", nil, 400, api.CodeBadRequest, "UTF-8"},
		{"two values", "POST", "/call", args + args, nil, 400, api.CodeBadRequest, "text after the value"},
		{"no default tool", "POST", "/other/call", args, nil, 400, api.CodeBadRequest, `must include 'tool_name': server "other" has no default tool`},
		{"timeout word", "POST", "/call", args, []string{"X-Request-Timeout", "soon"}, 400, api.CodeBadRequest, "X-Request-Timeout"},
		{"timeout zero", "POST", "/call", args, []string{"X-Request-Timeout", "0"}, 400, api.CodeBadRequest, "more than 0"},
		{"timeout NaN", "POST", "/call", args, []string{"X-Request-Timeout", "NaN"}, 400, api.CodeBadRequest, "X-Request-Timeout"},

		{"unknown tool", "POST", "/call", `{"tool_name":"ecoh","tool_args":{}}`, nil, 404, api.CodeUnknownTool, `did you mean "echo"?`},
		{"empty tool name", "POST", "/call", `{"tool_name":"","tool_args":{}}`, nil, 404, api.CodeUnknownTool, `""`},
		{"unknown server", "POST", "/mian/call", args, nil, 404, api.CodeUnknownServer, `did you mean "main"?`},
		{"unknown server's tools", "GET", "/mian/tools", "", nil, 404, api.CodeUnknownServer, "mian"},
		{"unknown gateway", "POST", "/g/tema/call", args, nil, 404, api.CodeUnknownGateway, `did you mean "team"?`},
		{"unknown gateway's tools", "GET", "/g/tema/tools", "", nil, 404, api.CodeUnknownGateway, "tema"},
		{"unknown tool of a gateway", "POST", "/g/team/call", `{"tool_name":"ecoh","tool_args":{}}`, nil, 404, api.CodeUnknownTool, "echo"},
		{"young server", "POST", "/young/call", `{"tool_name":"x","tool_args":{}}`, nil, 503, api.CodeNoReplica, "pulled"},
		{"young server's tools", "GET", "/young/tools", "", nil, 503, api.CodeNoReplica, "pulled"},

		{"root", "GET", "/", "", nil, 404, api.CodeNotFound, "/tools"},
		{"no server", "POST", "//call", args, nil, 404, api.CodeNotFound, ""},
		{"later: mcp", "POST", "/mcp", args, nil, 404, api.CodeNotFound, ""},
		{"later: a server's mcp", "POST", "/main/mcp", args, nil, 404, api.CodeNotFound, ""},
		{"later: ui", "GET", "/ui", "", nil, 404, api.CodeNotFound, ""},
		{"later: openapi", "GET", "/openapi.json", "", nil, 404, api.CodeNotFound, ""},
		{"api is no server", "GET", "/api/tools", "", nil, 404, api.CodeNotFound, ""},
		{"deeper", "GET", "/main/tools/x", "", nil, 404, api.CodeNotFound, ""},
		{"escaped slash", "GET", "/ma%2Fin/tools", "", nil, 404, api.CodeNotFound, ""},
		{"one replica", "GET", "/api/v1/replicas/r1", "", nil, 404, api.CodeNotFound, ""},
		{"unknown replica", "GET", "/api/v1/replicas/r9/logs", "", nil, 404, api.CodeUnknownReplica, "r9"},
		{"tail word", "GET", "/api/v1/replicas/r9/logs?tail=x", "", nil, 400, api.CodeBadRequest, "tail"},
		{"tail 0", "GET", "/api/v1/replicas/r9/logs?tail=0", "", nil, 400, api.CodeBadRequest, "tail"},
		{"tail negative", "GET", "/api/v1/replicas/r9/logs?tail=-1", "", nil, 400, api.CodeBadRequest, "tail"},
		{"timestamps word", "GET", "/api/v1/replicas/r9/logs?timestamps=maybe", "", nil, 400, api.CodeBadRequest, "timestamps"},
		{"follow word", "GET", "/api/v1/replicas/r9/logs?follow=maybe", "", nil, 400, api.CodeBadRequest, "follow"},

		{"call by GET", "GET", "/call", "", nil, 405, api.CodeMethodNotAllowed, "GET"},
		{"server's call by PUT", "PUT", "/main/call", args, nil, 405, api.CodeMethodNotAllowed, "PUT"},
		{"tools by POST", "POST", "/tools", args, nil, 405, api.CodeMethodNotAllowed, "POST"},
		{"nodes by DELETE", "DELETE", "/api/v1/nodes", "", nil, 405, api.CodeMethodNotAllowed, "DELETE"},

		{"too large", "POST", "/call", strings.Repeat(" ", 1001), nil, 413, api.CodeTooLarge, "1000 bytes"},
		{"no type, no JSON", "POST", "/call", "tool_args=1", []string{"Content-Type", ""}, 400, api.CodeBadRequest, "line 1, column 2"},
		{"no type, no object", "POST", "/call", "[]", []string{"Content-Type", ""}, 400, api.CodeBadRequest, "got array"},
		{"a real form", "POST", "/main/call", "tool_args=1", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, api.CodeMediaType, "application/json; got"},
		{"empty form", "POST", "/call", "", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, api.CodeMediaType, "JSON object"},
		{"form, compressed", "POST", "/call", args, []string{"Content-Type", "application/x-www-form-urlencoded", "Content-Encoding", "gzip"}, 415, api.CodeMediaType, "gzip"},
		{"text", "POST", "/call", args, []string{"Content-Type", "text/plain"}, 415, api.CodeMediaType, "text/plain"},
		{"multipart", "POST", "/call", args, []string{"Content-Type", "multipart/form-data; boundary=x"}, 415, api.CodeMediaType, "multipart"},
		{"almost JSON", "POST", "/call", args, []string{"Content-Type", "application/jsonp"}, 415, api.CodeMediaType, "jsonp"},
		{"latin1", "POST", "/call", args, []string{"Content-Type", "application/json; charset=latin1"}, 415, api.CodeMediaType, "latin1"},
		{"broken type", "POST", "/call", args, []string{"Content-Type", "application/json; charset="}, 415, api.CodeMediaType, "application/json"},
		{"gzip", "POST", "/call", args, []string{"Content-Encoding", "gzip"}, 415, api.CodeMediaType, "gzip"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(func(c *config) { c.MaxBody = 1000 })
			f.router.f = func(context.Context, fleet.Call) (fleet.CallResult, error) {
				t.Error("the call was made")
				return fleet.CallResult{}, nil
			}
			w := f.do(tc.method, tc.path, tc.body, tc.headers...)
			wantError(t, w.Code, w.Header(), w.Body, tc.status, tc.code, tc.detail)
			want := map[string]string{"/call": "POST", "/main/call": "POST"}[tc.path]
			if want == "" {
				want = "GET, HEAD"
			}
			if got := w.Header().Get("Allow"); tc.status == 405 && got != want {
				t.Errorf("Allow %q, want %q", got, want)
			}
		})
	}
}

// curl and scripts send JSON under another Content-Type, or none.
func TestJSONWithoutItsType(t *testing.T) {
	for _, media := range []string{"", "application/x-www-form-urlencoded", "Application/X-WWW-Form-URLencoded; charset=UTF-8"} {
		for _, path := range []string{"/call", "/main/call"} {
			f := newFixture()
			w := f.do("POST", path, " \r\n"+`{"tool_name":"echo","tool_args":{"a":1}}`, "Content-Type", media)
			if w.Code != 200 || w.Body.String() != `{"result":{"name":"echo","arguments":{"a":1}}}` {
				t.Errorf("%s as %q: %d %s", path, media, w.Code, w.Body)
			}
		}
		f := newFixture()
		f.do("PUT", "/api/v1/servers/main", `{"image":"x"}`)
		if w := f.do("POST", "/api/v1/servers/main/scale", `{"replicas":2}`, "Content-Type", media); w.Code >= 300 || f.desired.st.Servers["main"].Replicas != 2 {
			t.Errorf("scale as %q: %d %s", media, w.Code, w.Body)
		}
		if w := f.do("POST", "/api/v1/servers/main/restart", "", "Content-Type", media); w.Code >= 300 {
			t.Errorf("restart as %q: %d %s", media, w.Code, w.Body)
		}
	}
	f := newFixture()
	w := f.do("POST", "/api/v1/servers/main/scale", `replicas=2`, "Content-Type", "application/x-www-form-urlencoded")
	wantError(t, w.Code, w.Header(), w.Body, 415, api.CodeMediaType, "must be a JSON object")
}

// This answer is fixed to the byte.
func TestMissingArgsToTheByte(t *testing.T) {
	w := newFixture().do("POST", "/call", `{"tool_name":"echo"}`, "X-Request-ID", "r-1")
	if got, want := w.Body.String(), `{"detail":"must include 'tool_args'","code":"bad_request","request_id":"r-1"}`+"\n"; w.Code != 400 || got != want {
		t.Errorf("got %d %s, want 400 %s", w.Code, got, want)
	}
}

type busyError struct{ error }

func (busyError) RetryAfter() time.Duration { return 2100 * time.Millisecond }
func (e busyError) Unwrap() error           { return e.error }

// The outcomes of a call are a contract.
func TestCallOutcomes(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("server \"main\": %w: told why", err) }
	cases := []struct {
		name         string
		err          error
		status       int
		code, detail string
		retryAfter   string
	}{
		{"timeout", wrap(fleet.ErrTimeout), 504, api.CodeTimeout, "told why", ""},
		{"replica lost", wrap(fleet.ErrReplicaLost), 502, api.CodeReplicaLost, "told why", ""},
		{"bad reply", wrap(fleet.ErrBadReply), 502, api.CodeBadReply, "told why", ""},
		{"large reply", wrap(fleet.ErrReplyTooLarge), 502, api.CodeBadReply, "told why", ""},
		{"no replica", wrap(fleet.ErrNoReplica), 503, api.CodeNoReplica, "told why", "1"},
		{"not delivered", wrap(fleet.ErrNotDelivered), 503, api.CodeNoReplica, "told why", "1"},
		{"overloaded", busyError{wrap(fleet.ErrOverloaded)}, 503, api.CodeOverloaded, "told why", "3"},
		{"overloaded worker", wrap(fleet.ErrOverloaded), 503, api.CodeOverloaded, "told why", "1"},
		{"stopped by hand", wrap(fleet.ErrStopped), 503, api.CodeStopped, "told why", "1"},
		{"gone in between", wrap(fleet.ErrUnknownServer), 404, api.CodeUnknownServer, "told why", ""},
		{"internal", errors.New("secret of ours"), 500, api.CodeInternal, "internal error", ""},
		{"stopping", context.Canceled, 502, api.CodeReplicaLost, "stopping", ""},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture()
			f.router.f = func(context.Context, fleet.Call) (fleet.CallResult, error) { return fleet.CallResult{}, tc.err }
			w := f.do("POST", "/call", `{"tool_args":{}}`)
			all := wantError(t, w.Code, w.Header(), w.Body, tc.status, tc.code, tc.detail)
			if got := w.Header().Get("Retry-After"); got != tc.retryAfter {
				t.Errorf("Retry-After %q, want %q", got, tc.retryAfter)
			}
			if len(all) != 3 {
				t.Errorf("keys %v", all)
			}
		})
	}
}

func TestToolError(t *testing.T) {
	f := newFixture()
	const rpc = `{"code":-32602,"message":"no <such> city","data":{"n":12345678901234567890.0}}`
	f.router.f = func(context.Context, fleet.Call) (fleet.CallResult, error) {
		return fleet.CallResult{Error: []byte(rpc)}, nil
	}
	w := f.do("POST", "/call", `{"tool_args":{}}`)
	all := wantError(t, w.Code, w.Header(), w.Body, 500, api.CodeToolError, "Tool execution error")
	if string(all["error"]) != rpc || string(all["detail"]) != `"Tool execution error"` {
		t.Errorf("got %s", all)
	}
}

// Results of modern servers pass as they are, too, but one that asks for input is none.
func TestResultsOfModernServers(t *testing.T) {
	f := newFixture()
	result := `{"resultType":"complete","content":[{"type":"text","text":"input_required"}], "_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}}}`
	f.router.f = func(context.Context, fleet.Call) (fleet.CallResult, error) {
		return fleet.CallResult{Result: []byte(result)}, nil
	}
	if w := f.do("POST", "/call", `{"tool_args":{}}`); w.Code != 200 || w.Body.String() != `{"result":`+result+`}` {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	result = `{"resultType":"input_required","requestState":"x"}`
	w := f.do("POST", "/call", `{"tool_args":{}}`)
	all := wantError(t, w.Code, w.Header(), w.Body, 500, api.CodeToolError, "Tool execution error")
	if rpc := string(all["error"]); !strings.Contains(rpc, "through /mcp") {
		t.Errorf("got %s", rpc)
	}
}

func TestCall(t *testing.T) {
	cases := []struct {
		name, path, body string
		want             fleet.Call
	}{
		{"bytes survive", "/call", `{"tool_name":"echo","tool_args":{"z":1,"a":12345678901234567890.10,"s":"\u00fc <&>"}}`,
			fleet.Call{Server: "main", Params: []byte(`{"name":"echo","arguments":{"z":1,"a":12345678901234567890.10,"s":"\u00fc <&>"}}`)}},
		{"default tool", "/call", `{"tool_args":{}}`, fleet.Call{Server: "main", Params: []byte(`{"name":"echo","arguments":{}}`)}},
		{"null name", "/main/call/", `{"tool_name":null,"tool_args":{}}`, fleet.Call{Server: "main", Params: []byte(`{"name":"echo","arguments":{}}`)}},
		{"at a gateway", "/g/team/call", `{"tool_args":{}}`, fleet.Call{Server: "main", Params: []byte(`{"name":"echo","arguments":{}}`)}},
		{"repeatable", "/other/call", `{"tool_name":"read","tool_args":{}}`, fleet.Call{Server: "other", Idempotent: true, Params: []byte(`{"name":"read","arguments":{}}`)}},
		{"one line", "/call", "{\"tool_args\":{\r\n\"a\":\n[1,\n2]}}", fleet.Call{Server: "main", Params: []byte(`{"name":"echo","arguments":{  "a": [1, 2]}}`)}},
		{"other keys", "/call", `{"x":1,"tool_args":{"a":1},"tool_name":"nope","tool_args":{"b":2},"tool_name":"echo"}`,
			fleet.Call{Server: "main", Params: []byte(`{"name":"echo","arguments":{"b":2}}`)}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture()
			w := f.do("POST", tc.path, tc.body, "Content-Type", "application/json; charset=UTF-8")
			got := f.router.last
			if got.Server != tc.want.Server || string(got.Params) != string(tc.want.Params) || got.Idempotent != tc.want.Idempotent || got.Method != "tools/call" {
				t.Errorf("got %+v %s, want %+v %s", got, got.Params, tc.want, tc.want.Params)
			}
			if want := `{"result":` + string(tc.want.Params) + `}`; w.Code != 200 || w.Body.String() != want || w.Header().Get("Content-Length") != fmt.Sprint(len(want)) {
				t.Errorf("got %d %s %v, want %s", w.Code, w.Body, w.Header(), want)
			}
		})
	}
}

func TestRequestHeaders(t *testing.T) {
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	cases := []struct {
		name    string
		headers []string
		id      string // "" for one that we made
		trace   string
		timeout time.Duration
	}{
		{"none", nil, "", "", 0},
		{"taken", []string{"X-Request-ID", "abc 1/2", "traceparent", trace, "X-Request-Timeout", "1m30s"}, "abc 1/2", trace, 90 * time.Second},
		{"seconds", []string{"X-Request-Timeout", "0.25"}, "", "", 250 * time.Millisecond},
		{"very long", []string{"X-Request-Timeout", "1e300"}, "", "", 1e9 * time.Second},
		{"unfit", []string{"X-Request-ID", "a\tb\u00fc", "traceparent", "x"}, "", "", 0},
		{"too long", []string{"X-Request-ID", strings.Repeat("x", 129), "traceparent", strings.Repeat("x", 257)}, "", "", 0},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture()
			w := f.do("POST", "/call", `{"tool_args":{}}`, tc.headers...)
			got, echoed := f.router.last, w.Header().Get("X-Request-ID")
			if got.Trace.RequestID != echoed || tc.id != "" && echoed != tc.id || tc.id == "" && len(echoed) != 32 {
				t.Errorf("id %q, echoed %q, want %q", got.Trace.RequestID, echoed, tc.id)
			}
			if got.Trace.Traceparent != tc.trace || got.Timeout != tc.timeout {
				t.Errorf("got %q and %v, want %q and %v", got.Trace.Traceparent, got.Timeout, tc.trace, tc.timeout)
			}
		})
	}
}

func TestReads(t *testing.T) {
	f := newFixture()
	f.state.servers = []api.Server{{Name: "main", State: fleet.StateReady, Spec: json.RawMessage(`{"env":{"K":"***"}}`), LastEnded: []api.Ended{{ID: "r0"}}}, {Name: "other"}}
	f.state.servers[1].Spec = json.RawMessage(`{}`)
	f.state.replicas = []api.Replica{{ID: "r1", Phase: "READY"}}
	f.state.nodes = []api.Node{{Name: "n1", Role: fleet.RoleWorker}}
	f.state.ready = api.Ready{Servers: []api.ServerReady{{Name: "main", Reason: "a <b>"}}}
	cases := []struct {
		path, want string
		status     int
	}{
		{"/tools", `{"tools":[{"name":"echo","server":""}]}`, 200},
		{"/main/tools", `{"tools":[{"name":"echo","server":"main"}]}`, 200},
		{"/g/team/tools", `{"tools":[{"name":"echo","server":"g/team"}]}`, 200},
		{"/tools/", `{"tools":`, 200},
		{"/healthz", `{"status":"ok"}`, 200},
		{"/readyz", `{"ready":false,"servers":[{"name":"main","state":"","reason":"a <b>","desired":0,"ready":0}]}`, 503},
		{"/api/v1/servers", `"spec":{"env":{"K":"***"}},"last_ended":[{"id":"r0"`, 200},
		{"/api/v1/servers", `"log":[]}]`, 200},
		{"/api/v1/servers", `"spec":{},"last_ended":[]`, 200},
		{"/api/v1/replicas", `{"replicas":[{"id":"r1",`, 200},
		{"/api/v1/replicas", `"phase":"READY","reason":"","unhealthy":false,"pid":null,"container_id":null,"ongoing":0,"total_calls":0,"started_at":null`, 200},
		{"/api/v1/nodes", `{"nodes":[{"name":"n1","role":"worker","pid":0,"zone":"","labels":{},`, 200},
		{"/metrics", `mcpfleet_http_requests_total{route="/tools",status="200"} 4`, 200},
	}
	for _, tc := range cases {
		for _, method := range []string{"GET", "HEAD"} {
			w := f.do(method, tc.path, "")
			if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.want) {
				t.Errorf("%s %s: got %d %s, want %d %s", method, tc.path, w.Code, w.Body, tc.status, tc.want)
			}
		}
	}
	f.state.servers, f.state.replicas, f.state.nodes, f.state.ready = nil, nil, nil, api.Ready{Ready: true}
	for path, want := range map[string]string{
		"/api/v1/servers": `{"servers":[],"default_server":"","etag":"1.0","index":1}`, "/api/v1/replicas": `{"replicas":[]}`, "/api/v1/nodes": `{"nodes":[]}`, "/readyz": `{"ready":true,"servers":[]}`,
	} {
		if w := f.do("GET", path, ""); w.Code != http.StatusOK || strings.TrimSpace(w.Body.String()) != want {
			t.Errorf("%s: got %d %s, want %s", path, w.Code, w.Body, want)
		}
	}
}

func FuzzParseCall(f *testing.F) {
	for _, s := range []string{`{"tool_name":"x","tool_args":{"a":[1,2]}}`, "{\n\"tool_args\":{}}", `{"tool_args":null}`, `[]`, `{"tool_\u0061rgs":{},"tool_name":null}`, `{"tool_args":{}}x`, "{\"tool_args\":{\"\r\":1}}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := parseCall(raw)
		var want map[string]json.RawMessage
		if json.Unmarshal(raw, &want) != nil || want == nil {
			if err == nil {
				t.Fatalf("parseCall(%q) took what is no object", raw)
			}
			return
		}
		if err != nil {
			if own := new(web.Error); !errors.As(err, &own) || own.Status != 400 {
				t.Fatalf("parseCall(%q): %v", raw, err)
			}
			return
		}
		if string(got.args) != string(want["tool_args"]) || got.args[0] != '{' {
			t.Fatalf("parseCall(%q): args %q, want %q", raw, got.args, want["tool_args"])
		}
		var name *string
		if json.Unmarshal(want["tool_name"], &name); (name == nil) != (got.name == nil) {
			t.Fatalf("parseCall(%q): name %v, want %v", raw, got.name, name)
		}
		line := mcp.OneLine(got.args)
		if strings.ContainsAny(string(line), "\r\n") || !json.Valid(line) {
			t.Fatalf("OneLine(%q) = %q", got.args, line)
		}
	})
}
