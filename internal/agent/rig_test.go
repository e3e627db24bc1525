package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const cluster = "c1"

var order = fleet.Order{Cluster: cluster, Epoch: 1}

// rig is an agent over the test runtime, with a controller's view of it.
type rig struct {
	*Agent
	t    testing.TB
	rt   *agenttest.Runtime
	view *view
	tell context.CancelFunc // tells Run to stop
	rush func()             // tells it to hurry
	stop func() error       // both, and returns its error
}

// newRig runs an agent until the test ends, and then sees that nothing is
// left.
func newRig(t testing.TB, rt *agenttest.Runtime, edit func(*Config)) *rig {
	t.Helper()
	cfg := Config{
		Node:      fleet.NodeInfo{Node: "n1", Life: "l1", Version: "test"},
		Runtime:   rt,
		Log:       testLog(t),
		StateFile: filepath.Join(t.TempDir(), "orders.json"),
	}
	hurry := make(chan struct{})
	cfg.Hurry = hurry
	if edit != nil {
		edit(&cfg)
	}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Agent: a, t: t, rt: rt, view: newView(), rush: sync.OnceFunc(func() { close(hurry) })}
	ctx, cancel := context.WithCancel(context.Background())
	r.tell = cancel
	var owned sync.WaitGroup
	var runErr error
	owned.Go(func() { runErr = a.Run(ctx) })
	owned.Go(func() {
		if err := a.Watch(context.Background(), order, r.view.take); err != nil {
			r.view.fail(err)
		}
	})
	r.stop = sync.OnceValue(func() error {
		cancel()
		r.rush()
		owned.Wait()
		return runErr
	})
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("Run ended with %v", err)
		}
		if left := rt.Alive(); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	return r
}

func testLog(t testing.TB) *slog.Logger {
	out := io.Discard
	if testing.Verbose() {
		out = t.Output()
	}
	return slog.New(slog.NewTextHandler(out, nil))
}

// start orders a replica of a server named like it.
func (r *rig) start(id fleet.ReplicaID, edit func(*fleet.Template)) {
	r.t.Helper()
	if _, err := r.StartReplica(r.t.Context(), order, assignment(id, edit)); err != nil {
		r.t.Fatal(err)
	}
}

func assignment(id fleet.ReplicaID, edit func(*fleet.Template)) fleet.Assignment {
	tpl := &fleet.Template{
		Command:      []string{"echo"},
		Health:       fleet.Health{Period: 10 * time.Second, Timeout: 5 * time.Second, Failures: 3},
		StartTimeout: 20 * time.Second,
		StopGrace:    2 * time.Second,
		DrainTimeout: 30 * time.Second,
	}
	if edit != nil {
		edit(tpl)
	}
	return fleet.Assignment{ID: id, Server: fleet.ServerName(id), Revision: 1, Template: tpl}
}

// legacy is an edit of a template whose server is not asked for its era.
func legacy(tpl *fleet.Template) { tpl.Era = fleet.EraLegacy }

func (r *rig) ready(id fleet.ReplicaID, edit func(*fleet.Template)) {
	r.t.Helper()
	r.start(id, edit)
	r.until(id, fleet.PhaseReady)
}

func (r *rig) order(id fleet.ReplicaID, reason string) {
	r.t.Helper()
	if _, err := r.StopReplica(r.t.Context(), order, id, reason); err != nil {
		r.t.Fatal(err)
	}
}

// until waits until the view shows the replica in the phase.
func (r *rig) until(id fleet.ReplicaID, want fleet.Phase) fleet.Replica {
	r.t.Helper()
	return r.view.until(r.t, string(id)+" is "+want.String(), func(v *view) (bool, any) {
		got := v.replicas[id]
		if got.Phase.Ended() && !want.Ended() {
			r.t.Fatalf("%s ended as %s: %s", id, got.Phase, got.Reason)
		}
		return got.Phase == want, got
	}).replicas[id]
}

// view merges the reports of a watch, as a controller does.
type view struct {
	mu         sync.Mutex
	changed    chan struct{} // closed and replaced with each report
	replicas   map[fleet.ReplicaID]fleet.Replica
	catalogues map[string]fleet.Catalogue
	phases     map[fleet.ReplicaID][]fleet.Phase
	reports    int
	last       fleet.Report
	err        error
}

func newView() *view {
	return &view{
		changed:    make(chan struct{}),
		replicas:   map[fleet.ReplicaID]fleet.Replica{},
		catalogues: map[string]fleet.Catalogue{},
		phases:     map[fleet.ReplicaID][]fleet.Phase{},
	}
}

