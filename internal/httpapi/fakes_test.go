package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// offer is a catalogue of a default server "main" with the tools echo and
// "read", and a server "other" without a default tool.
type offer struct{}

func (offer) Tools(server fleet.ServerName) ([]byte, error) {
	switch server {
	case "", "main", "other":
		return fmt.Appendf(nil, `{"tools":[{"name":"echo","server":%q}]}`, server), nil
	case "young":
		return nil, fmt.Errorf("%w: server \"young\": image is being pulled", fleet.ErrCatalogueUnknown)
	}
	return nil, fmt.Errorf("%w %q; did you mean \"main\"?", fleet.ErrUnknownServer, server)
}

func (o offer) Resolve(server fleet.ServerName, tool string) (fleet.Tool, error) {
	if _, err := o.Tools(server); err != nil {
		return fleet.Tool{}, err
	}
	if server == "" {
		server = "main"
	}
	switch tool {
	case "echo":
		return fleet.Tool{Server: server, Name: "echo"}, nil
	case "read":
		return fleet.Tool{Server: server, Name: "read", ReadOnly: true}, nil
	}
	return fleet.Tool{}, fmt.Errorf("%w %.20q; did you mean \"echo\"?", fleet.ErrUnknownTool, tool)
}

func (o offer) Default(server fleet.ServerName) (fleet.Tool, error) {
	if server == "other" {
		return fleet.Tool{}, fmt.Errorf("server %q has %w", server, fleet.ErrNoDefaultTool)
	}
	return o.Resolve(server, "echo")
}

// routed is a router that runs a function, and remembers the last call.
type routed struct {
	last fleet.Call
	f    func(ctx context.Context, c fleet.Call) (fleet.CallResult, error)
}

func (r *routed) Call(ctx context.Context, c fleet.Call) (fleet.CallResult, error) {
	r.last = c
	if r.f == nil {
		return fleet.CallResult{Result: c.Params}, nil
	}
	return r.f(ctx, c)
}

// state is a fixed fleet.
type state struct {
	servers  []api.Server
	replicas []api.Replica
	nodes    []api.Node
	ready    api.Ready
}

func (s *state) Servers() []api.Server   { return s.servers }
func (s *state) Replicas() []api.Replica { return s.replicas }
func (s *state) Nodes() []api.Node       { return s.nodes }
func (s *state) Ready() api.Ready        { return s.ready }

type logsFunc func(ctx context.Context, id fleet.ReplicaID, tail int, follow bool, on func(fleet.LogLine)) error

func (f logsFunc) Logs(ctx context.Context, id fleet.ReplicaID, tail int, follow bool, on func(fleet.LogLine)) error {
	return f(ctx, id, tail, follow, on)
}

type fixture struct {
	handler *Handler
	router  *routed
	state   *state
	config  Config
}

func newFixture(change ...func(*Config)) *fixture {
	f := &fixture{router: &routed{}, state: &state{}}
	reg := prometheus.NewPedanticRegistry()
	f.config = Config{
		Catalogue: offer{}, Router: f.router, Fleet: f.state, Log: slog.New(slog.DiscardHandler),
		Registry: reg, Gatherer: reg,
		Logs: logsFunc(func(context.Context, fleet.ReplicaID, int, bool, func(fleet.LogLine)) error {
			return fleet.ErrUnknownReplica
		}),
	}
	for _, c := range change {
		c(&f.config)
	}
	f.handler = New(f.config)
	return f
}

// serve starts a real server, for what a recorder cannot show.
func (f *fixture) serve(t *testing.T, change ...func(*http.Server)) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = NewServer(t.Context(), f.handler, f.config.Log)
	for _, c := range change {
		c(srv.Config)
	}
	srv.Start()
	t.Cleanup(srv.Close)
	return srv
}

func (f *fixture) do(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Del(headers[i])
		if headers[i+1] != "" {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	return w
}

// wantError checks that an answer has the one form of all errors.
func wantError(t *testing.T, status int, header http.Header, body io.Reader, wantStatus int, wantCode, wantDetail string) map[string]json.RawMessage {
	t.Helper()
	raw, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]json.RawMessage
	var e api.Error
	if json.Unmarshal(raw, &all) != nil || json.Unmarshal(raw, &e) != nil {
		t.Fatalf("status %d, body %q is no JSON object", status, raw)
	}
	if status != wantStatus || e.Code != wantCode {
		t.Errorf("got %d %s (%s), want %d %s", status, e.Code, e.Detail, wantStatus, wantCode)
	}
	if !strings.Contains(e.Detail, wantDetail) || e.Detail == "" {
		t.Errorf("detail %q, want it to contain %q", e.Detail, wantDetail)
	}
	if e.RequestID == "" || e.RequestID != header.Get("X-Request-ID") {
		t.Errorf("request_id %q, header %q; want the same", e.RequestID, header.Get("X-Request-ID"))
	}
	if got := header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %q", got)
	}
	if (status == http.StatusServiceUnavailable) != (header.Get("Retry-After") != "") {
		t.Errorf("status %d with Retry-After %q", status, header.Get("Retry-After"))
	}
	return all
}
