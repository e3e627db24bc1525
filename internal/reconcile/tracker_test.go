package reconcile

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// testTracker returns the tracker of a leader that has recalled everything, and
// the events that it records.
func testTracker() (*tracker, *[]fleet.EventKind) {
	a := testAttempts()
	a.recalling = false
	events := new([]fleet.EventKind)
	return newTracker(slog.New(slog.DiscardHandler), func(e Event) { *events = append(*events, e.Kind) }, true, a), events
}

// A replica without a report may be on its way, stopped, failed or lost.
func TestMissingReplica(t *testing.T) {
	acked := &order{acked: true, version: 5}
	exit := func(r *fleet.Replica) { r.Exit = &fleet.Exit{Code: 3} }
	tests := []struct {
		name       string
		unit       *unit
		node       func(*observe.Node)
		noNode     bool
		end        *fleet.Replica
		draining   bool
		kept       bool
		events     []fleet.EventKind
		unreplaced int
	}{
		{name: "ordered, not answered", unit: u("r1", "n1", unseen), kept: true},
		{name: "ordered and answered, the report is older", unit: u("r1", "n1", unseen, func(u *unit) { u.start = &order{acked: true, version: 9} }), kept: true},
		{name: "ordered and answered, and not there", unit: u("r1", "n1", unseen, func(u *unit) { u.start = acked }), events: []fleet.EventKind{fleet.EventReplicaFailed}, unreplaced: 1},
		{name: "stopped before it was seen", unit: u("r1", "n1", unseen, func(u *unit) { u.stop = acked }), events: []fleet.EventKind{fleet.EventReplicaStopped}},
		{name: "failed before it was seen", unit: u("r1", "n1", unseen), end: ended("r1", fleet.PhaseFailed, 0, 0, exit), events: []fleet.EventKind{fleet.EventReplicaFailed}, unreplaced: 1},
		{name: "it ran, and is forgotten", unit: u("r1", "n1"), events: []fleet.EventKind{fleet.EventReplicaFailed}, unreplaced: 1},
		{name: "it ran, and failed", unit: u("r1", "n1"), end: ended("r1", fleet.PhaseFailed, 0, 0, exit), events: []fleet.EventKind{fleet.EventReplicaFailed}, unreplaced: 1},
		{name: "it was told to stop", unit: u("r1", "n1", told), events: []fleet.EventKind{fleet.EventReplicaStopped}},
		{name: "another controller stopped it", unit: u("r1", "n1"), end: ended("r1", fleet.PhaseStopped, 0, 0), events: []fleet.EventKind{fleet.EventReplicaStopped}},
		{name: "it drained, and is forgotten", unit: u("r1", "n1", in(fleet.PhaseDraining)), events: []fleet.EventKind{fleet.EventReplicaStopped}},
		{name: "its worker is stopping", unit: u("r1", "n1"), draining: true, events: []fleet.EventKind{fleet.EventReplicaStopped}},
		{name: "its failure is recorded already", unit: u("r1", "n1", func(u *unit) { u.failed = "it broke" }), end: ended("r1", fleet.PhaseFailed, 0, 0, exit), events: []fleet.EventKind{fleet.EventReplicaFailed}},
		{name: "its node is unknown", unit: u("r1", "n1"), noNode: true, events: []fleet.EventKind{fleet.EventReplicaFailed}},
		{name: "its node is lost", unit: u("r1", "n1"), node: func(n *observe.Node) { n.Lost = true }, events: []fleet.EventKind{fleet.EventReplicaFailed}},
		{name: "its node has a new life", unit: u("r1", "n1"), node: func(n *observe.Node) { n.Member.Life = "new" }, events: []fleet.EventKind{fleet.EventReplicaFailed}},
		{name: "stopping, and its node is lost", unit: u("r1", "n1", told), node: func(n *observe.Node) { n.Lost = true }, events: []fleet.EventKind{fleet.EventReplicaStopped}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tr, events := testTracker()
			tt.unit.life = "l"
			tr.add(tt.unit)
			n := observe.Node{Member: fleet.Member{Node: "n1", Life: "l"}, Connected: true, Version: 7}
			if tt.node != nil {
				tt.node(&n)
			}
			snap := &observe.Snapshot{Nodes: map[fleet.NodeID]observe.Node{"n1": n}, Ended: map[fleet.ServerName][]*fleet.Replica{}}
			if tt.noNode {
				delete(snap.Nodes, "n1")
			}
			if tt.end != nil {
				snap.Ended["a"] = []*fleet.Replica{ended("r0", fleet.PhaseFailed, 0, 0), tt.end}
			}
			tr.observeMissing(tt.unit, snap, tt.draining, t0)
			if tr.has("r1") != tt.kept || !slices.Equal(*events, tt.events) {
				t.Errorf("kept %v, events %v; want %v, %v", tr.has("r1"), *events, tt.kept, tt.events)
			}
			if got := tr.attempts.of("a", 1).unreplaced; got != tt.unreplaced {
				t.Errorf("%d not replaced, want %d", got, tt.unreplaced)
			}
		})
	}
}

