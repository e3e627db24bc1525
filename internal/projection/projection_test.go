package projection

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/catalogue"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/notice"
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/reconcile"
	"github.com/mcpfleet/mcpfleet/internal/route"
)

// Once a rollout is over nothing is routed to replicas of another revision or
// of an earlier restart, even if they still serve.
func TestSuperseded(t *testing.T) {
	for _, tc := range []struct {
		name    string
		desired fleet.Server
		replica fleet.Replica
		want    bool
	}{
		{"wanted", fleet.Server{Revision: 2, Stable: 2}, fleet.Replica{Revision: 2}, false},
		{"of the revision before, rolling", fleet.Server{Revision: 2, Stable: 1, Rollout: &fleet.Rollout{}}, fleet.Replica{Revision: 1}, false},
		{"of the stable revision, which is kept up", fleet.Server{Revision: 2, Stable: 1}, fleet.Replica{Revision: 1}, false},
		{"of the revision before, over", fleet.Server{Revision: 2}, fleet.Replica{Revision: 1}, true},
		{"of a later revision, after a rollback", fleet.Server{Revision: 3, Stable: 3}, fleet.Replica{Revision: 2}, true},
		{"not restarted yet", fleet.Server{Revision: 2, Generation: 1, Rollout: &fleet.Rollout{}}, fleet.Replica{Revision: 2}, false},
		{"not restarted, over", fleet.Server{Revision: 2, Generation: 1}, fleet.Replica{Revision: 2}, true},
		{"restarted", fleet.Server{Revision: 2, Generation: 1}, fleet.Replica{Revision: 2, Generation: 1}, false},
	} {
		if got := superseded(&tc.desired, &tc.replica); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

// Replicas that list the same tools share one set, whatever else differs, and
// the set of a catalogue is made once.
func TestToolsAreShared(t *testing.T) {
	tool := func(name string) []byte { return []byte(`{"name":"` + name + `"}`) }
	snap := &observe.Snapshot{
		Replicas: map[fleet.ReplicaID]*fleet.Replica{
			"r1": {ID: "r1", Catalogue: "a"}, "r2": {ID: "r2", Catalogue: "b"}, "r3": {ID: "r3", Catalogue: "c"}, "r4": {ID: "r4", Catalogue: "none"},
		},
		Catalogues: map[string]*fleet.Catalogue{
			"a": {Tools: [][]byte{tool("x"), tool("y")}},
			"b": {Tools: [][]byte{tool("y"), tool("x")}, Instructions: "others"},
			"c": {Tools: [][]byte{tool("x")}},
		},
	}
	var known toolSets
	look := func() (out []route.Replica) {
		next := make(toolSets)
		for _, id := range []fleet.ReplicaID{"r1", "r2", "r3", "r4"} {
			out = append(out, route.Replica{ID: id, Tools: next.of(snap, out, id, known)})
		}
		known = next
		return out
	}
	got := look()
	if got[0].Tools != got[1].Tools || got[0].Tools == got[2].Tools || got[3].Tools != nil {
		t.Errorf("sets %v", got)
	}
	if !got[0].Tools.Has("y") || got[2].Tools.Has("y") {
		t.Error("the sets have other names than the catalogues")
	}
	for i, r := range look() {
		if r.Tools != got[i].Tools {
			t.Errorf("the set of %s was made again", r.ID)
		}
	}
}

// The router and the catalogue see the same server as stopped, whatever its spec
// says.
func TestStoppedIsTheTarget(t *testing.T) {
	for _, tt := range []struct {
		written int
		target  fleet.Target
		stopped bool
	}{
		{0, fleet.Target{}, true},
		{2, fleet.Target{By: fleet.ByScale}, true},
		{2, fleet.Target{Replicas: 2}, false},
		{0, fleet.Target{Replicas: 2, By: fleet.ByScale}, false},
	} {
		d := fleet.Server{Spec: fleet.Spec{Replicas: tt.written}, Target: tt.target}
		st := &reconcile.ServerStatus{}
		if r, c := routeOf(&d, st, nil, &observe.Snapshot{}), offerOf(&d, st, nil); r.Stopped != tt.stopped || c.Stopped != tt.stopped {
			t.Errorf("%d written, target %+v: stopped for the router %t, for the catalogue %t; want %t", tt.written, tt.target, r.Stopped, c.Stopped, tt.stopped)
		}
	}
}

// The router knows why nothing takes calls yet.
func TestPending(t *testing.T) {
	d := fleet.Server{Target: fleet.Target{Replicas: 1}}
	for _, tt := range []struct {
		status reconcile.ServerStatus
		want   string
	}{
		{reconcile.ServerStatus{State: fleet.StateDeploying, Reason: "1 pulling the image"}, "1 pulling the image"},
		{reconcile.ServerStatus{State: fleet.StateIdle, Reason: "a call starts it"}, ""},
		{reconcile.ServerStatus{State: fleet.StateUnavailable, Reason: "exit 3", StartFailed: true}, ""},
	} {
		if got := routeOf(&d, &tt.status, nil, &observe.Snapshot{}); got.Pending != tt.want {
			t.Errorf("%+v: pending %q, want %q", tt.status, got.Pending, tt.want)
		}
	}
	r := &fleet.Replica{ID: "r1", Node: "n1"}
	if got := routeOf(&d, &reconcile.ServerStatus{Reason: "1 of 2 ready"}, []*fleet.Replica{r}, serving()); got.Pending != "" {
		t.Errorf("pending %q beside a replica", got.Pending)
	}
}

// worker is a Worker that is never asked anything.
type worker struct {
	observe.Worker
	name string
}

// serving returns a snapshot of nodes n1, which is connected, and n2, which is
// not.
func serving(replicas ...fleet.Replica) *observe.Snapshot {
	s := &observe.Snapshot{
		Nodes: map[fleet.NodeID]observe.Node{
			"n1": {Connected: true, Worker: &worker{name: "n1"}, Info: fleet.NodeInfo{Zone: "z1"}}, "n2": {},
		},
		Replicas:   map[fleet.ReplicaID]*fleet.Replica{},
		Catalogues: map[string]*fleet.Catalogue{"seen": {Hash: "seen", Tools: [][]byte{[]byte(`{"name":"x"}`)}}},
	}
	for _, r := range replicas {
		r.Server, r.Phase, r.Catalogue = "s", fleet.PhaseReady, "seen"
		if r.Node == "" {
			r.Node = "n1"
		}
		if r.Exit != nil {
			r.Phase = fleet.PhaseDraining
		}
		s.Replicas[r.ID] = &r
	}
	return s
}

// Each session has the last replica that it got, whatever its revision. Spares that wait for
// a session, and replicas that are left over, take no calls.
func TestSessionsHaveOneReplicaEach(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	owned := func(id fleet.ReplicaID, session fleet.SessionID, since int) fleet.Replica {
		return fleet.Replica{ID: id, Revision: 1, Raw: true, Session: session, SessionAt: at(since)}
	}
	sv := desired.Server{Revision: 2, Revisions: []desired.Revision{{Number: 1}, {Number: 2}}}
	sv.Spec.Sessions = fleet.SessionsSession
	state := &desired.State{Servers: map[fleet.ServerName]*desired.Server{"s": &sv}}
	got := project(state, nil, serving(
		owned("r1", "a", 1), owned("r2", "a", 2), owned("r3", "b", 4), owned("r4", "b", 3), owned("r5", "", 0),
		fleet.Replica{ID: "r6", Revision: 2, Raw: true}, // READY as soon as its process runs, and nobody's
	), nil).routes[0]
	var routes []string
	for _, r := range got.Replicas {
		routes = append(routes, fmt.Sprintf("%s of %s", r.ID, r.Session))
	}
	if want := []string{"r2 of a", "r3 of b"}; !slices.Equal(routes, want) || !got.PerSession {
		t.Errorf("routes to %q, want %q; per session: %t", routes, want, got.PerSession)
	}
	if len(got.Apart) > 0 {
		t.Errorf("%+v take calls about tasks", got.Apart)
	}
}

// Replicas that take no calls any more still take those about their tasks. Spares have none.
func TestApart(t *testing.T) {
	sv := desired.Server{Revision: 2, Replicas: 1, Revisions: []desired.Revision{{Number: 1}, {Number: 2}}}
	state := &desired.State{Servers: map[fleet.ServerName]*desired.Server{"s": &sv}}
	snap := serving(
		fleet.Replica{ID: "r1", Revision: 1}, fleet.Replica{ID: "r2", Revision: 2}, fleet.Replica{ID: "r3", Revision: 2, Spare: true},
		fleet.Replica{ID: "r4", Revision: 2, Node: "n2"}, fleet.Replica{ID: "r5", Revision: 2}, fleet.Replica{ID: "r6", Revision: 2, Exit: &fleet.Exit{}},
	)
	snap.Replicas["r5"].Phase = fleet.PhaseDraining
	got := project(state, nil, snap, nil).routes[0]
	var apart []string
	for _, r := range got.Apart {
		apart = append(apart, fmt.Sprintf("%s %t", r.ID, r.Backend != nil))
	}
	if want := []string{"r1 true", "r4 false", "r5 true"}; !slices.Equal(apart, want) || len(got.Replicas) != 1 {
		t.Errorf("apart are %q, reachable or not, want %q; %d take all calls", apart, want, len(got.Replicas))
	}
}

// Replicas, status and target of a server decide what the router and the catalogue
// get.
func TestProject(t *testing.T) {
	kept := &fleet.Catalogue{Hash: "kept"}
	revisions := []desired.Revision{{Number: 1, Catalogue: kept}, {Number: 2}}
	killed := &fleet.Exit{Signal: "killed"}
	tried := func(change func(*desired.Server)) desired.Server {
		sv := desired.Server{Replicas: 1, Stable: 1, Rollout: &desired.Rollout{From: 1}}
		sv.Spec.Update = &fleet.Update{OnBreakingTools: fleet.BreakingHold, Canary: &fleet.Canary{Steps: []float64{5, 50}}}
		change(&sv)
		return sv
	}
	both := []fleet.Replica{{ID: "r1", Revision: 1}, {ID: "r2", Revision: 2}}
	failed := func(f fleet.FailedRevision) desired.Server {
		f.Revision = 3
		return desired.Server{Replicas: 1, Stable: 2, Rollout: &desired.Rollout{From: 3}, Failed: &f}
	}
	unchecked := desired.Server{Replicas: 1, Stable: 2, Rollout: &desired.Rollout{From: 2}, Revisions: []desired.Revision{{Number: 3, Unchecked: true}}}
	undone := desired.Server{Replicas: 1, Stable: 1, Rollout: &desired.Rollout{From: 1, Checked: true}, Revisions: []desired.Revision{{Number: 3, Catalogue: &fleet.Catalogue{Hash: "undone"}}}}
	later := []fleet.Replica{{ID: "r2", Revision: 2}, {ID: "r3", Revision: 3}}
	toZero := fleet.Spec{Autoscaling: &fleet.Autoscaling{}}
	toOne := fleet.Spec{Autoscaling: &fleet.Autoscaling{MinReplicas: 1}}
	for _, tt := range []struct {
		name     string
		server   desired.Server
		status   *reconcile.ServerStatus
		replicas []fleet.Replica
		routes   string // replicas, then what else there is to say
		offers   string // revision and catalogue
	}{
		{"ready", desired.Server{Replicas: 1}, &reconcile.ServerStatus{}, []fleet.Replica{{ID: "r1", Revision: 2}}, "r1", "2 seen"},
		{"just deployed", desired.Server{Replicas: 1}, nil, nil, "", "2 kept"},
		{"its node is not connected", desired.Server{Replicas: 1}, nil, []fleet.Replica{{ID: "r1", Revision: 2, Node: "n2"}}, "", "2 kept"},
		{"unhealthy", desired.Server{Replicas: 2}, nil, []fleet.Replica{{ID: "r1", Revision: 2, Unhealthy: true}, {ID: "r2", Revision: 2}}, "r2", "2 seen, 2 seen"},
		{"rolling", desired.Server{Replicas: 1, Rollout: &desired.Rollout{}}, nil, []fleet.Replica{{ID: "r1", Revision: 1}}, "r1", "1 seen"},
		{"superseded", desired.Server{Replicas: 1}, nil, []fleet.Replica{{ID: "r1", Revision: 1}}, "", "2 kept"},
		{"of a revision not heard of", desired.Server{Replicas: 1}, nil, []fleet.Replica{{ID: "r1", Revision: 3}}, "r1", "3 seen"},
		{"of a revision not heard of, and a known one", desired.Server{Replicas: 1}, nil, []fleet.Replica{{ID: "r1", Revision: 3}, {ID: "r2", Revision: 2}}, "r2", "2 seen"},
		{"not checked", tried(func(*desired.Server) {}), nil, both, "r1, 5% canary", "1 seen"},
		{"not checked, alone", tried(func(*desired.Server) {}), nil, both[1:], "5% canary", "2 kept"},
		{"checked", tried(func(sv *desired.Server) { sv.Rollout.Checked = true }), nil, both, "r1, r2 canary, 5% canary", "1 seen"},
		{"only the new revision serves", tried(func(sv *desired.Server) { sv.Rollout.Checked = true }), nil, both[1:], "r2 canary, 5% canary", "2 seen"},
		{"next step", tried(func(sv *desired.Server) { sv.Rollout.Checked, sv.Rollout.Step = true, 1 }), nil, both, "r1, r2 canary, 50% canary", "1 seen"},
		{"past the canary", tried(func(sv *desired.Server) { sv.Rollout.Checked, sv.Rollout.Step = true, 2 }), nil, both, "r1, r2", "1 seen, 2 seen"},
		{"rolled back for want of progress", failed(fleet.FailedRevision{}), nil, later, "r2, r3", "2 seen, 3 seen"},
		{"rolled back as worse", failed(fleet.FailedRevision{Unfit: true}), nil, later, "r2", "2 seen"},
		{"rolled back as worse, and nothing else serves", failed(fleet.FailedRevision{Unfit: true}), nil, later[1:], "r3", "3 seen"},
		{"given up unchecked", unchecked, nil, later, "r2", "2 seen"},
		{"given up unchecked, and nothing else serves", unchecked, nil, later[1:], "", "2 kept"},
		{"not started yet, after one that was given up", undone, nil, nil, "", "2 kept"},
		{"stopped", desired.Server{}, nil, []fleet.Replica{{ID: "r1", Revision: 2}}, "stopped", "2 seen, stopped"},
		{"cannot start", desired.Server{Replicas: 1}, &reconcile.ServerStatus{StartFailed: true, Reason: "exit 3"}, nil, "down: exit 3", "2 kept, failed: exit 3"},
		{"resting", desired.Server{Replicas: 1}, &reconcile.ServerStatus{Resting: true}, nil, "resting", "2 kept"},
		{"idle", desired.Server{Spec: toZero}, &reconcile.ServerStatus{}, nil, "", "2 kept, wakes"},
		{"woken", desired.Server{Spec: toZero, Replicas: 1}, &reconcile.ServerStatus{}, nil, "", "2 kept, wakes"},
		{"idle by a schedule", desired.Server{Spec: toOne}, &reconcile.ServerStatus{}, nil, "", "2 kept, wakes"},
		{"scales, and not to zero", desired.Server{Spec: toOne, Replicas: 1}, &reconcile.ServerStatus{}, nil, "", "2 kept"},
		{"going idle", desired.Server{Spec: toZero}, &reconcile.ServerStatus{}, []fleet.Replica{{ID: "r1", Revision: 2}}, "r1", "2 seen, wakes"},
		{"a spare", desired.Server{Spec: toZero}, &reconcile.ServerStatus{}, []fleet.Replica{{ID: "r1", Revision: 2, Spare: true}}, "", "2 seen, wakes"},
		{"a spare of an earlier revision", desired.Server{Replicas: 1}, nil, []fleet.Replica{{ID: "r1", Revision: 1, Spare: true}, {ID: "r2", Revision: 2}}, "r2", "2 seen"},
		{"ending", desired.Server{Replicas: 1}, nil, []fleet.Replica{{ID: "r1", Revision: 2, Exit: killed}}, "r1 ended", "2 kept"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sv := tt.server
			sv.Revision, sv.Revisions = 2, append(slices.Clip(revisions), sv.Revisions...)
			if sv.Failed != nil {
				sv.Revisions = append(sv.Revisions, desired.Revision{Number: sv.Failed.Revision})
			}
			status := map[fleet.ServerName]*reconcile.ServerStatus{}
			if tt.status != nil {
				status["s"] = tt.status
			}
			state := &desired.State{Servers: map[fleet.ServerName]*desired.Server{"s": &sv}}
			got := project(state, status, serving(tt.replicas...), nil)
			if routes := describeRoute(&got.routes[0]); routes != tt.routes {
				t.Errorf("route %q, want %q", routes, tt.routes)
			}
			if offers := describeOffers(&got.offered.Servers[0]); offers != tt.offers {
				t.Errorf("offers %q, want %q", offers, tt.offers)
			}
			if got.offered.Default != "s" {
				t.Errorf("default server %q", got.offered.Default)
			}
			if got.offered.Lookup("seen") == nil || strings.Contains(tt.offers, "kept") != (got.offered.Lookup("kept") == kept) {
				t.Error("a catalogue is not found, or one that nobody offers is")
			}
		})
	}
}

func describeRoute(s *route.Server) string {
	var parts []string
	for _, r := range s.Replicas {
		if r.Zone != "z1" || r.Backend.(*worker).name != "n1" || r.Tools == nil {
			parts = append(parts, "not as its node is:")
		}
		parts = append(parts, string(r.ID)+map[bool]string{true: " canary"}[r.Canary])
	}
	if s.Canary != nil {
		parts = append(parts, fmt.Sprintf("%g%% canary", s.Canary.Percent))
	}
	for _, e := range s.Ends {
		parts = append(parts, string(e.ID)+" ended")
	}
	if s.Stopped {
		parts = append(parts, "stopped")
	}
	if s.Down != "" {
		parts = append(parts, "down: "+s.Down)
	}
	if s.Resting {
		parts = append(parts, "resting")
	}
	return strings.Join(parts, ", ")
}

func describeOffers(s *catalogue.Server) string {
	var parts []string
	for _, o := range s.Offers {
		parts = append(parts, fmt.Sprintf("%d %s", o.Revision, o.Hash))
	}
	if s.Stopped {
		parts = append(parts, "stopped")
	}
	if s.Failed {
		parts = append(parts, "failed: "+s.Reason)
	}
	if s.Wakes {
		parts = append(parts, "wakes")
	}
	return strings.Join(parts, ", ")
}

// world is all that a Publisher reads, and all that it updates.
type world struct {
	notice.Board
	state  *desired.State
	status []reconcile.ServerStatus
	snap   *observe.Snapshot

	mu      sync.Mutex
	updated []string
}

func (w *world) State() *desired.State            { return w.state }
func (w *world) Status() []reconcile.ServerStatus { return w.status }
func (w *world) Snapshot() *observe.Snapshot      { return w.snap }
func (w *world) Shape() uint64                    { return w.snap.Shape }

func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.updated = append(w.updated, fmt.Sprintf(format, args...))
}

