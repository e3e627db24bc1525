package reconcile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe/observetest"
)

func TestDeploySpreadsOverNodes(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2", "n3")
		w.desired.set(server("a", 1, 6), server("b", 1, 1))
		w.control()
		defer w.stop()
		if s := w.status("a"); s.State != fleet.StateDeploying || s.Settled {
			t.Errorf("before the first pass: %+v", s)
		}
		w.until(5*time.Second, "deployed", w.converged)
		for _, n := range w.workers {
			if k := len(slices.DeleteFunc(n.Running(), func(r fleet.Replica) bool { return r.Server != "a" })); k != 2 {
				t.Errorf("%d replicas of a on %s, want 2", k, n.Life())
			}
		}
		w.desired.set(server("a", 1, 2))
		w.until(5*time.Second, "a smaller, b gone", w.converged)
		w.desired.set(server("a", 1, 0))
		w.until(5*time.Second, "a at zero", func() bool { return w.converged() && w.status("a").State == fleet.StateStopped })
	})
}

// The first workers of a new cluster come late and not quite together. All of them
// get their share.
func TestLateWorkersGetTheirShare(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.desired.set(server("a", 1, 6))
		w.control()
		defer w.stop()
		time.Sleep(15 * time.Second)
		if s := w.status("a"); s.State != fleet.StateDeploying || !s.StartFailed || !strings.Contains(s.Reason, "waiting for workers") {
			t.Errorf("after the grace without workers: %+v", s)
		}
		for _, name := range []string{"n1", "n2", "n3"} {
			w.add(name, nil)
			time.Sleep(600 * time.Millisecond)
		}
		w.until(5*time.Second, "deployed", w.converged)
		for _, n := range w.workers {
			if k := len(n.Running()); k != 2 {
				t.Errorf("%d replicas on %s, want 2", k, n.Life())
			}
		}
	})
}

// A restarted controller adopts what runs, even though one worker comes back
// late, and starts and stops nothing.
func TestRestartedControllerAdopts(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2", "n3")
		w.desired.set(server("a", 1, 6), server("b", 1, 3))
		w.control()
		w.until(5*time.Second, "deployed", w.converged)
		before := append(w.ready("a"), w.ready("b")...)
		w.stop()
		w.net.List(w.workers[2], false) // not rejoined yet

		w.control()
		defer w.stop()
		time.Sleep(5 * time.Second)
		if s := w.status("a"); !strings.Contains(s.Reason, "waiting for n3 to report") || s.Settled || s.StartFailed {
			t.Errorf("while n3 is missing: %+v", s)
		}
		w.net.List(w.workers[2], true)
		w.until(2*time.Second, "settled", w.converged)
		time.Sleep(20 * time.Second)
		if after := append(w.ready("a"), w.ready("b")...); !slices.Equal(before, after) {
			t.Errorf("replicas after = %v\nwant those of before: %v", after, before)
		}
		if s := w.status("a"); s.Restarts != 0 {
			t.Errorf("restarts = %d, want 0", s.Restarts)
		}
	})
}

// A restarted controller waits for a node that is gone for good no longer than the
// grace.
func TestRestartedControllerGivesUpOnAMissingNode(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2")
		w.desired.set(server("a", 1, 4))
		w.control()
		w.until(5*time.Second, "deployed", w.converged)
		w.stop()
		w.workers[1].Kill()
		w.net.List(w.workers[1], false)
		w.control()
		defer w.stop()
		if took := w.until(15*time.Second, "replaced", w.converged); took < 9*time.Second {
			t.Errorf("replaced after %v, want no sooner than the grace", took)
		}
		if got := w.desired.KnownNodes(); !slices.Equal(got, []fleet.NodeID{"n1"}) {
			t.Errorf("known nodes = %v, want n1", got)
		}
	})
}

