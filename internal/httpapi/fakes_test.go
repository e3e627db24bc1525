package httpapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
	"github.com/mcpfleet/mcpfleet/internal/leader"
	"github.com/mcpfleet/mcpfleet/internal/notice"
	"github.com/mcpfleet/mcpfleet/internal/web"
	"github.com/mcpfleet/mcpfleet/internal/web/webtest"
)

// offer is a catalogue of a default server "main" with the tools echo and
// "read", and a server "other" without a default tool.
type offer struct{}

func (offer) Tools(scope fleet.Scope) ([]byte, error) {
	switch scope {
	case "", "main", "other", "g/team":
		return fmt.Appendf(nil, `{"tools":[{"name":"echo","server":%q}]}`, scope), nil
	case "young":
		return nil, fmt.Errorf("%w: server \"young\": image is being pulled", fleet.ErrCatalogueUnknown)
	}
	if name := scope.Gateway(); name != "" {
		return nil, fmt.Errorf("%w %q; did you mean \"team\"?", fleet.ErrUnknownGateway, name)
	}
	return nil, fmt.Errorf("%w %q; did you mean \"main\"?", fleet.ErrUnknownServer, scope)
}

func (o offer) Resolve(scope fleet.Scope, tool string) (fleet.Tool, error) {
	if _, err := o.Tools(scope); err != nil {
		return fleet.Tool{}, err
	}
	server := cmp.Or(scope.Server(), "main")
	switch tool {
	case "echo":
		return fleet.Tool{Server: server, Name: "echo"}, nil
	case "read":
		return fleet.Tool{Server: server, Name: "read", ReadOnly: true}, nil
	}
	return fleet.Tool{}, fmt.Errorf("%w %.20q; did you mean \"echo\"?", fleet.ErrUnknownTool, tool)
}

func (o offer) Default(scope fleet.Scope) (fleet.Tool, error) {
	if scope == "other" {
		return fleet.Tool{}, fmt.Errorf("server %q has %w", scope, fleet.ErrNoDefaultTool)
	}
	return o.Resolve(scope, "echo")
}

func (offer) Subscribe() (<-chan struct{}, func()) { return nil, func() {} }

// routed is a router that runs a function and records the last call.
type routed struct {
	full error // of Admit
	last fleet.Call
	f    func(ctx context.Context, c fleet.Call) (fleet.CallResult, error)
}

func (r *routed) Admit(fleet.ServerName) error { return r.full }

func (r *routed) Call(ctx context.Context, c fleet.Call) (fleet.CallResult, error) {
	r.last = c
	if r.f == nil {
		return fleet.CallResult{Result: c.Params}, nil
	}
	return r.f(ctx, c)
}

func (r *routed) Await(context.Context, fleet.ServerName, time.Duration, time.Time) error {
	return errors.New("nothing is idle")
}

// state is a fixed fleet. It adds the desired servers to its own.
type state struct {
	servers  []api.Server
	replicas []api.Replica
	nodes    []api.Node
	ready    api.Ready
}

func (s *state) Servers(st *desired.State) []api.Server {
	out := slices.Clone(s.servers)
	for _, d := range st.List() {
		sv := st.Servers[d.Name]
		spec, _ := json.Marshal(fleetfile.View(&sv.Spec))
		out = append(out, api.Server{
			Name: d.Name, State: fleet.StateDeploying, Desired: sv.Replicas, Revision: sv.Revision, Generation: sv.Generation,
			Spec: spec, ETag: sv.ETag(st.Incarnation), Index: sv.Index,
		})
	}
	return out
}

func (s *state) Replicas() []api.Replica { return s.replicas }
func (s *state) Nodes() []api.Node       { return s.nodes }
func (s *state) Ready() api.Ready        { return s.ready }

type logsFunc func(ctx context.Context, id fleet.ReplicaID, tail int, follow bool, on func([]fleet.LogLine) error) error

func (f logsFunc) Logs(ctx context.Context, id fleet.ReplicaID, tail int, follow bool, on func([]fleet.LogLine) error) error {
	return f(ctx, id, tail, follow, on)
}

// wanted is desired state without raft. It applies proposals at once.
type wanted struct {
	notice.Board

	mu        sync.Mutex
	st        *desired.State
	role      role
	reads     int
	proposals int          // that were asked for
	proposed  int          // of those, that changed something or were refused
	problem   string       // what is wrong here
	stale     string       // why the state may be old
	onRead    func() error // before a read
	onPropose func() error // before a proposal is applied
}

// role says who leads: this controller, the one at an address, or nobody.
type role struct {
	self bool
	http string
	ok   bool
}

var (
	leads  = role{self: true, ok: true}
	nobody = role{}
)

func follows(address string) role { return role{http: address, ok: true} }

func newWanted() *wanted {
	return &wanted{role: leads, st: (*desired.State)(nil).Apply(1, 3, desired.Entry{
		Command: desired.BeginTenure{Controller: "c1", Name: "ctl1", Cluster: "abcd", Expect: 1},
	}).State}
}

func (d *wanted) State() *desired.State {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.st
}

func (d *wanted) become(r role) {
	d.mu.Lock()
	d.role = r
	d.mu.Unlock()
	d.Post()
}

// learn takes over the state of the leader, as a follower does.
func (d *wanted) learn(st *desired.State) {
	d.mu.Lock()
	d.st = st
	d.mu.Unlock()
	d.Post()
}

func (d *wanted) Problem() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.problem
}

func (d *wanted) Stale() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stale
}

// election is who leads as leader.Finder asks for it. This controller is "self",
// and every other "other".
type election struct{ *wanted }

func (e election) ID() fleet.ControllerID { return "self" }

