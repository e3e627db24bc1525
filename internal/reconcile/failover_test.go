package reconcile

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe/observetest"
)

// Another controller takes over while the first goes on as if it still led:
// nothing is started again, and only one of them is obeyed.
func TestFailoverAdopts(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2", "n3")
		w.desired.set(server("a", 1, 6), server("b", 1, 3))
		w.control()
		first := w.controller
		defer first.stop()
		second := w.newController()
		defer second.stop()
		w.follow(second)
		w.until(5*time.Second, "deployed", w.converged)
		before := append(w.ready("a"), w.ready("b")...)
		starts := len(w.starts())

		w.lead(second)
		w.until(time.Second, "acting", w.converged)
		time.Sleep(20 * time.Second)
		if after := append(w.ready("a"), w.ready("b")...); !slices.Equal(before, after) || len(w.starts()) != starts {
			t.Errorf("replicas after %d starts = %v\nwant those of before: %v", len(w.starts())-starts, after, before)
		}
		w.desired.set(server("a", 1, 12), server("b", 2, 3))
		w.until(10*time.Second, "what is desired now", w.converged)
		if got := len(w.starts()) - starts; got != 6+3 {
			t.Errorf("%d starts, want 9: the old leader's are refused", got)
		}
		refused := 0
		for _, n := range w.workers {
			refused += n.Refused()
		}
		if refused == 0 {
			t.Error("the old leader has ordered nothing: the test shows nothing")
		}
	})
}

// The new leader plans only after it has seen what the old one ordered a moment
// before.
func TestFailoverWaitsForWhatWasOrdered(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		for delay := range 12 {
			w := newWorld(t, uint64(delay), "n1", "n2")
			w.net.SetFaults(observetest.Faults{OrderDelay: 300 * time.Millisecond, ReportDelay: 500 * time.Millisecond})
			w.desired.set(server("a", 1, 4))
			w.control()
			first, second := w.controller, w.newController()
			w.follow(second)
			time.Sleep(1500*time.Millisecond + time.Duration(delay)*50*time.Millisecond) // among its first starts
			w.lead(second)
			w.until(20*time.Second, "deployed", w.converged)
			if n := len(w.starts()); n > 4 {
				t.Errorf("%d starts, want 4 at most by both leaders together", n)
			}
			first.stop()
			second.stop()
		}
	})
}

// A server that cannot start is tried no more often because the leader changes,
// whether or not the new one had followed.
func TestFailoverKeepsBackoff(t *testing.T) {
	for _, followed := range []bool{true, false} {
		bubble.Test(t, func(t *testing.T) {
			w := newWorld(t, 1, "n1", "n2")
			w.behave(always(observetest.Behaviour{FailStart: true, ReadyAfter: 10 * time.Millisecond}))
			w.desired.set(server("a", 1, 3))
			w.control()
			first := w.controller
			second := w.newController()
			if followed {
				w.follow(second)
			}
			time.Sleep(5 * time.Minute)
			was := w.status("a")
			before := len(w.starts())
			first.stop()
			w.lead(second)
			time.Sleep(time.Second)
			if s := w.status("a"); s.State != fleet.StateUnavailable || !s.Settled || !s.StartFailed || !strings.HasPrefix(s.Reason, "last failure: exit code 1; stderr: ") {
				t.Errorf("status: %+v", s)
			}
			if s := w.status("a"); followed && (s.Restarts < was.Restarts || s.Restarts > was.Restarts+1) || s.Restarts == 0 {
				t.Errorf("restarts = %d, want %d as before", s.Restarts, was.Restarts)
			}
			for range 6 { // and it changes again and again
				time.Sleep(10 * time.Second)
				w.lead(second)
			}
			if n := len(w.starts()) - before; n > 4 || n < 1 {
				t.Errorf("%d starts within a minute of failovers, want 2 or 3", n)
			}
			second.stop()
		})
	}
}

// A follower reports the same status as the leader.
func TestFollowerKnowsAsMuch(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2")
		how := map[fleet.ServerName]observetest.Behaviour{
			"broken":  {FailStart: true, ReadyAfter: 10 * time.Millisecond},
			"instant": {FailStart: true},
			"crashes": {CrashAfter: 70 * time.Second},
			"lingers": {FailStart: true, ReadyAfter: 2 * time.Second, CleanUp: 7 * time.Second},
		}
		w.behave(func(s fleet.ServerName, _ fleet.Revision) observetest.Behaviour { return how[s] })
		unplaced := func(s *fleet.Spec) { s.Labels = map[string]string{"disk": "ssd"} }
		w.desired.set(server("broken", 1, 2), server("crashes", 1, 2), server("fine", 1, 3), server("idle", 1, 0), server("instant", 1, 1), server("lingers", 1, 1), server("nowhere", 1, 1, unplaced))
		w.control()
		defer w.stop()
		second := w.newController()
		defer second.stop()
		w.follow(second)
		for range 40 {
			time.Sleep(9 * time.Second)
			theirs := second.rec.Status()
			for i, ours := range w.rec.Status() {
				s := theirs[i]
				if s.State != ours.State || s.Settled != ours.Settled || s.StartFailed != ours.StartFailed || s.Ready != ours.Ready || s.Reason != ours.Reason || s.Target != ours.Target {
					t.Errorf("follower: %s %s settled=%v startFailed=%v ready=%d: %s\n  leader: %s settled=%v startFailed=%v ready=%d: %s", s.Name,
						s.State, s.Settled, s.StartFailed, s.Ready, s.Reason, ours.State, ours.Settled, ours.StartFailed, ours.Ready, ours.Reason)
				}
				if d := s.Restarts - ours.Restarts; d < -1 || d > 1 {
					t.Errorf("follower: %s restarts=%d, leader: %d", s.Name, s.Restarts, ours.Restarts)
				}
			}
		}
		if len(second.events) != 0 {
			t.Errorf("a follower recorded %v", second.events)
		}
	})
}

