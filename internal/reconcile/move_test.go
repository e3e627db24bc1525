package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe/observetest"
)

// slowly makes all replicas start and stop slowly.
func (w *world) slowly() {
	w.behave(always(observetest.Behaviour{ReadyAfter: 300 * time.Millisecond, StopAfter: 200 * time.Millisecond}))
}

// A blip of the network replaces nothing, even if gossip calls the node dead.
func TestBlipReplacesNothing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2")
		w.deploy(server("a", 1, 4))
		before := w.ready("a")
		for range 3 {
			w.workers[0].Cut(true)
			w.net.List(w.workers[0], false)
			time.Sleep(9 * time.Second)
			if s := w.status("a"); s.State != fleet.StateDegraded || !strings.Contains(s.Reason, "2 on nodes that cannot be reached") {
				t.Errorf("while n1 is cut off: %+v", s)
			}
			w.workers[0].Cut(false)
			w.net.List(w.workers[0], true)
			w.until(3*time.Second, "back", w.converged)
		}
		if got := w.ready("a"); !slices.Equal(got, before) || len(w.starts()) != 4 {
			t.Errorf("replicas = %v after %d starts, want %v", got, len(w.starts()), before)
		}
		if a, b := w.happened(fleet.EventNodeSilent), w.happened(fleet.EventNodeReturned); a != 3 || b != 3 || w.happened(fleet.EventNodeLost) != 0 {
			t.Errorf("events: silent %d times, returned %d, want 3 and 3", a, b)
		}
	})
}

// Streams that break over and over start nothing, not even for the server that
// has no other replica.
func TestBrokenStreamsStartNothing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2")
		w.deploy(server("a", 1, 1), server("b", 1, 2))
		before := fmt.Sprint(w.ready("a"), w.ready("b"))
		for range 10 {
			for _, n := range w.workers {
				n.Break()
			}
			time.Sleep(time.Second)
		}
		w.until(5*time.Second, "back", w.converged)
		if after := fmt.Sprint(w.ready("a"), w.ready("b")); after != before || len(w.starts()) != 3 {
			t.Errorf("replicas = %s after %d starts, want %s after 3", after, len(w.starts()), before)
		}
	})
}

// A server whose replicas are all unreachable gets one more soon, and no others
// before the grace is over.
func TestOneStandsIn(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1")
		w.deploy(server("a", 1, 4))
		w.add("n2", nil)
		time.Sleep(2 * time.Second)

		w.workers[0].Cut(true)
		w.until(time.Second, "one stands in", func() bool { return w.status("a").Ready == 1 })
		time.Sleep(8 * time.Second)
		if n := len(w.starts()); n != 5 {
			t.Errorf("%d starts within the grace, want 4 and 1", n)
		}
		w.workers[0].Cut(false)
		w.until(5*time.Second, "the excess is stopped", w.converged)
		if n := len(w.workers[0].Running()); n != 3 {
			t.Errorf("%d run on the node that came back, want 3 kept", n)
		}

		w.workers[0].Cut(true)
		w.until(15*time.Second, "replaced", func() bool { return len(w.workers[1].Running()) == 4 })
	})
}

// A drain by hand moves new before old, and leaves the node empty and cordoned.
func TestDrainByHand(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2", "n3")
		w.slowly()
		w.deploy(server("a", 1, 6))
		w.desired.intend("n1", fleet.NodeIntent{Cordoned: true, DrainUntil: time.Now().Add(10 * time.Minute)})
		w.until(10*time.Second, "moved", func() bool {
			if n := len(w.ready("a")); n < 6 {
				t.Fatalf("%d serve while the node drains, want 6\n%s", n, w)
			}
			if s := w.status("a"); s.State != fleet.StateReady {
				t.Fatalf("while the node drains: %+v", s)
			}
			return len(w.workers[0].Running()) == 0 && w.converged()
		})
		w.desired.set(server("a", 1, 9))
		w.until(10*time.Second, "larger", w.converged)
		if n := len(w.workers[0].Running()); n != 0 {
			t.Errorf("%d run on the drained node, want none", n)
		}
		w.desired.intend("n1", fleet.NodeIntent{})
		w.desired.set(server("a", 1, 12))
		w.until(10*time.Second, "back in use", func() bool { return w.converged() && len(w.workers[0].Running()) > 0 })
	})
}

