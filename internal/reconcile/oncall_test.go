package reconcile

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe/observetest"
)

// onCall returns a server that its autoscaling may scale to zero, with this target.
func onCall(target int) fleet.Server {
	s := server("a", 1, 0)
	s.Spec.Autoscaling = &fleet.Autoscaling{MaxReplicas: 100}
	s.Target = fleet.Target{Replicas: target, By: fleet.ByAutoscaling}
	return s
}

// A server that runs only while it is called is settled while it starts for a call,
// and when its replicas go before this controller knows that it is idle. It is not
// when they fail.
func TestOnCallServerIsSettled(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.add("n1", always(observetest.Behaviour{ReadyAfter: time.Second}))
		w.control()
		defer w.stop()
		w.desired.set(onCall(1))
		time.Sleep(1500 * time.Millisecond) // the first half settles
		if s := w.status("a"); s.Settled {
			t.Errorf("before its first start: %+v", s)
		}
		w.until(time.Second, "it serves", func() bool { return len(w.ready("a")) == 1 })
		w.desired.set(onCall(0))
		w.until(time.Second, "idle", func() bool { return w.status("a").State == fleet.StateIdle })
		w.desired.set(onCall(1))
		time.Sleep(500 * time.Millisecond)
		if s := w.status("a"); !s.Settled || s.State != fleet.StateDeploying {
			t.Errorf("started for a call: %+v", s)
		}
		w.until(time.Second, "it serves again", func() bool { return len(w.ready("a")) == 1 })
		w.crash(rand.New(rand.NewPCG(1, 1)), "a")
		time.Sleep(500 * time.Millisecond)
		if s := w.status("a"); s.Settled {
			t.Errorf("its replica crashed: %+v", s)
		}
		w.until(time.Second, "it serves once more", func() bool { return w.status("a").Settled })
	})
}

// A server that runs only while it is called, and does not start, causes few starts
// however many replicas its calls ask for. It says why, at once and while it is idle
// again, until it may be tried once more.
func TestOnCallServerThatDoesNotStart(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.add("n1", always(observetest.Behaviour{FailStart: true, ReadyAfter: 10 * time.Millisecond}))
		w.control()
		defer w.stop()
		w.desired.set(onCall(0))
		w.until(5*time.Second, "idle", func() bool { return w.status("a").State == fleet.StateIdle })
		if s := w.status("a"); !s.Settled || s.StartFailed || len(w.starts()) > 0 {
			t.Errorf("before the first call: %+v", s)
		}
		w.desired.set(onCall(50))
		w.until(2*time.Second, "its failure is known", func() bool { return w.status("a").StartFailed })
		if n := len(w.starts()); n > startsUnproven {
			t.Errorf("%d starts for the first calls", n)
		}
		time.Sleep(500 * time.Millisecond)
		if n := len(w.starts()); n > startsUnproven {
			t.Errorf("%d starts half a second later", n)
		}
		w.desired.set(onCall(0))
		w.until(time.Second, "idle again", func() bool { return w.status("a").State == fleet.StateIdle })
		if s := w.status("a"); !s.StartFailed || !s.Settled || !strings.HasPrefix(s.Reason, textIdleFailed) {
			t.Errorf("idle again: %+v", s)
		}
		before := len(w.starts())
		if took := w.until(2*time.Second, "a call may start it", func() bool { return !w.status("a").StartFailed }); took < 100*time.Millisecond {
			t.Errorf("it may be tried again after %v", took)
		}
		if n := len(w.starts()); n != before {
			t.Errorf("%d starts while it is idle", n-before)
		}
		w.behave(always(observetest.Behaviour{}))
		w.desired.set(onCall(1))
		w.until(time.Second, "it serves", func() bool { return len(w.ready("a")) == 1 })
	})
}

// Calls to an idle server do not fail because its new revision does not start: the
// revision before is started for them.
func TestOnCallServerFallsBack(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.add("n1", func(_ fleet.ServerName, r fleet.Revision) observetest.Behaviour {
			return observetest.Behaviour{FailStart: r == 2, ReadyAfter: 10 * time.Millisecond}
		})
		w.control()
		defer w.stop()
		before, next := onCall(0), onCall(0)
		next.Revision, next.Spec.Template.Image = 2, "a:2"
		next = upgraded(before, next)
		next.Rollout.From = 1
		w.desired.set(next)
		w.until(5*time.Second, "its start has failed", func() bool { return strings.HasPrefix(w.status("a").Reason, textIdleFailed) })
		if s := w.status("a"); s.StartFailed {
			t.Errorf("idle: %+v", s)
		}
		next.Target.Replicas = 1
		w.desired.set(next)
		took := w.until(time.Second, "it serves", func() bool {
			if s := w.status("a"); s.StartFailed {
				t.Fatalf("woken: %+v", s)
			}
			return len(w.ready("a")) == 1
		})
		if took > 100*time.Millisecond {
			t.Errorf("it serves after %v", took)
		}
	})
}

// A server that starts because it is called is being deployed. That is no outage.
func TestWokenServerIsDeploying(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.add("n1", always(observetest.Behaviour{ReadyAfter: 300 * time.Millisecond}))
		w.control()
		defer w.stop()
		for range 3 {
			w.desired.set(onCall(0))
			w.until(5*time.Second, "idle", func() bool { return w.status("a").State == fleet.StateIdle && len(w.running("a")) == 0 })
			w.desired.set(onCall(1))
			w.until(2*time.Second, "it starts", func() bool { return len(w.running("a")) == 1 })
			if s := w.status("a"); s.State != fleet.StateDeploying || s.StartFailed {
				t.Errorf("while it starts: %+v", s)
			}
			w.until(time.Second, "it serves", func() bool { return w.status("a").State == fleet.StateReady })
		}
	})
}