func TestCrashRestartsAfter100ms(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1")
		w.deploy(server("a", 1, 1))
		time.Sleep(10 * time.Second)
		w.workers[0].End(w.running("a")[0].ID)
		died := time.Now()
		w.until(time.Second, "noticed", func() bool { return w.status("a").State == fleet.StateUnavailable })
		if s := w.status("a"); s.StartFailed || !strings.HasPrefix(s.Reason, "last failure: its stdout ended (replica a-1-e1.1 on node n1 failed); ") {
			t.Errorf("after the crash: %+v", s)
		}
		time.Sleep(40 * time.Millisecond)
		if s := w.status("a"); s.StartFailed || !strings.Contains(s.Reason, "exit code 137; stderr: starting | the last words of a-1-e1.1") {
			t.Errorf("when more is known: %+v", s)
		}
		w.until(time.Second, "restarted", w.converged)
		if took := time.Since(died); took < 80*time.Millisecond || took > 150*time.Millisecond {
			t.Errorf("restarted after %v, want about 100ms", took)
		}
		if s := w.status("a"); s.Restarts != 1 || s.Reason != "" || len(s.LastEnded) != 1 {
			t.Errorf("after the restart: %+v", s)
		}

		// While the next one ends its reason is not known: the one before is kept.
		w.workers[0].End(w.running("a")[0].ID)
		w.until(time.Second, "noticed", func() bool { return w.status("a").State == fleet.StateUnavailable })
		if s := w.status("a"); !strings.Contains(s.Reason, "the last words of a-1-e1.1") {
			t.Errorf("after the second crash: %+v", s)
		}
		time.Sleep(40 * time.Millisecond)
		if s := w.status("a"); !strings.Contains(s.Reason, "the last words of") || strings.Contains(s.Reason, "a-1-e1.1") {
			t.Errorf("when more is known of the second: %+v", s)
		}
	})
}

// A server that cannot start is tried less than 15 times in 30 s, for any
// number of replicas, and never given up.
func TestFailingStartsBackOff(t *testing.T) {
	for _, tt := range []struct {
		name     string
		replicas int
		how      observetest.Behaviour
		most     int
	}{
		{"one", 1, observetest.Behaviour{FailStart: true, ReadyAfter: 5 * time.Millisecond}, 14},
		{"three", 3, observetest.Behaviour{FailStart: true, ReadyAfter: 5 * time.Millisecond}, 14},
		{"twenty", 20, observetest.Behaviour{FailStart: true, ReadyAfter: 5 * time.Millisecond}, 14},
		{"twenty, at once", 20, observetest.Behaviour{FailStart: true}, 14},
		{"one that dies as soon as it is ready", 1, observetest.Behaviour{CrashAfter: time.Millisecond}, 14},
		{"three that die soon after they are ready", 3, observetest.Behaviour{CrashAfter: 50 * time.Millisecond}, 14},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := newWorld(t, 1, "n1", "n2", "n3")
				w.behave(always(tt.how))
				w.desired.set(server("a", 1, tt.replicas))
				w.control()
				defer w.stop()
				time.Sleep(31 * time.Second) // the first second settles
				starts := w.starts()
				if len(starts) > tt.most || len(starts) < 6 {
					t.Errorf("%d starts in 30 s, want 6 to %d", len(starts), tt.most)
				}
				if tt.how.FailStart {
					s := w.status("a")
					if s.State != fleet.StateUnavailable || !s.Settled || !s.StartFailed || !strings.HasPrefix(s.Reason, "last failure: exit code 1; stderr: ") {
						t.Errorf("status: %+v", s)
					}
				}
				time.Sleep(10 * time.Minute)
				more := len(w.starts()) - len(starts)
				if more < 15 || more > 30*tt.replicas {
					t.Errorf("%d starts in the 10 minutes that follow, want about 20", more)
				}
				// It comes back as soon as a probe succeeds.
				w.behave(always(observetest.Behaviour{}))
				w.until(45*time.Second, "recovered", w.converged)
			})
		})
	}
}

func (w *world) starts() (all []time.Time) {
	for _, n := range w.workers {
		all = append(all, n.Starts()...)
	}
	return all
}