// Without room elsewhere, replicas on a drained node stay until the deadline.
func TestDrainHasADeadline(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1")
		w.deploy(server("a", 1, 2))
		w.desired.intend("n1", fleet.NodeIntent{Cordoned: true, DrainUntil: time.Now().Add(time.Minute)})
		time.Sleep(59 * time.Second)
		s := w.status("a")
		if len(w.ready("a")) != 2 || s.State != fleet.StateReady || s.Reason != "2 replicas should leave the node: no node fits: 1 node is draining" {
			t.Errorf("before the deadline %d serve: %+v", len(w.ready("a")), s)
		}
		time.Sleep(1100 * time.Millisecond)
		s = w.status("a")
		if len(w.running("a")) != 0 || s.State != fleet.StateUnavailable || !strings.Contains(s.Reason, "no node fits: 1 node is cordoned") {
			t.Errorf("after the deadline %d run: %+v", len(w.running("a")), s)
		}
		if s.Restarts != 0 || w.happened(fleet.EventReplicaFailed) != 0 {
			t.Errorf("restarts = %d, failures %d: nothing failed", s.Restarts, w.happened(fleet.EventReplicaFailed))
		}
		w.desired.intend("n1", fleet.NodeIntent{})
		w.until(time.Second, "uncordoned", w.converged)
	})
}

// A worker that stops by itself serves on until its replicas have moved, and keeps
// them while there may yet be room elsewhere.
func TestWorkerThatStops(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1")
		half := func(s *fleet.Spec) { s.Resources.Memory = 100 }
		full := w.net.StartWorker(fleet.NodeInfo{Node: "n2", Capacity: fleet.Resources{Memory: 150}})
		w.workers = append(w.workers, full)
		onFull := server("b", 1, 1, half)
		w.deploy(server("a", 1, 2, half), onFull)
		w.workers[0].Drain()
		time.Sleep(10 * time.Second)
		if n := len(w.ready("a")) + len(w.ready("b")); n != 3 || len(w.workers[0].Running()) != 2 {
			t.Errorf("%d serve, want 3: the other node is full, but need not stay so", n)
		}
		w.add("n3", nil)
		w.until(2*time.Second, "moved", func() bool {
			if n := len(w.ready("a")); n < 2 {
				t.Fatalf("%d serve while they move, want 2", n)
			}
			return len(w.workers[0].Running()) == 0
		})
		time.Sleep(time.Second)
		w.workers[0].Kill()
		w.net.List(w.workers[0], false)
		w.until(time.Second, "left", func() bool { return w.happened(fleet.EventNodeLeft) == 1 })
		if n := w.happened(fleet.EventNodeDraining); n != 1 || w.happened(fleet.EventReplicaFailed)+w.happened(fleet.EventNodeSilent) != 0 {
			t.Errorf("events: %v", w.events)
		}
	})
}

func restarted(s fleet.Server, generation uint64) fleet.Server {
	s.Generation, s.Rollout = generation, &fleet.Rollout{}
	return s
}

// A restart by hand replaces every replica, new before old, by one of the same
// revision, once, and its end is written.
func TestRestartByHand(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2", "n3")
		w.slowly()
		w.deploy(server("a", 1, 6))
		before := w.ready("a")
		w.desired.breaks(fleet.ErrNoLeader)
		w.desired.set(restarted(server("a", 1, 6), 1))
		time.Sleep(400 * time.Millisecond)
		if s := w.status("a"); s.State != fleet.StateUpdating || !strings.HasPrefix(s.Reason, "restarting: ") || s.Generation != 1 {
			t.Errorf("status: %+v", s)
		}
		w.until(20*time.Second, "restarted", func() bool {
			w.noMoreThan(8, "a")
			if n := len(w.ready("a")); n < 6 {
				t.Fatalf("%d serve, want 6\n%s", n, w)
			}
			return w.converged()
		})
		for _, id := range w.ready("a") {
			if slices.Contains(before, id) {
				t.Errorf("%s was not replaced", id)
			}
		}
		time.Sleep(10 * time.Second)
		if len(w.desired.ended()) != 0 {
			t.Errorf("rolled out = %v while nothing can be written", w.desired.ended())
		}
		w.desired.breaks(nil)
		time.Sleep(time.Minute)
		if want := []RolloutEnd{{"a", 1, 1, ""}}; !slices.Equal(w.desired.ended(), want) {
			t.Errorf("rolled out = %v, want %v", w.desired.ended(), want)
		}
	})
}

// A restart by hand does not wait for a back-off.
func TestRestartByHandForgivesFailures(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1")
		w.workers[0].Behave(always(observetest.Behaviour{FailStart: true, ReadyAfter: time.Millisecond}))
		w.desired.set(server("a", 1, 1))
		w.control()
		defer w.stop()
		time.Sleep(2 * time.Minute)
		w.workers[0].Behave(always(observetest.Behaviour{}))
		n := len(w.starts())
		w.desired.set(restarted(server("a", 1, 1), 1))
		w.until(500*time.Millisecond, "tried at once", func() bool { return len(w.starts()) == n+1 })
		w.until(time.Second, "serves", w.converged)
	})
}

