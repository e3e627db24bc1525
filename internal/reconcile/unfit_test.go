package reconcile

import (
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// A node that refuses starts gets none while others have room, and what it runs
// stays where it is.
func TestUnfitNodeIsPassedOver(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2", "n3")
		w.deploy(server("a", 1, 3))
		before := len(w.workers[0].Starts())

		w.workers[0].SetUnfit("its disk is full")
		w.desired.set(server("a", 1, 6))
		if took := w.until(5*time.Second, "six replicas", w.converged); took > time.Second {
			t.Errorf("it took %s", took)
		}
		if got := len(w.workers[0].Starts()); got != before || len(w.workers[0].Running()) != before {
			t.Errorf("n1 has %d replicas after %d starts, want %d: those it had", len(w.workers[0].Running()), got, before)
		}
		for _, n := range w.workers[1:] {
			n.SetUnfit("its disk is full")
		}
		w.desired.set(server("a", 1, 7))
		time.Sleep(time.Minute)
		if s := w.status("a"); s.Ready != 6 || !strings.Contains(s.Reason, "no node fits: 3 nodes start no replicas (its disk is full)") {
			t.Errorf("when no node takes any: %+v", s)
		}
		w.workers[0].SetUnfit("")
		w.until(5*time.Second, "seven replicas", w.converged)
	})
}

// A start that is refused before the node has reported why goes elsewhere at
// once.
func TestRefusedStartGoesElsewhere(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2")
		w.deploy(server("a", 1, 2))
		w.workers[0].Mute(3 * time.Second)
		w.workers[0].SetUnfit("its disk is full")
		w.desired.set(server("a", 1, 4))
		w.until(time.Second, "four replicas", func() bool { return len(w.running("a")) == 4 })
		if w.workers[0].Refused() == 0 {
			t.Error("n1 was not asked: the test shows nothing")
		}
		if got := len(w.workers[0].Running()); got != 1 {
			t.Errorf("n1 runs %d", got)
		}
		plan, err := w.rec.Preview(t.Context(), []fleet.Server{server("a", 1, 6)}, nil)
		if err != nil || len(plan) != 2 {
			t.Fatalf("preview of two more: %v, %v", lines(plan), err)
		}
		for _, p := range plan {
			if p.Node != "n2" {
				t.Errorf("preview places a replica on node %q, which refuses it", p.Node)
			}
		}
	})
}

// A replica that was told to stop and does not hear of it still answers calls:
// the rollout is not over, and the server is not READY.
func TestRolloutWaitsForStops(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2", "n3")
		w.deploy(server("a", 1, 3))
		w.workers[0].RefuseStops(true)
		next := server("a", 2, 3)
		next.Rollout = &fleet.Rollout{}
		w.desired.set(next)
		time.Sleep(time.Minute)
		s := w.status("a")
		if s.State != fleet.StateUpdating || !strings.Contains(s.Reason, "of the revision before") ||
			!strings.Contains(s.Reason, "node n1 has not answered the order to stop replica") {
			t.Errorf("while one of revision 1 serves: %+v", s)
		}
		if ended := w.desired.ended(); len(ended) > 0 {
			t.Errorf("rollouts ended: %v", ended)
		}
		w.workers[0].RefuseStops(false)
		w.until(5*time.Second, "rolled out", func() bool { return w.converged() && len(w.desired.ended()) == 1 })
		if s := w.status("a"); s.State != fleet.StateReady || !s.Settled {
			t.Errorf("afterwards: %+v", s)
		}
	})
}
