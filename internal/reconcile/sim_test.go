package reconcile

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe/observetest"
)

// The network drops, repeats, delays and reorders orders, loses answers, delays
// reports and breaks streams, while replicas crash, counts and revisions change
// and the controller is restarted. Never does one replica too many run, and
// when the network behaves again exactly what is desired runs.
func TestFaultyNetwork(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) { faultyNetwork(t, seed) })
		})
	}
}

var bad = observetest.Faults{
	DropOrder: 0.3, DropAnswer: 0.3, Duplicate: 0.5, BreakStream: 0.02,
	OrderDelay: 700 * time.Millisecond, ReportDelay: 600 * time.Millisecond,
}

func faultyNetwork(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 99))
	w := newWorld(t, seed)
	for i := range 4 {
		w.add(fmt.Sprint("n", i), func(fleet.ServerName, fleet.Revision) observetest.Behaviour {
			return observetest.Behaviour{ReadyAfter: 200 * time.Millisecond, StopAfter: 300 * time.Millisecond}
		})
	}
	w.net.SetFaults(bad)
	most := map[fleet.ServerName]int{}
	apply := func() {
		var list []fleet.Server
		for _, name := range []string{"a", "b"} {
			rev, n := fleet.Revision(1+rnd.IntN(3)), rnd.IntN(7)
			if rnd.IntN(6) == 0 {
				continue // removed
			}
			list = append(list, server(name, rev, n))
			// What drains of an earlier, larger count still runs.
			most[fleet.ServerName(name)] = max(most[fleet.ServerName(name)], n+surge(n))
		}
		w.desired.set(list...)
	}
	check := func() {
		for name, limit := range most {
			if run := w.running(name); len(run) > limit {
				t.Fatalf("%d replicas of %s run, want at most %d\n%s", len(run), name, limit, w)
			}
		}
	}
	pause := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			check()
		}
	}
	apply()
	w.control()
	for range 12 {
		pause(time.Duration(rnd.IntN(5000)) * time.Millisecond)
		switch rnd.IntN(4) {
		case 0:
			apply()
		case 1:
			w.stop()
			w.control()
		default:
			if run := w.running("a"); len(run) > 0 {
				victim := run[rnd.IntN(len(run))].ID
				for _, n := range w.workers {
					n.End(victim)
				}
			}
		}
	}
	w.desired.set(server("a", 9, 5), server("b", 9, 2))
	most["a"], most["b"] = max(most["a"], 7), max(most["b"], 3)
	pause(60 * time.Second) // the network is bad, but it converges
	w.net.SetFaults(observetest.Faults{})
	w.until(40*time.Second, "what is desired, and nothing else", func() bool { check(); return w.converged() })
	before := fmt.Sprint(w.ready("a"), w.ready("b"))
	pause(30 * time.Second)
	if after := fmt.Sprint(w.ready("a"), w.ready("b")); after != before {
		t.Errorf("a quiet fleet changed: %s, want %s", after, before)
	}
	w.stop()
}

// Nodes die, are cut off, come back in the same life and in new ones, with or
// without gossip noticing. On nodes that the controller can reach there is
// never one replica too many for long, and in the end exactly what is desired
// runs.
func TestNodesComeAndGo(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) { comeAndGo(t, seed) })
		})
	}
}

func comeAndGo(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 77))
	w := newWorld(t, seed)
	how := func(fleet.ServerName, fleet.Revision) observetest.Behaviour {
		return observetest.Behaviour{ReadyAfter: 150 * time.Millisecond, StopAfter: 100 * time.Millisecond}
	}
	at := map[int]*observetest.Worker{}
	for i := range 4 {
		at[i] = w.add(fmt.Sprint("n", i), how)
	}
	w.net.SetFaults(observetest.Faults{DropOrder: 0.1, DropAnswer: 0.1, Duplicate: 0.3, OrderDelay: 200 * time.Millisecond, ReportDelay: 100 * time.Millisecond})
	rev := fleet.Revision(1)
	w.desired.set(server("a", rev, 6))
	w.control()
	defer func() { w.stop() }()
	for range 15 {
		time.Sleep(time.Duration(rnd.IntN(8000)) * time.Millisecond)
		i := rnd.IntN(4)
		n := at[i]
		switch rnd.IntN(6) {
		case 0: // dies, gossip notices, returns
			n.Kill()
			time.Sleep(time.Duration(rnd.IntN(3000)) * time.Millisecond)
			w.net.List(n, false)
			time.Sleep(time.Duration(rnd.IntN(3000)) * time.Millisecond)
			at[i] = w.add(fmt.Sprint("n", i), how)
		case 1: // dies and returns before gossip notices
			n.Kill()
			at[i] = w.add(fmt.Sprint("n", i), how)
			time.Sleep(time.Duration(rnd.IntN(3000)) * time.Millisecond)
			w.net.List(n, false)
		case 2: // is cut off
			n.Cut(true)
			time.Sleep(time.Duration(rnd.IntN(20000)) * time.Millisecond)
			n.Cut(false)
		case 3: // is cut off, gossip notices
			n.Cut(true)
			w.net.List(n, false)
			time.Sleep(time.Duration(rnd.IntN(3000)) * time.Millisecond)
			n.Cut(false)
			w.net.List(n, true)
		case 4: // falls silent
			n.Mute(time.Duration(rnd.IntN(15000)) * time.Millisecond)
		default:
			rev++
			w.desired.set(server("a", rev, 4+rnd.IntN(4)))
		}
	}
	w.net.SetFaults(observetest.Faults{})
	w.until(40*time.Second, "what is desired, and nothing else", w.converged)
	if s := w.status("a"); s.Restarts != 0 {
		t.Errorf("restarts = %d, want 0: no replica failed by itself", s.Restarts)
	}
}