// A follower reports failures while there is no leader, and so does a new leader
// before it may act.
func TestStatusWhileTheLeaderWaits(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2")
		w.behave(func(s fleet.ServerName, _ fleet.Revision) observetest.Behaviour {
			return observetest.Behaviour{FailStart: s == "broken", ReadyAfter: 10 * time.Millisecond}
		})
		w.desired.set(server("a", 1, 2), server("broken", 1, 1))
		w.control()
		first, second := w.controller, w.newController()
		defer second.stop()
		w.follow(second)
		time.Sleep(time.Minute)
		first.stop()
		w.workers[1].Kill()
		time.Sleep(time.Second)
		w.lead(second)
		time.Sleep(5 * time.Second)
		if s := w.status("broken"); !s.StartFailed || !strings.Contains(s.Reason, "waiting for n2 to report") {
			t.Errorf("while it waits: %+v", s)
		}
		if s := w.status("a"); s.State != fleet.StateDegraded || s.Ready != 1 {
			t.Errorf("while it waits: %+v", s)
		}
		w.until(8*time.Second, "n2 is given up", func() bool { return len(w.ready("a")) == 2 })
	})
}

// A follower counts the failures of replicas that it never saw run, as reports
// came too late for that.
func TestFollowerMissesTheStart(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1")
		w.workers[0].Behave(always(observetest.Behaviour{FailStart: true}))
		w.net.SetFaults(observetest.Faults{ReportDelay: 2 * time.Second})
		second := w.newController()
		defer second.stop()
		w.follow(second)
		time.Sleep(5 * time.Second)
		w.desired.set(server("a", 1, 1))
		w.control()
		defer w.stop()
		time.Sleep(time.Minute)
		ours, theirs := w.status("a"), second.rec.Status()[0]
		if !theirs.StartFailed || theirs.State != fleet.StateUnavailable || theirs.Restarts < ours.Restarts-1 || theirs.Restarts == 0 {
			t.Errorf("follower: %+v\nleader: %+v", theirs, ours)
		}
	})
}

// Replicas that the old leader stopped a moment before have not failed.
func TestFailoverAmongStops(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		for delay := range 12 {
			w := newWorld(t, uint64(delay), "n1", "n2")
			w.behave(always(observetest.Behaviour{StopAfter: 3 * time.Second}))
			w.net.SetFaults(observetest.Faults{OrderDelay: 100 * time.Millisecond, ReportDelay: 500 * time.Millisecond})
			w.desired.set(server("a", 1, 8))
			w.control()
			first, second := w.controller, w.newController()
			w.follow(second)
			w.until(20*time.Second, "deployed", w.converged)
			w.desired.set(server("a", 1, 2))
			time.Sleep(time.Duration(delay) * 40 * time.Millisecond)
			w.lead(second)
			w.until(20*time.Second, "smaller", w.converged)
			if s := w.status("a"); s.Restarts != 0 || second.happened(fleet.EventReplicaFailed) != 0 || len(w.starts()) != 8 {
				t.Errorf("restarts = %d, failures = %d, starts = %d; want 0, 0 and 8", s.Restarts, second.happened(fleet.EventReplicaFailed), len(w.starts()))
			}
			first.stop()
			second.stop()
		}
	})
}

// A worker of an older version, which knows no fence, gets orders when the
// grace is over.
func TestWorkerWithoutFence(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2")
		w.workers[0].Age()
		w.desired.set(server("a", 1, 2, func(s *fleet.Spec) { s.MaxReplicasPerNode = 1 }))
		w.control()
		defer w.stop()
		if took := w.until(30*time.Second, "deployed", w.converged); took < 9*time.Second {
			t.Errorf("deployed after %v, want the grace first", took)
		}
	})
}

// Load alone is no news, but a report that brings nothing else may be the one
// that a new leader waits for.
func TestFailoverUnderLoad(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2")
		w.desired.set(server("a", 1, 2))
		w.control()
		first, second := w.controller, w.newController()
		defer second.stop()
		defer first.stop()
		w.follow(second)
		w.until(20*time.Second, "deployed", w.converged)
		calls := w.background(func(ctx context.Context) error {
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return nil
				case <-tick.C:
				}
				for _, n := range w.workers {
					for _, r := range n.Running() {
						n.Set(r.ID, func(r *fleet.Replica) { r.Load.Total++ })
					}
				}
			}
		})
		defer calls()
		w.net.SetFaults(observetest.Faults{ReportDelay: 100 * time.Millisecond})
		time.Sleep(time.Second)
		first.yield()
		w.lead(second)
		w.desired.set(server("a", 1, 3))
		if took := w.until(20*time.Second, "scaled", w.converged); took > time.Second {
			t.Errorf("the new leader has scaled after %v", took)
		}
	})
}