// A lost node's replicas are replaced at once, also while the server is in
// back-off for another reason.
func TestLostNodeHasNoBackoff(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2", "n3")
		w.deploy(server("a", 1, 6))
		w.workers[0].Kill()
		w.net.List(w.workers[0], false)
		died := time.Now()
		time.Sleep(9 * time.Second)
		if got := len(w.running("a")); got != 4 {
			t.Errorf("%d run within the grace, want 4", got)
		}
		w.until(2*time.Second, "replaced", w.converged)
		if took := time.Since(died); took > 10500*time.Millisecond {
			t.Errorf("replaced after %v, want right after the grace", took)
		}
		if s := w.status("a"); s.Restarts != 0 {
			t.Errorf("restarts = %d, want 0: nothing failed", s.Restarts)
		}
	})
}

// A node that comes back in a new life gets no old replicas; one that was only
// cut off within the grace keeps them.
func TestNodeReturns(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2")
		w.deploy(server("a", 1, 4))
		before := w.ready("a")

		w.workers[0].Cut(true)
		time.Sleep(5 * time.Second)
		if s := w.status("a"); s.State != fleet.StateDegraded || s.Ready != 2 {
			t.Errorf("while n1 is cut off: %+v", s)
		}
		w.workers[0].Cut(false)
		w.until(3*time.Second, "back", w.converged)
		if got := w.ready("a"); !slices.Equal(got, before) {
			t.Errorf("replicas after a short cut = %v, want %v", got, before)
		}

		w.workers[0].Cut(true)
		w.until(15*time.Second, "replaced", func() bool { return w.status("a").State == fleet.StateReady })
		w.workers[0].Cut(false)
		w.until(5*time.Second, "the excess is stopped", w.converged)

		w.workers[0].Kill()
		w.add("n1", nil)
		if took := w.until(2*time.Second, "new life", w.converged); took > 500*time.Millisecond {
			t.Errorf("a new life ended the old one's replicas after %v, want at once", took)
		}
	})
}

// An update never has fewer than the desired number serving, nor more than the
// surge on top running, but for those that drain.
func TestUpdateIsNewBeforeOld(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2", "n3")
		w.slowly()
		w.deploy(server("a", 1, 6))
		w.desired.set(server("a", 2, 6))
		w.until(20*time.Second, "updated", func() bool {
			if n := len(w.ready("a")); n < 6 {
				t.Fatalf("%d serve in the middle of the update, want 6\n%s", n, w)
			}
			w.noMoreThan(8, "a")
			return w.converged()
		})
		for _, n := range w.workers {
			if k := len(n.Running()); k != 2 {
				t.Errorf("%d replicas on %s after the update, want 2", k, n.Life())
			}
		}
	})
}

func TestUpdateThatFailsLeavesTheOldServing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2")
		w.behave(func(_ fleet.ServerName, r fleet.Revision) observetest.Behaviour {
			return observetest.Behaviour{FailStart: r == 2, ReadyAfter: 10 * time.Millisecond}
		})
		w.deploy(server("a", 1, 3))
		before := w.ready("a")
		w.desired.set(server("a", 2, 3))
		time.Sleep(time.Minute)
		if got := w.ready("a"); !slices.Equal(got, before) {
			t.Errorf("serving = %v, want the old ones %v", got, before)
		}
		s := w.status("a")
		if s.State != fleet.StateUpdating || !s.Settled || s.StartFailed || s.Ready != 3 || !strings.Contains(s.Reason, "revision 2: 0 of 3 replicas ready; 3 of the revision before") {
			t.Errorf("status: %+v", s)
		}
		w.desired.set(server("a", 3, 3))
		w.until(10*time.Second, "the next revision", w.converged)
	})
}

// Where both revisions do not fit one old replica goes first, one at a time.
func TestUpdateWithoutRoom(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2", "n3")
		tight := func(s *fleet.Spec) { s.MaxReplicasPerNode = 1 }
		w.deploy(server("a", 1, 3, tight))
		w.desired.set(server("a", 2, 3, tight))
		w.until(10*time.Second, "updated", func() bool {
			if n := len(w.ready("a")); n < 2 {
				t.Fatalf("%d serve, want at least 2\n%s", n, w)
			}
			return w.converged()
		})
	})
}