type routerOf struct{ *world }

func (r routerOf) Update(servers []route.Server) { r.note("router %d", len(servers)) }

type catalogueOf struct{ *world }

func (c catalogueOf) Update(v catalogue.Source) { c.note("catalogue %d", len(v.Servers)) }

type viewOf struct{ *world }

func (v viewOf) Publish(status map[fleet.ServerName]*reconcile.ServerStatus, snap *observe.Snapshot) {
	v.note("view %s %d", slices.Collect(maps.Keys(status)), snap.Seq)
}

// A Publisher publishes before its first Run, and after each change, the view
// last.
func TestPublisher(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &world{
			state:  &desired.State{Servers: map[fleet.ServerName]*desired.Server{"s": {}}},
			status: []reconcile.ServerStatus{{Name: "s"}}, snap: &observe.Snapshot{Seq: 1},
		}
		p := New(Config{Desired: w, Observed: w, Decided: w, Router: routerOf{w}, Catalogue: catalogueOf{w}, View: viewOf{w}})
		expect := func(when string, want ...string) {
			t.Helper()
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			if !reflect.DeepEqual(w.updated, want) {
				t.Errorf("%s: updated %q, want %q", when, w.updated, want)
			}
			w.updated = nil
		}
		once := []string{"router 1", "catalogue 1", "view [s] 1"}
		expect("made", once...)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		running.Go(func() { _ = p.Run(ctx) })
		expect("started", once...)
		w.snap = &observe.Snapshot{Seq: 2, Shape: 1}
		w.Post()
		synctest.Wait()
		w.mu.Lock()
		if last := w.updated[len(w.updated)-1]; last != "view [s] 2" {
			t.Errorf("after a change the last update was %q", last)
		}
		w.mu.Unlock()
	})
}