func unseen(u *unit) {
	u.observed, u.phase, u.readyAt = false, fleet.PhasePending, time.Time{}
	u.start = &order{}
}

// One replica is followed from its start to its end.
func TestReplicaIsFollowed(t *testing.T) {
	tr, events := testTracker()
	s := server("a", 1, 1)
	node := observe.Node{Member: fleet.Member{Node: "n1", Life: "l"}, Connected: true, Version: 7}
	tr.start("r1", &s, action{node: "n1", rev: 1, template: &s.Spec.Template, reason: "wanted"}, "l", t0)
	r := fleet.Replica{ID: "r1", Server: "a", Revision: 1, Node: "n1", Phase: fleet.PhaseStarting}
	report := func(after time.Duration, set func()) *unit {
		t.Helper()
		set()
		c := r
		tr.observeReplica(tr.units["r1"], &c, &node, true, t0.Add(after))
		return tr.sorted()[0]
	}
	u := report(time.Second, func() {})
	if !u.observed || u.start != nil || !u.readyAt.IsZero() {
		t.Errorf("reported to start: %+v", u)
	}
	u = report(2*time.Second, func() { r.Phase = fleet.PhaseReady })
	if !u.ready() || !u.readyAt.Equal(t0.Add(2*time.Second)) {
		t.Errorf("reported to be READY: %+v", u)
	}
	report(3*time.Second, func() { r.Unhealthy, r.Reason = true, "3 pings failed" })
	report(4*time.Second, func() {})
	if got := tr.attempts.of("a", 1); got.unreplaced != 1 || got.last != "replica r1 on node n1 is unhealthy: 3 pings failed" {
		t.Errorf("unhealthy: %d not replaced: %s", got.unreplaced, got.last)
	}
	u = report(5*time.Second, func() { r.Unhealthy, r.Phase, r.Reason = false, fleet.PhaseDraining, "its stdout ended" })
	if u.failed == "" || tr.attempts.of("a", 1).unreplaced != 2 {
		t.Errorf("it ends by itself, and that is no failure: %+v", u)
	}
	if want := []fleet.EventKind{fleet.EventReplicaStarted, fleet.EventReplicaReady, fleet.EventReplicaUnhealthy}; !slices.Equal(*events, want) {
		t.Errorf("events = %v, want %v", *events, want)
	}
}

