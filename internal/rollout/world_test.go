package rollout

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/notice"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// world has a server "s" whose revision 1 serves and whose revision 2 is being rolled
// out, and a Loop that watches it.
type world struct {
	*testing.T
	notice.Board
	loop *Loop
	stop func()
	// answer is what the new revision's replicas answer to calls.
	answer func(ctx context.Context, req fleet.CallRequest) (fleet.CallResult, error)

	mu       sync.Mutex
	state    *desired.State
	replicas map[fleet.ReplicaID]*fleet.Replica
	tools    map[string]*fleet.Catalogue
	refuse   error                               // of writes
	slow     func(desired.Command) time.Duration // how long a write takes; nil: no time
	called   []string
	events   []string
}

// worker is the worker of all replicas.
type worker struct {
	observe.Worker
	w *world
}

func (k worker) Call(ctx context.Context, req fleet.CallRequest, _ fleet.CallHooks) (fleet.CallResult, error) {
	k.w.mu.Lock()
	k.w.called = append(k.w.called, fmt.Sprintf("%s %s", req.Replica, req.Params))
	answer := k.w.answer
	k.w.mu.Unlock()
	return answer(ctx, req)
}

func (w *world) State() *desired.State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

func (w *world) Propose(_ context.Context, c desired.Command) (desired.Result, error) {
	w.mu.Lock()
	if slow := w.slow; slow != nil {
		w.mu.Unlock()
		time.Sleep(slow(c))
		w.mu.Lock()
	}
	defer w.mu.Unlock()
	if w.refuse != nil {
		return desired.Result{}, w.refuse
	}
	res := w.state.Apply(w.state.Applied+1, 1, desired.Entry{Time: time.Now(), Command: c})
	w.state = res.State
	for _, change := range res.Changes {
		w.events = append(w.events, strings.TrimSpace(fmt.Sprintf("%s %s", change.Kind, change.Reason)))
	}
	w.Post()
	return res, nil
}

func (w *world) Snapshot() *observe.Snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	snap := &observe.Snapshot{
		Replicas: make(map[fleet.ReplicaID]*fleet.Replica), Catalogues: w.tools,
		Nodes: map[fleet.NodeID]observe.Node{"n": {Connected: true, Worker: worker{w: w}}},
	}
	for id, r := range w.replicas {
		shown := *r
		snap.Replicas[id] = &shown
	}
	return snap
}

// do writes as a user or the reconciler would.
func (w *world) do(commands ...desired.Command) {
	w.Helper()
	for _, c := range commands {
		if res, _ := w.Propose(context.Background(), c); res.Err != nil {
			w.Fatal(res.Err)
		}
	}
}

func toolsOf(tools ...string) *fleet.Catalogue {
	c := &fleet.Catalogue{Hash: strings.Join(tools, " ")}
	for _, t := range tools {
		c.Tools = append(c.Tools, []byte(t))
	}
	return c
}

func newWorld(t *testing.T, update func(*fleet.Update)) *world {
	w := &world{
		T: t, state: &desired.State{}, replicas: make(map[fleet.ReplicaID]*fleet.Replica),
		tools:  map[string]*fleet.Catalogue{"same": toolsOf(`{"name":"ping"}`, `{"name":"old"}`), "fewer": toolsOf(`{"name":"ping"}`)},
		answer: func(context.Context, fleet.CallRequest) (fleet.CallResult, error) { return text("pong"), nil },
	}
	spec := fleet.Spec{Template: fleet.Template{Image: "a", Env: map[string]string{"KEY": "hunter2"}}, Replicas: 2, CallTimeout: 10 * time.Second}
	spec.ToolOverrides = map[string]fleet.ToolOverride{"old": {Rename: "older"}}
	policy := fleet.DefaultUpdate()
	if update != nil {
		update(&policy)
	}
	spec.Update = &policy
	w.do(desired.PutServer{Name: "s", Spec: spec}, desired.SetCatalogue{Name: "s", Revision: 1, Catalogue: w.tools["same"]},
		desired.EndRollout{Name: "s", Revision: 1})
	w.run("old1", 1, "same")
	w.run("old2", 1, "same")
	spec.Image = "b"
	w.do(desired.PutServer{Name: "s", Spec: spec})
	w.events = nil
	w.loop = New(Config{
		Desired: w, Observed: w, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Registry: prometheus.NewPedanticRegistry(),
		Record: func(kind fleet.EventKind, server fleet.ServerName, rev fleet.Revision, message string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, message)
		},
	})
	w.lead()
	return w
}