func (v *view) take(rep fleet.Report) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if (v.reports == 0) != rep.Full || rep.Full != (rep.Node != nil) {
		v.err = fmt.Errorf("report %d: full %v, node %v", v.reports, rep.Full, rep.Node)
	}
	if rep.Version < v.last.Version {
		v.err = fmt.Errorf("version went from %d to %d", v.last.Version, rep.Version)
	}
	for _, c := range rep.Catalogues {
		if _, twice := v.catalogues[c.Hash]; twice {
			v.err = fmt.Errorf("catalogue %s sent twice", c.Hash)
		}
		v.catalogues[c.Hash] = c
	}
	for _, n := range rep.Replicas {
		old, known := v.replicas[n.ID]
		if known && old.Phase != n.Phase && !old.Phase.CanBecome(n.Phase) {
			v.err = fmt.Errorf("%s went from %s to %s", n.ID, old.Phase, n.Phase)
		}
		if _, has := v.catalogues[n.Catalogue]; n.Catalogue != "" && !has {
			v.err = fmt.Errorf("%s names catalogue %s, which was not sent", n.ID, n.Catalogue)
		}
		if !known || old.Phase != n.Phase {
			v.phases[n.ID] = append(v.phases[n.ID], n.Phase)
		}
		v.replicas[n.ID] = n
	}
	for _, id := range rep.Forgotten {
		delete(v.replicas, id)
	}
	v.reports++
	v.last = rep
	close(v.changed)
	v.changed = make(chan struct{})
	return v.err
}

func (v *view) fail(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.err = err
	close(v.changed)
	v.changed = make(chan struct{})
}

// snapshot copies what can then be read without the lock.
func (v *view) snapshot() *view {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.copied()
}

// copied needs the lock.
func (v *view) copied() *view {
	return &view{
		replicas: maps.Clone(v.replicas), catalogues: maps.Clone(v.catalogues),
		phases: maps.Clone(v.phases), reports: v.reports, last: v.last,
	}
}

// until waits for a condition, and fails the test with what it saw last.
func (v *view) until(t testing.TB, what string, cond func(*view) (bool, any)) *view {
	t.Helper()
	limit := time.NewTimer(10 * time.Minute) // of a bubble's clock
	defer limit.Stop()
	for {
		v.mu.Lock()
		now, changed, err := v.copied(), v.changed, v.err
		v.mu.Unlock()
		if err != nil {
			t.Fatalf("watch: %v", err)
		}
		ok, got := cond(now)
		if ok {
			return now
		}
		select {
		case <-changed:
		case <-limit.C:
			t.Fatalf("never saw that %s; last: %+v", what, got)
		}
	}
}

// caller collects the events of one call.
type caller struct {
	id       fleet.ReplicaID
	cancel   func(timeout bool)
	mu       sync.Mutex
	events   []fleet.CallEvent
	replied  chan struct{}
	released chan struct{}
}

func (r *rig) call(id fleet.ReplicaID, tool, args string) *caller {
	return r.send(fleet.CallRequest{
		Replica: id, Method: "tools/call",
		Params: fmt.Appendf(nil, `{"name":%q,"arguments":%s}`, tool, args),
		Trace:  fleet.Trace{RequestID: "request-" + tool, Traceparent: "00-" + tool},
	})
}

// ask sends any request.
func (r *rig) ask(id fleet.ReplicaID, method, params string) *caller {
	return r.send(fleet.CallRequest{Replica: id, Method: method, Params: []byte(params)})
}

func (r *rig) send(req fleet.CallRequest) *caller {
	c := &caller{id: req.Replica, replied: make(chan struct{}), released: make(chan struct{})}
	c.cancel = r.Call(req, func(e fleet.CallEvent) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.events = append(c.events, e)
		switch e.Kind {
		case fleet.CallReply:
			close(c.replied) // a second reply panics
		case fleet.CallReleased:
			close(c.released)
		case fleet.CallProgress, fleet.CallNotification:
		}
	})
	return c
}

// reply waits for the call's reply.
func (c *caller) reply(t testing.TB) fleet.CallEvent {
	t.Helper()
	select {
	case <-c.replied:
	case <-time.After(10 * time.Minute):
		t.Fatal("call was never answered")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.events, func(e fleet.CallEvent) bool { return e.Kind == fleet.CallReply })
	e := c.events[i]
	if e.Free != nil {
		e.Free()
	}
	if e.Err != nil && regexp.MustCompile(`replica `+string(c.id)+`\b`).MatchString(e.Err.Error()) {
		t.Errorf("%v: the router names the replica, too", e.Err)
	}
	return e
}

// text is the text of a call's result.
func (c *caller) text(t testing.TB) string {
	t.Helper()
	e := c.reply(t)
	var res struct {
		Content []struct{ Text string }
	}
	if e.Err != nil || json.Unmarshal(e.Result, &res) != nil || len(res.Content) == 0 {
		t.Fatalf("no text in the reply: %s %s %v", e.Result, e.Error, e.Err)
	}
	return res.Content[0].Text
}

func (c *caller) count(kind fleet.CallEventKind) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, e := range c.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

func contains(t testing.TB, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("got %q, which lacks %q", got, w)
		}
	}
}