func (e election) Leader() (fleet.ControllerID, fleet.Epoch, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.role.self {
		return "self", 1, true
	}
	return "other", 1, e.role.ok
}

func (e election) Members() []fleet.Member {
	e.mu.Lock()
	defer e.mu.Unlock()
	return []fleet.Member{{Controller: "other", HTTP: e.role.http}}
}

func (d *wanted) Read(context.Context) (*desired.State, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.role.self {
		return nil, fmt.Errorf("read: %w", fleet.ErrNotLeader)
	}
	d.reads++
	if d.onRead != nil {
		if err := d.onRead(); err != nil {
			return nil, err
		}
	}
	return d.st, nil
}

func (d *wanted) Propose(_ context.Context, c desired.Command) (desired.Result, error) {
	defer d.Post()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.role.self {
		return desired.Result{}, fmt.Errorf("propose: %w", fleet.ErrNotLeader)
	}
	d.proposals++
	if d.onPropose != nil {
		if err := d.onPropose(); err != nil {
			return desired.Result{}, err
		}
	}
	if !d.st.NeedsEntry(c) {
		return desired.Result{State: d.st, Warnings: d.st.DryRun(time.Now(), c).Warnings}, nil
	}
	d.proposed++
	res := d.st.DryRun(time.Now(), c)
	d.st = res.State
	return res, res.Err
}

// members are the controllers. It records what is done to them.
type members struct {
	err  error
	done []string
}

func (m *members) List(context.Context) (api.Controllers, error) {
	return api.Controllers{Cluster: "abcd", Controllers: []api.Controller{{Name: "ctl1", ID: "c1", Leader: true}}}, nil
}

func (m *members) Remove(_ context.Context, name string) error {
	m.done = append(m.done, "remove "+name)
	return m.err
}

func (m *members) Transfer(_ context.Context, name string) error {
	m.done = append(m.done, "transfer "+name)
	return m.err
}

type fixture struct {
	handler *web.Mux
	api     *API
	router  *routed
	state   *state
	desired *wanted
	events  *happened
	members *members
	woken   []fleet.ServerName
	stop    func()
	config  config
}

// config is the configuration of the API and of the mux that serves it.
type config struct {
	Config
	edge
}

type edge = web.Config

// happened is a log of events with the ids 3-1, 3-2 and so on. It keeps the newest.
type happened struct {
	notice.Board

	mu   sync.Mutex
	all  []api.Event
	keep int
}

func (l *happened) record(kind, server string) {
	l.mu.Lock()
	l.all = append(l.all, api.Event{ID: fmt.Sprintf("3-%d", len(l.all)+1), Kind: fleet.EventKind(kind), Server: fleet.ServerName(server), Message: kind + " of " + server})
	l.mu.Unlock()
	l.Post()
}

func (l *happened) Last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) == 0 {
		return ""
	}
	return l.all[len(l.all)-1].ID
}

func (l *happened) Since(id string) ([]api.Event, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := l.all[max(0, len(l.all)-l.keep):]
	if id == "" {
		return slices.Clone(kept), false
	}
	i := slices.IndexFunc(kept, func(e api.Event) bool { return e.ID == id })
	return slices.Clone(kept[i+1:]), i < 0
}

func newFixture(change ...func(*config)) *fixture {
	f := &fixture{router: &routed{}, state: &state{}, desired: newWanted(), events: &happened{keep: 100}, members: &members{}}
	reg := prometheus.NewPedanticRegistry()
	stopping := make(chan struct{})
	f.stop = sync.OnceFunc(func() { close(stopping) })
	f.config = config{edge: web.Config{AllowedHosts: []string{"*"}, Log: slog.New(slog.DiscardHandler), Registry: reg}, Config: Config{
		Self: "ctl1", Stopping: stopping,
		Catalogue: offer{}, Router: f.router, Fleet: f.state,
		Desired: f.desired, Leader: leader.New(election{f.desired}, election{f.desired}), Stale: f.desired.Stale, Events: f.events, Controllers: f.members,
		Wake: func(name fleet.ServerName) { f.woken = append(f.woken, name) },
		Preview: func(_ context.Context, st *desired.State) ([]api.PlannedAction, error) {
			var plan []api.PlannedAction
			for _, s := range st.List() {
				plan = append(plan, api.PlannedAction{Action: api.PlanStart, Server: s.Name, Revision: s.Revision, Reason: "wanted"})
			}
			return plan, nil
		},
		Backup: func(w io.Writer, st *desired.State) error {
			_, err := fmt.Fprintf(w, "backup at %d", st.Applied)
			return err
		},
		Gatherer: reg,
		Logs: logsFunc(func(context.Context, fleet.ReplicaID, int, bool, func([]fleet.LogLine) error) error {
			return fleet.ErrUnknownReplica
		}),
	}}
	for _, c := range change {
		c(&f.config)
	}
	f.build()
	return f
}

// build makes the handler, also after a change of the config.
func (f *fixture) build() {
	f.api = New(f.config.Config)
	f.handler = web.NewMux(f.config.edge, f.api.Routes()...)
}

// serve starts a real server, for what a recorder cannot show.
func (f *fixture) serve(t *testing.T, change ...func(*http.Server)) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(nil)
	server := web.NewServer(t.Context(), f.handler, f.config.Log)
	srv.Config, srv.Listener = server.Server, server.Listener(srv.Listener)
	for _, c := range change {
		c(srv.Config)
	}
	srv.Start()
	t.Cleanup(func() {
		f.stop()
		srv.Close()
		f.api.Close()
	})
	return srv
}

func (f *fixture) do(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if method == http.MethodPost || method == http.MethodPut {
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

var wantError = webtest.WantError
