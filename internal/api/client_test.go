package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// answer serves one fixed answer and keeps the request.
type answer struct {
	status int
	body   string
	header map[string]string

	path, method, sent, mediaType string
}

func (a *answer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	sent, _ := io.ReadAll(r.Body)
	a.path, a.method, a.sent, a.mediaType = r.URL.String(), r.Method, string(sent), r.Header.Get("Content-Type")
	for k, v := range a.header {
		w.Header().Set(k, v)
	}
	if a.status != 0 {
		w.WriteHeader(a.status)
	}
	fmt.Fprint(w, a.body)
}

func newTest(t *testing.T, a http.Handler) *Client {
	t.Helper()
	srv := httptest.NewServer(a)
	t.Cleanup(srv.Close)
	c, err := NewClient(strings.TrimPrefix(srv.URL, "http://"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Address() != srv.URL {
		t.Errorf("address %q, want %q", c.Address(), srv.URL)
	}
	return c
}

func TestReads(t *testing.T) {
	a := &answer{body: `{"servers":[{"name":"s","state":"READY"}],"replicas":[{"id":"r1","pid":7}],"nodes":[{"name":"n1"}],
		"tools":[{"name":"t","description":null,"input_schema":{"a":1.0}}],"unavailable":[{"server":"x","reason":"y"}]}`}
	c := newTest(t, a)
	if got, err := c.Servers(t.Context()); err != nil || len(got) != 1 || got[0].State != fleet.StateReady || a.path != "/api/v1/servers" {
		t.Errorf("Servers: %+v, %v, %s", got, err, a.path)
	}
	if got, err := c.Replicas(t.Context()); err != nil || len(got) != 1 || *got[0].PID != 7 || got[0].ContainerID != nil || a.path != "/api/v1/replicas" {
		t.Errorf("Replicas: %+v, %v, %s", got, err, a.path)
	}
	if got, err := c.Nodes(t.Context()); err != nil || len(got) != 1 || a.path != "/api/v1/nodes" {
		t.Errorf("Nodes: %+v, %v, %s", got, err, a.path)
	}
	a.body = strings.Replace(a.body, `"input_schema":`, `"_meta":{"n":1e400},"input_schema":`, 1)
	if got, err := c.Tools(t.Context(), ""); err != nil {
		t.Error(err)
	} else if again, err := json.Marshal(got.Tools[0]); err != nil || string(again) != `{"name":"t","description":null,"_meta":{"n":1e400},"input_schema":{"a":1.0}}` {
		t.Errorf("a tool encodes as %s, %v", again, err)
	}
	if got, err := c.Tools(t.Context(), ""); err != nil || string(got.Tools[0].InputSchema) != `{"a":1.0}` || got.Unavailable[0].Reason != "y" || a.path != "/tools" {
		t.Errorf("Tools: %+v, %v, %s", got, err, a.path)
	}
	if _, err := c.Tools(t.Context(), "s"); err != nil || a.path != "/s/tools" {
		t.Errorf("Tools(s): %v, %s", err, a.path)
	}
}

func TestReady(t *testing.T) {
	a := &answer{status: 503, body: `{"ready":false,"servers":[{"name":"s","reason":"pulling"}]}`}
	c := newTest(t, a)
	if got, err := c.Ready(t.Context()); err != nil || got.Ready || got.Servers[0].Reason != "pulling" {
		t.Errorf("not ready: %+v, %v", got, err)
	}
	a.status, a.body = 200, `{"ready":true,"servers":[]}`
	if got, err := c.Ready(t.Context()); err != nil || !got.Ready {
		t.Errorf("ready: %+v, %v", got, err)
	}
}

func TestCall(t *testing.T) {
	a := &answer{body: `{"result":{"content":[],"n":12345678901234567890.10}}`}
	c := newTest(t, a)
	got, err := c.Call(t.Context(), "s", CallRequest{ToolName: "t", ToolArgs: json.RawMessage(`{"n":1.50}`)})
	if err != nil || string(got) != `{"content":[],"n":12345678901234567890.10}` {
		t.Errorf("got %s, %v", got, err)
	}
	if a.method != "POST" || a.path != "/s/call" || a.sent != `{"tool_name":"t","tool_args":{"n":1.50}}` || a.mediaType != "application/json" {
		t.Errorf("sent %s %s %s as %s", a.method, a.path, a.sent, a.mediaType)
	}
	if _, err := c.Call(t.Context(), "", CallRequest{}); err != nil || a.path != "/call" || a.sent != `{"tool_args":{}}` {
		t.Errorf("sent %s %s, %v", a.path, a.sent, err)
	}
	if _, err := c.Call(t.Context(), "", CallRequest{ToolArgs: json.RawMessage(`{`)}); err == nil {
		t.Error("invalid arguments were sent")
	}
}

func TestErrors(t *testing.T) {
	a := &answer{status: 503, body: `{"detail":"busy","code":"overloaded","request_id":"r1"}`, header: map[string]string{"Retry-After": "7"}}
	c := newTest(t, a)
	_, err := c.Call(t.Context(), "", CallRequest{})
	var e *Error
	if !errors.As(err, &e) || e.Status != 503 || e.Code != CodeOverloaded || e.RequestID != "r1" || e.RetryAfter != 7*time.Second || err.Error() != "busy" {
		t.Errorf("got %+v", e)
	}
	a.status, a.body = 500, `{"detail":"Tool execution error","code":"tool_error","request_id":"r2","error":{"code":-32602,"message":"no city"}}`
	if _, err = c.Call(t.Context(), "", CallRequest{}); err == nil || err.Error() != "Tool execution error: no city (JSON-RPC error -32602)" {
		t.Errorf("got %v", err)
	}
	a.status, a.body, a.header = 502, "<html>proxy</html>", map[string]string{"X-Request-ID": "r3"}
	if _, err = c.Servers(t.Context()); !errors.As(err, &e) || e.Status != 502 || e.RequestID != "r3" || !strings.Contains(err.Error(), "proxy") {
		t.Errorf("got %v", err)
	}
	a.status, a.body = 200, "not JSON"
	if _, err = c.Servers(t.Context()); err == nil || errors.As(err, new(*Error)) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Servers(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestLogs(t *testing.T) {
	a := &answer{body: "one\ntwo\n"}
	c := newTest(t, a)
	var out bytes.Buffer
	if err := c.Logs(t.Context(), "s-1-ab", LogOptions{Tail: 5}, &out); err != nil || out.String() != a.body || a.path != "/api/v1/replicas/s-1-ab/logs?tail=5" {
		t.Errorf("got %q, %v, %s", &out, err, a.path)
	}
	a.status, a.body = 404, `{"detail":"unknown replica","code":"unknown_replica"}`
	if err := c.Logs(t.Context(), "x", LogOptions{}, &out); !errors.As(err, new(*Error)) || a.path != "/api/v1/replicas/x/logs" {
		t.Errorf("got %v, %s", err, a.path)
	}

	ctx, cancel := context.WithCancel(t.Context())
	c = newTest(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "follow=true" {
			t.Errorf("query %q", r.URL.RawQuery)
		}
		fmt.Fprintln(w, "one")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	got := writerFunc(func(p []byte) (int, error) {
		cancel() // the user has seen enough
		return len(p), nil
	})
	if err := c.Logs(ctx, "x", LogOptions{Follow: true}, got); err != nil {
		t.Errorf("followed until cancelled: %v", err)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestNewClient(t *testing.T) {
	for address, want := range map[string]string{
		"localhost:8000": "http://localhost:8000", "https://x/": "https://x", "http://x:1/base/": "http://x:1/base",
		"": "", "ftp://x": "", "http://": "", "http://x?y": "", "http://a b": "",
	} {
		c, err := NewClient(address, nil)
		if (err == nil) != (want != "") || err == nil && c.Address() != want {
			t.Errorf("NewClient(%q) = %v, %v; want %q", address, c, err, want)
		}
	}
}

func TestConvert(t *testing.T) {
	now := time.Date(2026, 11, 22, 13, 0, 0, 123456789, time.UTC)
	r := &fleet.Replica{ID: "r1", Server: "s", Phase: fleet.PhaseReady, PID: 7, ContainerID: "abc", CreatedAt: now, Load: fleet.Load{Ongoing: 2, Total: 9},
		Spare: true, ColdStart: fleet.ColdStart{Place: time.Second, Create: 120 * time.Millisecond}, Calls: fleet.CallCounts{OK: 8, IsError: 1, Latency: []uint64{2, 7}}, Usage: fleet.Usage{CPUs: 0.5, Memory: 7}}
	got, err := json.Marshal(ReplicaOf(r))
	want := `{"id":"r1","server":"s","revision":0,"node":"","phase":"READY","reason":"","unhealthy":false,"pid":7,"container_id":"abc","ongoing":2,"total_calls":9,"started_at":"2026-11-22T13:00:00.123456789Z","ready_at":null,` +
		`"spare":true,"cold_start":{"place":1,"pull":0,"create":0.12,"start":0,"handshake":0,"list":0},"calls":{"ok":8,"is_error":1,"error":0,"timed_out":0,"lost":0,"latency":[2,7]},"usage":{"cpus":0.5,"memory":7}}`
	if err != nil || string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	r.Session = "0123456789abcdef"
	if got := ReplicaOf(r); got.Session != "01234567" {
		t.Errorf("session %q is shown, want no more than tells it from others", got.Session)
	}
	r.Usage = fleet.Usage{}
	if got := ReplicaOf(r); got.Usage != nil {
		t.Errorf("an unknown usage is shown as %+v", *got.Usage)
	}
	r.Phase, r.EndedAt, r.Exit = fleet.PhaseFailed, now, &fleet.Exit{Code: -1, Signal: "SIGKILL", OOM: true}
	if got := ReplicaOf(r); got.PID != nil {
		t.Errorf("an ended replica has pid %d", *got.PID)
	}
	got, err = json.Marshal(EndedOf(r))
	want = `{"id":"r1","revision":0,"node":"","phase":"FAILED","reason":"","exit":{"code":-1,"signal":"SIGKILL","oom":true,"requested":false},"started_at":"2026-11-22T13:00:00.123456789Z","ready_at":null,"ended_at":"2026-11-22T13:00:00.123456789Z","log":[]}`
	if err != nil || string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestOutcome(t *testing.T) {
	for _, o := range outcomes {
		status, code := Outcome(fmt.Errorf("call: %w", o.err))
		if status != o.status || code != o.code {
			t.Errorf("%v: got %d %s, want %d %s", o.err, status, code, o.status, o.code)
		}
	}
	if status, code := Outcome(errors.New("other")); status != 500 || code != CodeInternal {
		t.Errorf("got %d %s", status, code)
	}
	// A deadline that lost a replica on the way is a deadline.
	if _, code := Outcome(errors.Join(fleet.ErrReplicaLost, fleet.ErrTimeout)); code != CodeTimeout {
		t.Errorf("got %s", code)
	}
}