func TestUnhealthyIsReplacedFirst(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2")
		w.deploy(server("a", 1, 2))
		sick := w.running("a")[0].ID
		w.workers[0].Set(sick, func(r *fleet.Replica) { r.Unhealthy, r.Reason = true, "3 pings failed" })
		w.until(5*time.Second, "replaced", func() bool {
			if n := len(w.ready("a")); n < 2 {
				t.Fatalf("%d run, want the sick one to stay until its replacement serves", n)
			}
			return w.converged() && !slices.Contains(w.ready("a"), string(sick))
		})
		if s := w.status("a"); s.Restarts != 1 {
			t.Errorf("restarts = %d, want 1", s.Restarts)
		}
	})
}

func TestDrainingNodeIsEmptied(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2", "n3")
		w.deploy(server("a", 1, 6))
		w.workers[0].Drain()
		w.until(5*time.Second, "moved", func() bool {
			if n := len(w.ready("a")); n < 6 {
				t.Fatalf("%d serve while the node drains, want 6", n)
			}
			return w.converged() && len(w.workers[0].Running()) == 0
		})
	})
}

func TestNoWorkerAndNoRoom(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.desired.set(server("a", 1, 2, func(s *fleet.Spec) { s.Labels = map[string]string{"disk": "ssd"} }))
		w.control()
		defer w.stop()
		time.Sleep(5 * time.Second)
		if s := w.status("a"); s.State != fleet.StateDeploying || s.Settled || s.StartFailed || !strings.Contains(s.Reason, "waiting for workers") {
			t.Errorf("without workers: %+v", s)
		}
		w.add("n1", nil)
		time.Sleep(5 * time.Second)
		if s := w.status("a"); s.State != fleet.StateUnavailable || !s.Settled || !s.StartFailed || !strings.Contains(s.Reason, "1 node lacks the label disk=ssd") {
			t.Errorf("with the wrong worker: %+v", s)
		}
		w.workers = append(w.workers, w.net.StartWorker(fleet.NodeInfo{Node: "n2", Labels: map[string]string{"disk": "ssd"}}))
		w.until(time.Second, "placed on the node that fits", w.converged)
	})
}

// A newer leader has taken a node over. The node refuses orders from here, its
// replicas still count, and the others run the rest.
func TestFencedNode(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2")
		w.deploy(server("a", 1, 2))
		w.workers[0].Obey(fleet.Order{Cluster: "c", Epoch: 9})
		kept := w.workers[0].Running()[0].ID
		w.desired.set(server("a", 1, 6))
		w.until(5*time.Second, "carried by n2", func() bool { return len(w.workers[1].Running()) == 5 && w.status("a").State == fleet.StateReady })
		w.desired.set()
		w.until(5*time.Second, "stopped on n2", func() bool { return len(w.workers[1].Running()) == 0 })
		if got := w.workers[0].Running(); len(got) != 1 || got[0].ID != kept || w.workers[0].Refused() == 0 {
			t.Errorf("the fenced node runs %v and refused %d orders, want %s untouched", got, w.workers[0].Refused(), kept)
		}
	})
}

// A node that is not on disk gets no replica, because a restarted controller would
// not wait for it.
func TestNodeThatCannotBeRemembered(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1")
		w.desired.breaks(errors.New("disk full"))
		w.desired.set(server("a", 1, 1))
		w.control()
		defer w.stop()
		time.Sleep(10 * time.Second)
		if n := len(w.starts()); n != 0 {
			t.Errorf("%d starts on a node that is not on disk, want 0", n)
		}
		w.desired.breaks(nil)
		w.until(3*time.Second, "started", w.converged)
	})
}

func TestUnansweredStartIsNotRepeatedElsewhere(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, "n1", "n2")
		w.net.SetFaults(observetest.Faults{DropAnswer: 1, ReportDelay: 3 * time.Second})
		w.desired.set(server("a", 1, 2))
		w.control()
		defer w.stop()
		w.until(30*time.Second, "deployed", w.converged)
		if n := len(w.starts()); n != 2 {
			t.Errorf("%d starts, want 2: %s", n, fmt.Sprint(w))
		}
	})
}
