package reconcile

import (
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe/observetest"
)

// leave ends a worker that has no replica left, like one that was asked to stop.
func (w *world) leave(n *observetest.Worker) {
	w.net.List(n, false)
	n.Kill()
}

func (w *world) empty(n *observetest.Worker) func() bool {
	return func() bool { return len(n.Running()) == 0 }
}

// When all workers stop, no replica waits for room that cannot appear, not even if
// they are asked to stop one after the other.
func TestAllWorkersStop(t *testing.T) {
	for _, apart := range []time.Duration{0, 50 * time.Millisecond, time.Second} {
		bubble.Test(t, func(t *testing.T) {
			w := newWorld(t, 1, "n1", "n2", "n3")
			w.behave(always(observetest.Behaviour{ReadyAfter: 300 * time.Millisecond, StopAfter: 100 * time.Millisecond}))
			w.deploy(server("a", 1, 6), server("b", 1, 1))
			for _, n := range w.workers {
				n.Drain()
				time.Sleep(apart)
			}
			took := w.until(10*time.Second, "all are empty", func() bool {
				return len(w.running("a"))+len(w.running("b")) == 0
			})
			if took > time.Second {
				t.Errorf("they were empty %s after the last was asked to stop", took)
			}
		})
	}
}

// A worker waits for room that may appear: on a node that is full, unreachable, or
// being restarted.
func TestStoppingWorkerWaitsForRoom(t *testing.T) {
	t.Run("out of reach", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			w := newWorld(t, 1, "n1", "n2")
			w.deploy(server("a", 1, 2))
			w.workers[1].Cut(true)
			w.workers[0].Drain()
			time.Sleep(5 * time.Second)
			if len(w.workers[0].Running()) == 0 {
				t.Error("it did not wait")
			}
			w.workers[1].Cut(false)
			w.until(5*time.Second, "its replica has moved", w.empty(w.workers[0]))
			if got := len(w.ready("a")); got != 2 {
				t.Errorf("%d serve", got)
			}
		})
	})
	t.Run("restarted", func(t *testing.T) {
		for away, moves := range map[time.Duration]bool{restartTime - time.Second: true, restartTime + 2*time.Second: false} {
			bubble.Test(t, func(t *testing.T) {
				w := newWorld(t, 1, "n1", "n2")
				w.deploy(server("a", 1, 2))
				w.workers[0].Drain()
				w.until(5*time.Second, "its replica has moved", w.empty(w.workers[0]))
				w.leave(w.workers[0])
				time.Sleep(100 * time.Millisecond)
				w.workers[1].Drain() // before the first is back
				time.Sleep(away)
				if left := len(w.workers[1].Running()); (left == 2) != moves {
					t.Errorf("%s later %d replicas run", away, left)
				}
				back := w.add("n1", nil)
				w.until(10*time.Second, "the replicas are back", func() bool { return len(back.Running()) == 2 && len(w.ready("a")) == 2 })
			})
		}
	})
	t.Run("cordoned", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			w := newWorld(t, 1, "n1", "n2")
			w.deploy(server("a", 1, 2))
			w.desired.intend("n2", fleet.NodeIntent{Cordoned: true})
			w.workers[0].Drain()
			w.until(time.Second, "its replica has ended", w.empty(w.workers[0]))
			if got := len(w.workers[1].Running()); got != 1 {
				t.Errorf("the cordoned node runs %d", got)
			}
		})
	})
	t.Run("drained by hand", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			w := newWorld(t, 1, "n1")
			w.deploy(server("a", 1, 2))
			w.desired.intend("n1", fleet.NodeIntent{Cordoned: true, DrainUntil: time.Now().Add(time.Minute)})
			time.Sleep(50 * time.Second)
			if got := len(w.ready("a")); got != 2 {
				t.Errorf("%d serve before the deadline that was given", got)
			}
		})
	})
}

// A leader fences a worker that is stopping every second. It fences no other worker
// again, and none after its tenure.
func TestLeaderRenewsFences(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2", "n3")
		w.deploy(server("a", 1, 3))
		w.workers[1].Cut(true) // the replica on n1 waits for room on n2
		w.desired.intend("n3", fleet.NodeIntent{Cordoned: true})
		before := []int{w.workers[0].Fences(), w.workers[2].Fences()}
		w.workers[0].Drain()
		time.Sleep(9500 * time.Millisecond)
		if got := w.workers[0].Fences() - before[0]; got != 9 && got != 10 {
			t.Errorf("%d fences in 9.5 s, want one a second", got)
		}
		if got := w.workers[2].Fences() - before[1]; got != 0 {
			t.Errorf("a worker that does not stop got %d", got)
		}
		w.follow(w.controller)
		led := w.workers[0].Fences()
		time.Sleep(5 * time.Second)
		if got := w.workers[0].Fences() - led; got != 0 {
			t.Errorf("a follower sent %d", got)
		}
	})
}