func TestAReadyReplicaIsDescribed(t *testing.T) {
	u := &unit{id: "r1", node: "n1"}
	for want, took := range map[string]fleet.ColdStart{
		"replica r1 is ready on node n1": {},
		"replica r1 is ready on node n1 after 1.43s (place 0s, pull 1.2s, create 110ms, start 40ms, handshake 80ms, list 0s)": {
			Pull: 1200 * time.Millisecond, Create: 110 * time.Millisecond, Start: 40 * time.Millisecond, Handshake: 80 * time.Millisecond,
		},
	} {
		if got := ready(u, &fleet.Replica{ColdStart: took}); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// A replica that begins to end has failed only if no controller can have stopped it.
func TestEndingReplica(t *testing.T) {
	tests := []struct {
		name     string
		unit     *unit
		draining bool
		upToDate bool
		failed   bool
	}{
		{"by itself", u("r1", "n1"), false, true, true},
		{"stopped from here", u("r1", "n1", told), false, true, false},
		{"with its worker", u("r1", "n1"), true, true, false},
		{"perhaps stopped by an earlier leader", u("r1", "n1"), false, false, false},
		{"since before", u("r1", "n1", in(fleet.PhaseDraining)), false, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tr, _ := testTracker()
			tr.add(tt.unit)
			node := observe.Node{Member: fleet.Member{Node: "n1", Life: "l"}, Draining: tt.draining}
			tr.observeReplica(tt.unit, ended("r1", fleet.PhaseDraining, 0, 0), &node, tt.upToDate, t0)
			if got := tt.unit.failed != ""; got != tt.failed || tr.attempts.of("a", 1).unreplaced > 0 != tt.failed {
				t.Errorf("failed %v (%q), want %v", got, tt.unit.failed, tt.failed)
			}
		})
	}
}

// A stop that was answered is given again when a later report shows that the
// replica serves.
func TestStopIsRepeated(t *testing.T) {
	tr, _ := testTracker()
	x := u("r1", "n1", func(u *unit) { u.stop = &order{acked: true, version: 5} })
	tr.add(x)
	for version, acked := range map[uint64]bool{4: true, 5: false} {
		x.stop.acked = true
		tr.observeReplica(x, ended("r1", fleet.PhaseReady, 0, 0), &observe.Node{Version: version}, true, t0)
		if x.stop.acked != acked {
			t.Errorf("a report of version %d: answered %v", version, x.stop.acked)
		}
	}
}

// Replicas that run when a tenure begins are adopted. Their starts have succeeded
// before, and are no news while the workers still report.
func TestAdopt(t *testing.T) {
	for _, recalling := range []bool{true, false} {
		tr, events := testTracker()
		tr.attempts.recalling = recalling
		r := ended("r1", fleet.PhaseReady, 0, time.Hour, wasReady)
		tr.observeReplica(nil, r, &observe.Node{}, true, t0)
		x := tr.sorted()[0]
		if !x.startedAt.Equal(r.CreatedAt) || !x.readyAt.Equal(r.ReadyAt) || !tr.attempts.deployed["a"] {
			t.Errorf("adopted: %+v", x)
		}
		if len(*events) == 0 != recalling {
			t.Errorf("recalling %v: events %v", recalling, *events)
		}
	}
}

// A start that a node leaves unanswered for long is called off.
func TestAbandonStart(t *testing.T) {
	tr, _ := testTracker()
	x := u("r1", "n1", unseen)
	tr.add(x)
	x.start.startTry(t0)
	x.start.retryLater(fleet.ErrUnknownReplica, t0, noJitter)
	if tr.abandonStart(x, t0.Add(startPatience-1)); x.stop != nil {
		t.Error("called off too early")
	}
	tr.abandonStart(x, t0.Add(startPatience))
	tr.abandonStart(x, t0.Add(startPatience+1))
	if x.stop == nil || x.failed == "" || tr.attempts.of("a", 1).unreplaced != 1 {
		t.Errorf("not called off once: %+v", x)
	}
}

// Starts that were never sent can be taken back.
func TestRemoveUnsent(t *testing.T) {
	tr, _ := testTracker()
	sent := u("sent", "n1", unseen)
	sent.start.tries = 1
	for _, x := range []*unit{sent, u("runs", "n1"), u("unsent", "n1", unseen), u("on a node that counts", "n2", unseen)} {
		tr.add(x)
	}
	tr.removeUnsent([]fleet.NodeID{"n2"})
	if len(tr.units) != 3 || tr.has("unsent") {
		t.Errorf("left: %v", tr.sorted())
	}
}

// A start of the present revision tells the worker what its replicas were found to speak.
func TestAStartKnowsTheEra(t *testing.T) {
	tr, _ := testTracker()
	s := server("a", 2, 1)
	s.Era = fleet.EraModern
	for rev, want := range map[fleet.Revision]fleet.Era{1: fleet.EraAuto, 2: fleet.EraModern} {
		id := fleet.ReplicaID(fmt.Sprint("r", rev))
		tr.start(id, &s, action{node: "n1", rev: rev, template: &s.Spec.Template}, "l", t0)
		if got := tr.units[id].era; got != want {
			t.Errorf("revision %d: era %q, want %q", rev, got, want)
		}
	}
}