// A rollout has ended when the wanted replicas serve and the old ones are stopping.
func TestRolloutEnds(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2")
		w.slowly()
		one := server("a", 1, 3)
		w.deploy(one)
		w.desired.set(upgraded(one, server("a", 2, 3)))
		w.until(10*time.Second, "written", func() bool { return len(w.desired.ended()) > 0 })
		serve := 0
		for _, r := range w.running("a") {
			switch {
			case r.Revision == 2 && r.Phase == fleet.PhaseReady:
				serve++
			case r.Revision == 1 && r.Phase < fleet.PhaseDraining:
				t.Errorf("when it was written %s was not told to stop", r.ID)
			}
		}
		if want := []RolloutEnd{{"a", 2, 0, ""}}; serve != 3 || !slices.Equal(w.desired.ended(), want) {
			t.Errorf("rolled out = %v with %d serving, want %v with 3", w.desired.ended(), serve, want)
		}
		w.desired.set(upgraded(server("a", 2, 3), server("a", 3, 0)))
		w.until(10*time.Second, "stopped", func() bool { return len(w.running("a")) == 0 })
		time.Sleep(10 * time.Minute)
		if s := w.status("a"); !s.Target.Stopped() || !s.Settled || s.StartFailed || s.State != fleet.StateStopped {
			t.Errorf("status: %+v", s)
		}
		if n := len(w.desired.ended()); n != 1 {
			t.Errorf("%d rollouts have ended, want 1: nobody knows yet whether revision 3 works", n)
		}
		w.desired.set(upgraded(server("a", 2, 3), server("a", 3, 1)))
		w.until(10*time.Second, "started, and rolled out", func() bool { return len(w.desired.ended()) == 2 })
	})
}

// upgraded returns next, with the revision before it as the stable one.
func upgraded(before, next fleet.Server) fleet.Server {
	next.Stable, next.StableTemplate, next.Rollout = before.Revision, &before.Spec.Template, &fleet.Rollout{}
	return next
}

// A revision that does not start never takes the place of the one before, not
// even when all of that die, or their node goes away.
func TestStableRevisionIsKeptUp(t *testing.T) {
	for name, how := range map[string]observetest.Behaviour{
		"does not start":   {FailStart: true, ReadyAfter: 10 * time.Millisecond},
		"dies soon":        {CrashAfter: 20 * time.Millisecond},
		"never gets ready": {Hang: true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := newWorld(t, 1, "n1", "n2", "n3")
				w.behave(func(_ fleet.ServerName, r fleet.Revision) observetest.Behaviour {
					if r == 2 {
						return how
					}
					return observetest.Behaviour{ReadyAfter: 20 * time.Millisecond}
				})
				one := server("a", 1, 3)
				w.deploy(one)
				w.desired.set(upgraded(one, server("a", 2, 3)))
				old := func() (n int) {
					for _, r := range w.running("a") {
						if r.Revision == 1 && r.Phase == fleet.PhaseReady {
							n++
						}
					}
					return n
				}
				for range 5 {
					time.Sleep(40 * time.Second)
					if n := old(); n != 3 {
						t.Fatalf("%d of revision 1 serve, want 3\n%s", n, w)
					}
					for _, r := range w.running("a") {
						for _, n := range w.workers {
							if r.Revision == 1 {
								n.End(r.ID)
							}
						}
					}
					w.until(20*time.Second, "the old ones are back", func() bool { return old() == 3 })
					if n := len(w.running("a")); n > 4 {
						t.Fatalf("%d run, want 4 at most\n%s", n, w)
					}
				}
				if !how.Hang {
					w.workers[0].Kill()
					w.net.List(w.workers[0], false)
					time.Sleep(30 * time.Second)
					if n := old(); n != 3 {
						t.Errorf("%d of revision 1 serve after the loss of a node, want 3\n%s", n, w)
					}
				}
				time.Sleep(time.Second) // it is reported
				if s := w.status("a"); s.State != fleet.StateUpdating || s.Ready < 3 || s.StartFailed || len(w.desired.ended()) != 0 {
					t.Errorf("status: %+v, rolled out %v", s, w.desired.ended())
				}
				w.desired.set(upgraded(one, server("a", 3, 3)))
				w.until(20*time.Second, "the next revision", func() bool { return w.converged() && len(w.desired.ended()) == 1 })
			})
		})
	}
}

// Where both revisions do not fit, the one that works comes back when the new
// one fails.
func TestStableRevisionComesBack(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1")
		w.workers[0].Behave(func(_ fleet.ServerName, r fleet.Revision) observetest.Behaviour {
			return observetest.Behaviour{FailStart: r == 2, ReadyAfter: 20 * time.Millisecond}
		})
		tight := func(s *fleet.Spec) { s.MaxReplicasPerNode = 1 }
		one := server("a", 1, 1, tight)
		w.deploy(one)
		w.desired.set(upgraded(one, server("a", 2, 1, tight)))
		time.Sleep(10 * time.Second)
		if run := w.running("a"); len(run) != 1 || run[0].Revision != 1 || run[0].Phase != fleet.PhaseReady {
			t.Errorf("running: %v, want one of revision 1", run)
		}
		if s := w.status("a"); s.State != fleet.StateUpdating || s.Ready != 1 || !strings.Contains(s.Reason, "last failure: ") {
			t.Errorf("status: %+v", s)
		}
	})
}
