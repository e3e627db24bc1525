package reconcile

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe/observetest"
)

// Targets, numbers of spares and revisions change on a faulty network while replicas and
// spares crash, and controllers take over from each other. There is never a replica or a
// spare too many. When the network behaves again, exactly the wanted ones run.
func TestSparesOnAFaultyNetwork(t *testing.T) {
	simulate(t, sparesOnAFaultyNetwork)
}

func sparesOnAFaultyNetwork(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 5))
	w := newWorld(t, seed)
	w.rebalanceAfter = time.Hour
	w.addMany(3, always(observetest.Behaviour{ReadyAfter: 200 * time.Millisecond, StopAfter: 300 * time.Millisecond}))
	w.net.SetFaults(bad)
	most, mostSpares := 0, 4 // those of the revision before may still stop
	rev := fleet.Revision(1)
	apply := func() fleet.Server {
		n, warm := rnd.IntN(5), rnd.IntN(3)
		if rnd.IntN(4) == 0 {
			rev++
		}
		s := *idle(server("a", rev, n, func(s *fleet.Spec) { s.Warm = warm }))
		s.Target.Replicas = n
		most = max(most, n+surge(n))
		w.desired.set(s)
		return s
	}
	pause := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			replicas, spares := 0, 0
			for _, r := range w.running("a") {
				switch {
				case r.Phase == fleet.PhaseDraining || w.net.StopOrdered(r.ID):
				case r.Spare:
					spares++
				default:
					replicas++
				}
			}
			if replicas > most || spares > mostSpares {
				t.Fatalf("%d replicas and %d spares run, want at most %d and %d\n%s", replicas, spares, most, mostSpares, w)
			}
		}
	}
	apply()
	others := []*controller{w.newController(), w.newController()}
	for _, c := range others {
		w.follow(c)
	}
	w.control()
	for range 15 {
		pause(time.Duration(rnd.IntN(4000)) * time.Millisecond)
		switch rnd.IntN(6) {
		case 0, 1:
			apply()
		case 2:
			old := w.controller
			w.lead(others[0])
			others = append(others[1:], old)
		case 3:
			for _, c := range others {
				w.follow(c)
			}
		default:
			w.crash(rnd, "a")
		}
	}
	s := apply()
	pause(60 * time.Second)
	w.net.SetFaults(observetest.Faults{})
	exact := func() bool {
		run := w.running("a")
		spares := 0
		for _, r := range run {
			if r.Phase != fleet.PhaseReady || r.Revision != s.Revision {
				return false
			}
			if r.Spare {
				spares++
			}
		}
		st := w.status("a")
		return spares == s.Spec.Warm && len(run) == s.Target.Replicas+spares && st.Ready == s.Target.Replicas && st.Spares == spares
	}
	w.until(40*time.Second, "what is desired, and nothing else", exact)
	before := fmt.Sprint(w.ready("a"))
	pause(30 * time.Second)
	if after := fmt.Sprint(w.ready("a")); after != before || !exact() {
		t.Errorf("a quiet fleet changed: %s, want %s", after, before)
	}
	w.stop()
	for _, c := range others {
		c.stop()
	}
}