// Changes of load alone are published four times a second, the last one too. They
// delay no other change.
func TestLoadsArePublishedLessOften(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var observed observedLoads
		observed.snap.Store(&observe.Snapshot{})
		w := &world{state: &desired.State{}, snap: &observe.Snapshot{}}
		p := New(Config{Desired: w, Observed: &observed, Decided: w, Router: routerOf{w}, Catalogue: catalogueOf{w}, View: viewOf{w}})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		running.Go(func() { _ = p.Run(ctx) })
		report := func(shape uint64) {
			s := observed.snap.Load()
			observed.snap.Store(&observe.Snapshot{Seq: s.Seq + 1, Shape: shape})
			observed.Post()
			synctest.Wait()
		}
		views := func() (n int, last string) {
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, u := range w.updated {
				if strings.HasPrefix(u, "view") {
					n, last = n+1, u
				}
			}
			w.updated = nil
			return n, last
		}
		time.Sleep(time.Minute)
		views()
		report(0)
		if n, last := views(); n != 1 || last != "view [] 1" {
			t.Errorf("after a pause: %d views, the last %q", n, last)
		}
		for range 100 { // in one second
			time.Sleep(10 * time.Millisecond)
			report(0)
		}
		time.Sleep(loadPace)
		if n, last := views(); n < 4 || n > 5 || last != "view [] 101" {
			t.Errorf("in a second of reports: %d views, the last %q", n, last)
		}
		report(0)
		views()
		report(0)
		if n, _ := views(); n != 0 {
			t.Errorf("right after another load: %d views", n)
		}
		report(1)
		if n, last := views(); n != 1 || last != "view [] 104" {
			t.Errorf("something else has changed: %d views, the last %q", n, last)
		}
		time.Sleep(time.Minute)
		if n, _ := views(); n != 0 {
			t.Errorf("nothing has changed: %d views", n)
		}
	})
}

// observedLoads is an Observed whose snapshot changes while a Publisher reads it.
type observedLoads struct {
	notice.Board
	snap atomic.Pointer[observe.Snapshot]
}

func (o *observedLoads) Snapshot() *observe.Snapshot { return o.snap.Load() }
func (o *observedLoads) Shape() uint64               { return o.snap.Load().Shape }
