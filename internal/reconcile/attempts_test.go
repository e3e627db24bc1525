package reconcile

import (
	"log/slog"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

func testAttempts() *attempts {
	return newAttempts(slog.New(slog.DiscardHandler), noJitter, newHistory())
}

// ended is a replica of server a, revision 1, that lived for so long until t0
// plus at.
func ended(id string, phase fleet.Phase, at, lived time.Duration, set ...func(*fleet.Replica)) *fleet.Replica {
	r := &fleet.Replica{
		ID: fleet.ReplicaID(id), Server: "a", Revision: 1, Node: "n1", Phase: phase,
		EndedAt: t0.Add(at), CreatedAt: t0.Add(at - lived),
	}
	for _, f := range set {
		f(r)
	}
	return r
}

func wasReady(r *fleet.Replica) { r.ReadyAt = r.CreatedAt.Add(time.Millisecond) }
func lostWithNode(r *fleet.Replica) {
	r.Lost = true
}

// A new leader recalls from what the workers remember how starts have gone.
func TestRecall(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	tests := []struct {
		name       string
		ended      []*fleet.Replica // newest first
		running    []*fleet.Replica
		unreplaced int
		restarts   int
		delay      time.Duration
		failing    bool
		deployed   bool
	}{
		{name: "nothing has ended"},
		{name: "stopped, or lost with its node", ended: []*fleet.Replica{
			ended("r2", fleet.PhaseFailed, 0, s, lostWithNode), ended("r1", fleet.PhaseStopped, 0, s, wasReady)}, deployed: true},
		{name: "one failed", ended: []*fleet.Replica{ended("r1", fleet.PhaseFailed, 0, 20*s, wasReady)},
			unreplaced: 1, delay: backoffFirst, deployed: true},
		{name: "one failed and was replaced", ended: []*fleet.Replica{ended("r1", fleet.PhaseFailed, 0, 20*s, wasReady)},
			running: []*fleet.Replica{ended("r2", fleet.PhaseReady, 10*s, 9*s)}, restarts: 1, delay: backoffFirst, deployed: true},
		{name: "three starts failed", ended: []*fleet.Replica{
			ended("r3", fleet.PhaseFailed, 900*ms, 10*ms), ended("r2", fleet.PhaseFailed, 500*ms, 10*ms), ended("r1", fleet.PhaseFailed, 0, 10*ms)},
			unreplaced: 3, restarts: 2, delay: 4 * backoffFirst, failing: true},
		{name: "all was well for long between two failures", ended: []*fleet.Replica{
			ended("r2", fleet.PhaseFailed, time.Hour, s), ended("r1", fleet.PhaseFailed, 0, s)},
			unreplaced: 2, restarts: 1, delay: backoffFirst, failing: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := testAttempts()
			snap := &observe.Snapshot{
				Replicas: make(map[fleet.ReplicaID]*fleet.Replica),
				Ended:    map[fleet.ServerName][]*fleet.Replica{"a": tt.ended},
			}
			for _, r := range tt.running {
				snap.Replicas[r.ID] = r
			}
			for range 2 { // from the beginning each time
				a.recall(snap)
				b := a.of("a", 1)
				if b.unreplaced != tt.unreplaced || b.delay != tt.delay || b.failing != tt.failing {
					t.Errorf("unreplaced %d, delay %v, failing %v; want %d, %v, %v", b.unreplaced, b.delay, b.failing, tt.unreplaced, tt.delay, tt.failing)
				}
				if a.restarts["a"] != tt.restarts || a.deployed["a"] != tt.deployed {
					t.Errorf("restarts %d, deployed %v; want %d, %v", a.restarts["a"], a.deployed["a"], tt.restarts, tt.deployed)
				}
			}
		})
	}
}