// lead begins a tenure, after the one before has ended.
func (w *world) lead() {
	if w.stop != nil {
		w.stop()
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := w.loop.Run(ctx); err != nil {
			w.Error(err)
		}
	})
	w.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	synctest.Wait()
}

// run has a replica serve.
func (w *world) run(id fleet.ReplicaID, rev fleet.Revision, catalogue string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.replicas[id] = &fleet.Replica{ID: id, Server: "s", Revision: rev, Node: "n", Phase: fleet.PhaseReady, ReadyAt: time.Now(), Catalogue: catalogue}
}

func (w *world) end(ids ...fleet.ReplicaID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		delete(w.replicas, id)
	}
}

// exit has a replica end.
func (w *world) exit(id fleet.ReplicaID, how fleet.Exit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := *w.replicas[id]
	r.Phase, r.Exit, r.EndedAt = fleet.PhaseFailed, &how, time.Now()
	w.replicas[id] = &r
}

// calls counts calls of a replica, ok ones and ones with isError.
func (w *world) calls(id fleet.ReplicaID, ok, failed uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.replicas[id].Calls.OK += ok
	w.replicas[id].Calls.IsError += failed
}

// rollout returns the rollout that is under way, nil if there is none.
func (w *world) rollout() *desired.Rollout { return w.State().Servers["s"].Rollout }

// wantFailed checks that revision 2 was rolled back.
func (w *world) wantFailed(unchecked bool, why string) {
	w.Helper()
	synctest.Wait()
	sv := w.State().Servers["s"]
	if f := sv.Failed; f == nil || sv.Revision != 1 || f.Revision != 2 || !f.Unfit || sv.Kept(2).Unchecked != unchecked || !strings.Contains(f.Reason, why) {
		w.Errorf("revision %d, failed %+v; want revision 2 rolled back: %s", sv.Revision, f, why)
	}
}

// wantTwoSteps waits through the two steps of a canary, of a minute each. It checks that
// the first does not pass early, and that both pass.
func (w *world) wantTwoSteps() {
	w.Helper()
	time.Sleep(59 * time.Second)
	if r := w.rollout(); r.Step != 0 {
		w.Errorf("rollout %+v before the step is over", r)
	}
	time.Sleep(time.Minute + 5*time.Second)
	if r := w.rollout(); r.Step != 2 {
		w.Errorf("rollout %+v, want it past the canary", r)
	}
}

// wantOutcome checks that one rollout has been counted.
func (w *world) wantOutcome(want outcome) {
	w.Helper()
	synctest.Wait()
	for _, o := range []outcome{rolledOut, failedChecks, servedWorse, noProgress, superseded} {
		n := 0.0
		if o == want {
			n = 1
		}
		if got := testutil.ToFloat64(w.loop.outcome.WithLabelValues(string(o))); got != n {
			w.Errorf("%v rollouts with outcome %s, want %v", got, o, n)
		}
	}
}

// saw reports whether there was an event with that text.
func (w *world) saw(text string) bool {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if strings.Contains(e, text) {
			return true
		}
	}
	return false
}

func text(s string) fleet.CallResult {
	return fleet.CallResult{Result: fmt.Appendf(nil, `{"content":[{"type":"text","text":%q}]}`, s)}
}

func verify(calls ...fleet.VerifyCall) func(*fleet.Update) {
	return func(u *fleet.Update) { u.Verify = calls }
}

var ping = fleet.VerifyCall{Tool: "ping", Args: []byte(`{"n":1}`), Expect: "pong"}

func canary(gate string, steps ...float64) func(*fleet.Update) {
	return func(u *fleet.Update) {
		u.Canary = &fleet.Canary{Steps: steps, Hold: time.Minute, Gate: gate}
	}
}

func hold(u *fleet.Update) { u.OnBreakingTools = fleet.BreakingHold }
