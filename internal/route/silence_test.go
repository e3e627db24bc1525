package route

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// A replica that has gone deaf keeps the calls that it has, and gets no new
// ones as long as another can take them.
func TestSilentReplicaGetsNoNewCalls(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		deafOne, good := &worker{name: "deaf"}, &worker{name: "good"}
		b := newBench(t, Server{MaxOngoing: 3, MaxQueued: 20, Replicas: []Replica{{ID: "d", Backend: deafOne}}, CallTimeout: time.Minute})
		b.call("large")
		b.call("second", func(c *fleet.Call) { c.Timeout = 20 * time.Second })
		b.replicas(Replica{ID: "d", Backend: deafOne}, Replica{ID: "g", Backend: good})
		held := []*delivery{deafOne.next(t), deafOne.next(t)}
		serve := func(n int) {
			for range n {
				p := b.call("x")
				good.next(t).ok()
				wantResult(t, p, "x")
			}
		}
		time.Sleep(2 * time.Second)
		// Though it has the least load.
		busy := []*pending{b.call("a"), b.call("b"), b.call("c")}
		var d []*delivery
		for range busy {
			d = append(d, good.next(t))
		}
		if n := (*b.router.servers.Load())["s"].silent(); n != 1 {
			t.Errorf("%d replicas are silent, want 1", n)
		}
		// The other one is full: it may be just slow.
		b.call("spilled", func(c *fleet.Call) { c.Timeout = time.Second })
		spilled := deafOne.next(t)
		d[0].ok()
		serve(3)

		// Calls time out there: now others wait rather than go there.
		time.Sleep(20 * time.Second)
		full := b.call("e")
		e := good.next(t)
		queued := b.call("f")
		b.counts(1, 6)
		d[1].ok()
		good.next(t).ok()
		wantResult(t, queued, "f")
		e.ok()
		wantResult(t, full, "e")

		// Nothing else is there: it is tried.
		spilled.hooks.Released(2)
		time.Sleep(25 * time.Second)
		d[2].ok()
		b.replicas(Replica{ID: "d", Backend: deafOne})
		last := b.call("g")
		deafOne.next(t).ok()
		wantResult(t, last, "g")

		// It answers again.
		b.replicas(Replica{ID: "d", Backend: deafOne}, Replica{ID: "g", Backend: good})
		for _, h := range held {
			h.hooks.Released(0)
		}
		b.counts(0, 0)
		b.call("h")
		b.call("i")
		deafOne.next(t).ok()
		good.next(t).ok()
	})
}

// Replicas that are all equally slow share the calls as ever, and progress is
// an answer.
func TestSlowIsNotSilent(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w1, w2 := &worker{name: "w1"}, &worker{name: "w2"}
		b := newBench(t, Server{MaxOngoing: 4, CallTimeout: time.Hour, MaxCallDuration: time.Hour})
		b.replicas(Replica{ID: "r1", Backend: w1}, Replica{ID: "r2", Backend: w2})
		for range 8 {
			b.call("slow")
			time.Sleep(3 * time.Second)
		}
		if w1.total() != 4 || w2.total() != 4 {
			t.Errorf("%d and %d calls, want 4 each", w1.total(), w2.total())
		}
		s := (*b.router.servers.Load())["s"]
		if n := s.silent(); n != 2 {
			t.Errorf("%d replicas are silent, want 2", n)
		}
		for w1.waiting() {
			d := w1.next(t)
			d.hooks.Progress()
			if n := s.silent(); n != 1 {
				t.Errorf("%d replicas are silent after progress, want 1", n)
			}
			d.ok()
		}
		for w2.waiting() {
			w2.next(t).ok()
		}
		b.counts(0, 0)
	})
}

// A worker that refuses a call for a replica is no sign of the replica's life.
func TestRefusalIsNoAnswer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{MaxOngoing: 4, CallTimeout: time.Hour, MaxCallDuration: time.Hour, Replicas: one(w)})
		b.call("a")
		b.call("b")
		held := []*delivery{w.next(t), w.next(t)}
		time.Sleep(2 * time.Second)
		s := (*b.router.servers.Load())["s"]
		p := b.call("c")
		w.next(t).answer <- outcome{err: fleet.ErrNotDelivered, left: 2}
		b.counts(1, 2)
		if n := s.silent(); n != 1 {
			t.Errorf("%d replicas are silent, want 1", n)
		}
		p.cancel()
		for _, d := range held {
			d.ok()
		}
	})
}

func TestToolOfSomeReplicas(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w1, w2 := &worker{name: "w1"}, &worker{name: "w2"}
		both, fewer := NewTools([]string{"old", "new"}), NewTools([]string{"new"})
		b := newBench(t, Server{MaxOngoing: 2})
		b.replicas(Replica{ID: "r1", Backend: w1, Tools: both}, Replica{ID: "r2", Backend: w2, Tools: fewer})
		tool := func(name string) func(*fleet.Call) { return func(c *fleet.Call) { c.Tool = name } }
		first, second := b.call("1", tool("old")), b.call("2", tool("old"))
		waits := b.call("3", tool("old")) // r2 is idle, and has no such tool
		b.counts(1, 2)
		passes := b.call("4", tool("new"))
		w2.next(t).ok()
		wantResult(t, passes, "4")
		w1.next(t).ok()
		wantResult(t, first, "1")
		w1.next(t).ok()
		wantResult(t, second, "2")
		w1.next(t).ok()
		wantResult(t, waits, "3")

		// Nobody lists it: the server itself shall say so.
		none := b.call("5", tool("none"))
		where(t, []*worker{w1, w2}).next(t).ok()
		wantResult(t, none, "5")

		// All are alike again.
		b.replicas(Replica{ID: "r1", Backend: w1, Tools: fewer}, Replica{ID: "r2", Backend: w2, Tools: fewer})
		b.call("6", tool("old"))
		b.call("7", tool("old"))
		w1.next(t).ok()
		w2.next(t).ok()
		b.counts(0, 0)
	})
}

func TestMetricsOfSuspects(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		reg := prometheus.NewPedanticRegistry()
		workers, replicas := several(3)
		b := &bench{T: t, router: New(Config{Registry: reg}), view: Server{Name: "s", MaxOngoing: 2, MaxQueued: 2, Replicas: replicas}}
		b.update()
		p := b.call("poison", repeatable)
		where(t, workers).next(t).fail(fleet.ErrReplicaLost)
		gauge := func(name string) float64 {
			t.Helper()
			all, err := reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range all {
				if m := f.GetMetric()[0]; f.GetName() == name {
					return m.GetGauge().GetValue() + m.GetCounter().GetValue()
				}
			}
			t.Fatalf("no metric %s", name)
			return 0
		}
		where(t, workers)
		if got := gauge("mcpfleet_calls_quarantined"); got != 1 {
			t.Errorf("%v calls in quarantine, want 1", got)
		}
		where(t, workers).next(t).fail(fleet.ErrReplicaLost)
		time.Sleep(maxAwaitCause) // nothing is heard of how it ended
		wantErr(t, p, fleet.ErrReplicaLost)
		for name, want := range map[string]float64{
			"mcpfleet_calls_quarantined": 0, "mcpfleet_calls_suspect_total": 1,
			"mcpfleet_call_retries_refused_total": 1, "mcpfleet_calls_blamed": 1,
		} {
			if got := gauge(name); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
		b.router.Update(nil)
		if n, err := testutil.GatherAndCount(reg); err != nil || n != 0 {
			t.Errorf("%d series remain, %v", n, err)
		}
	})
}