// Ends of replicas that were never seen to run count once, and only if they are
// news and failures.
func TestObserveEnds(t *testing.T) {
	known := func(id fleet.ReplicaID) bool { return id == "known" }
	failed := ended("r1", fleet.PhaseFailed, time.Second, time.Second)
	tests := []struct {
		name       string
		ended      []*fleet.Replica
		leads      bool
		unreplaced int
		restarts   int
	}{
		{"a failure", []*fleet.Replica{failed}, true, 2, 0},
		{"a failure, seen by a follower", []*fleet.Replica{failed}, false, 1, 1},
		{"one that is known", []*fleet.Replica{ended("known", fleet.PhaseFailed, time.Second, 0)}, true, 1, 0},
		{"one that was stopped", []*fleet.Replica{ended("r1", fleet.PhaseStopped, time.Second, 0)}, true, 1, 0},
		{"one that was lost with its node", []*fleet.Replica{ended("r1", fleet.PhaseFailed, time.Second, 0, lostWithNode)}, true, 1, 0},
		{"one of before the last failure", []*fleet.Replica{ended("r1", fleet.PhaseFailed, -time.Second, 0)}, true, 1, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := testAttempts()
			a.recordFailure(&unit{id: "known", server: "a", rev: 1, startedAt: t0}, nil, "it broke", t0)
			lists := map[fleet.ServerName][]*fleet.Replica{"a": tt.ended}
			now := t0.Add(time.Minute)
			a.observeEnds(lists, known, tt.leads, now)
			a.observeEnds(lists, known, tt.leads, now)
			lists["a"] = append([]*fleet.Replica{ended("r0", fleet.PhaseStopped, 2*time.Second, 0)}, tt.ended...)
			a.observeEnds(lists, known, tt.leads, now)
			if got := a.of("a", 1).unreplaced; got != tt.unreplaced || a.restarts["a"] != tt.restarts {
				t.Errorf("unreplaced %d, restarts %d; want %d, %d", got, a.restarts["a"], tt.unreplaced, tt.restarts)
			}
			a.observeEnds(nil, known, tt.leads, now)
			if len(a.counted) != 0 {
				t.Error("the ends of a server without any are kept")
			}
		})
	}
}

// A start replaces a failed replica while there are any. One of another controller
// does so only if it was made after the failure.
func TestStartsReplaceFailedReplicas(t *testing.T) {
	a := testAttempts()
	fail := func() {
		a.recordFailure(&unit{id: "r", server: "a", rev: 1, startedAt: t0, readyAt: t0}, nil, "it broke", t0.Add(time.Second))
	}
	fail()
	a.recordForeignStart(ended("r1", fleet.PhaseReady, 0, 0))
	if got := a.of("a", 1).unreplaced; got != 1 {
		t.Errorf("unreplaced %d after a start before the failure, want 1", got)
	}
	a.recordForeignStart(ended("r2", fleet.PhaseReady, time.Second, 0))
	a.recordStart("a", 1)
	if got := a.of("a", 1).unreplaced; got != 0 || a.restarts["a"] != 1 {
		t.Errorf("unreplaced %d, restarts %d after two starts and one failure, want 0 and 1", got, a.restarts["a"])
	}
}

// A restart by hand forgives failures. What the controller finds when it begins is
// no restart.
func TestRestartForgivesFailures(t *testing.T) {
	a := testAttempts()
	b := a.of("a", 1)
	b.failing, b.unreplaced = true, 1
	s := server("a", 1, 1)
	for _, tt := range []struct {
		generation uint64
		failing    bool
	}{{3, true}, {3, true}, {4, false}} {
		s.Generation = tt.generation
		if a.observeGeneration(&s); b.failing != tt.failing {
			t.Errorf("generation %d: failing %v", tt.generation, b.failing)
		}
	}
}

// Records of servers that are gone are dropped, and no more replicas are to be
// replaced than are needed.
func TestForgetAttempts(t *testing.T) {
	a := testAttempts()
	for _, k := range []revision{{"a", 1}, {"a", 2}, {"a", 3}, {"a", 4}, {"gone", 1}} {
		a.of(k.server, k.rev).unreplaced = 5
		a.restarts[k.server], a.deployed[k.server], a.restarted[k.server] = 1, true, 1
	}
	d := server("a", 4, 1)
	d.Stable = 2
	servers := []want{{name: "a", desired: &d}, {name: "gone"}}
	a.forget(servers, []decision{{need: 3, needStable: 1}, {}}, map[revision]bool{{"a", 1}: true})
	unreplaced := make(map[revision]int)
	for k, b := range a.backoffs {
		unreplaced[k] = b.unreplaced
	}
	if len(unreplaced) != 3 || unreplaced[revision{"a", 1}] != 5 || unreplaced[revision{"a", 2}] != 1 || unreplaced[revision{"a", 4}] != 3 {
		t.Errorf("unreplaced = %v, want those in use, wanted and stable", unreplaced)
	}
	if len(a.restarts) != 1 || len(a.deployed) != 1 || len(a.restarted) != 1 {
		t.Errorf("kept: %v %v %v, want those of server a", a.restarts, a.deployed, a.restarted)
	}
}
