package reconcile

import (
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe/observetest"
)

// A server that ends with code 0 while nobody calls it is started ever less
// often. Whoever asks, it is as good as ready, and it starts at once when a call
// waits.
func TestIdleServerRests(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.add("n1", always(observetest.Behaviour{ReadyAfter: 300 * time.Millisecond, ExitAfter: 3 * time.Second}))
		w.desired.set(server("a", 1, 1))
		w.control()
		leader := w.controller
		defer leader.stop()
		follower := w.newController()
		defer follower.stop()
		w.follow(follower)
		w.until(5*time.Second, "deployed", w.converged)
		sensible := func() bool {
			for _, c := range []*controller{leader, follower} {
				s, _ := c.rec.Server("a")
				if s.Ready == 0 && s.State != fleet.StateIdle || !s.Settled || s.StartFailed {
					t.Fatalf("leads: %v: %+v", c == leader, s)
				}
			}
			return false
		}
		for began := time.Now(); time.Since(began) < 5*time.Minute; time.Sleep(50 * time.Millisecond) {
			if time.Since(began) > 10*time.Second { // it takes one end to know what it does
				sensible()
			}
		}
		starts := len(w.starts())
		if starts > 20 {
			t.Errorf("%d starts in five minutes", starts)
		}
		w.until(time.Minute, "it rests", func() bool { return w.status("a").Resting })
		if s := w.status("a"); s.State != fleet.StateIdle || !strings.Contains(s.Reason, "nobody called") {
			t.Errorf("it rests: %+v", s)
		}
		leader.rec.Wake("b")
		time.Sleep(time.Second)
		leader.rec.Wake("a")
		if took := w.until(time.Second, "it serves", func() bool { return len(w.ready("a")) == 1 }); took > 400*time.Millisecond {
			t.Errorf("it served after %v", took)
		}
		w.until(5*time.Second, "it has ended", func() bool { return len(w.ready("a")) == 0 })
		w.until(time.Second, "it starts soon", func() bool { return len(w.ready("a")) == 1 })
	})
}

// A server of which some replicas rest is ready.
func TestIdleReplicasRest(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		ends := 0
		w.add("n1", func(fleet.ServerName, fleet.Revision) observetest.Behaviour {
			if ends++; ends%3 == 0 {
				return observetest.Behaviour{}
			}
			return observetest.Behaviour{ExitAfter: 3 * time.Second}
		})
		w.deploy(server("a", 1, 3))
		w.until(time.Minute, "some rest", func() bool { return w.status("a").Resting && w.status("a").Ready > 0 })
		if s := w.status("a"); s.State != fleet.StateReady || !s.Settled || s.Reason == "" {
			t.Errorf("%+v", s)
		}
	})
}
