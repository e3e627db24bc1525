package reconcile

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe/observetest"
)

// simulate runs a simulation with several seeds, and with many more under
// -timeout=0.
func simulate(t *testing.T, run func(t *testing.T, seed uint64)) {
	seeds := uint64(5)
	if _, bounded := t.Deadline(); !bounded {
		seeds = 150
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) { run(t, seed) })
		})
	}
}

// addMany adds workers n0, n1, ... whose replicas go like that.
func (w *world) addMany(n int, how func(fleet.ServerName, fleet.Revision) observetest.Behaviour) {
	for i := range n {
		w.add(fmt.Sprint("n", i), how)
	}
}

// crash ends one of the replicas of a server.
func (w *world) crash(rnd *rand.Rand, server fleet.ServerName) {
	run := w.running(server)
	if len(run) == 0 {
		return
	}
	victim := run[rnd.IntN(len(run))].ID
	for _, n := range w.workers {
		n.End(victim)
	}
}

// surge returns how many replicas more than wanted may run during an update.
func surge(wanted int) int { return max(1, (wanted+3)/4) }

// noMoreThan fails the test if more replicas of a server run. Those that drain do
// not count.
func (w *world) noMoreThan(limit int, server fleet.ServerName) {
	w.t.Helper()
	run := slices.DeleteFunc(w.running(server), func(r fleet.Replica) bool { return r.Phase == fleet.PhaseDraining })
	if len(run) > limit {
		w.t.Fatalf("%d replicas of %s run, want at most %d\n%s", len(run), server, limit, w)
	}
}

// The network drops, repeats, delays and reorders orders, loses answers, delays
// reports and breaks streams. Meanwhile replicas crash, counts and revisions change,
// and controllers restart and take over from each other, mostly while the one before
// goes on as if it still led. There is never one replica too many. When the network
// behaves again, exactly the desired replicas run.
func TestFaultyNetwork(t *testing.T) {
	simulate(t, faultyNetwork)
}

var bad = observetest.Faults{
	DropOrder: 0.3, DropAnswer: 0.3, Duplicate: 0.5, BreakStream: 0.02,
	OrderDelay: 700 * time.Millisecond, ReportDelay: 600 * time.Millisecond,
}

func faultyNetwork(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 99))
	w := newWorld(t, seed)
	w.rebalanceAfter = time.Hour // what streams that break leave uneven may stay so
	w.addMany(4, always(observetest.Behaviour{ReadyAfter: 200 * time.Millisecond, StopAfter: 300 * time.Millisecond}))
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
			// Draining replicas of an earlier, larger count still run.
			most[fleet.ServerName(name)] = max(most[fleet.ServerName(name)], n+surge(n))
		}
		w.desired.set(list...)
	}
	check := func() {
		for name, limit := range most {
			w.noMoreThan(limit, name)
		}
	}
	pause := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			check()
		}
	}
	apply()
	others := []*controller{w.newController(), w.newController()}
	for _, c := range others {
		w.follow(c)
	}
	w.control()
	for range 12 {
		pause(time.Duration(rnd.IntN(5000)) * time.Millisecond)
		switch rnd.IntN(5) {
		case 0:
			apply()
		case 1:
			w.stop()
			w.control()
		case 2: // the old leader does not know yet
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
	for _, c := range others {
		c.stop()
	}
}

// Replicas die during a rollout, at its end, and after it, on a bad network. Until
// the rollout is known to be over, the old revision may come back beside the new one,
// within the surge. Afterwards it may not.
func TestKillsAroundARollout(t *testing.T) {
	simulate(t, killsAroundARollout)
}

func killsAroundARollout(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 7))
	w := newWorld(t, seed)
	w.addMany(3, always(observetest.Behaviour{ReadyAfter: 200 * time.Millisecond, StopAfter: 300 * time.Millisecond}))
	n := 1 + rnd.IntN(5)
	most := n
	check := func() { w.noMoreThan(most, "a") }
	kill := func() { // for a while, one in half a second
		w.net.SetFaults(bad)
		for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			check()
			if len(w.running("a")) > 0 && rnd.IntN(25) == 0 {
				w.crash(rnd, "a")
			}
		}
		w.net.SetFaults(observetest.Faults{})
		w.until(time.Minute, "what is desired, and nothing else", func() bool { check(); return w.converged() })
	}
	before := server("a", 1, n)
	w.desired.set(before)
	w.control()
	defer w.stop()
	kill()
	most = n + surge(n)
	w.desired.set(upgraded(before, server("a", 2, n)))
	kill()
	w.until(time.Minute, "the end of the rollout", func() bool { check(); return len(w.desired.ended()) > 0 })
	most = n
	kill()
}

// Nodes die, are cut off, and come back in the same life and in new ones, with or
// without gossip noticing. In the end exactly the desired replicas run.
func TestNodesComeAndGo(t *testing.T) {
	simulate(t, comeAndGo)
}

func comeAndGo(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 77))
	w := newWorld(t, seed)
	how := always(observetest.Behaviour{ReadyAfter: 150 * time.Millisecond, StopAfter: 100 * time.Millisecond})
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

// Leaders change while the network blips, and old leaders go on giving orders. No
// replica is lost, started or stopped.
func TestBlipsAndFailovers(t *testing.T) {
	simulate(t, blips)
}

func blips(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 55))
	w := newWorld(t, seed, "n0", "n1", "n2")
	w.net.SetFaults(observetest.Faults{OrderDelay: 50 * time.Millisecond, ReportDelay: 100 * time.Millisecond})
	w.desired.set(server("a", 1, 6), server("b", 1, 3))
	others := []*controller{w.newController(), w.newController()}
	for _, c := range others {
		w.follow(c)
	}
	w.control()
	w.until(20*time.Second, "deployed", w.converged)
	before := fmt.Sprint(w.ready("a"), w.ready("b"))
	starts := len(w.starts())
	for range 15 {
		n := w.workers[rnd.IntN(3)]
		n.Cut(true)
		dead := rnd.IntN(2) == 0
		if dead {
			time.Sleep(time.Duration(rnd.IntN(3000)) * time.Millisecond)
			w.net.List(n, false)
		}
		if rnd.IntN(2) == 0 {
			old := w.controller
			w.lead(others[0])
			others = append(others[1:], old)
		}
		time.Sleep(time.Duration(rnd.IntN(5500)) * time.Millisecond) // a second of the grace is for finding it again
		n.Cut(false)
		if dead {
			w.net.List(n, true)
		}
		if rnd.IntN(2) == 0 {
			w.follow(others[0])
		}
		time.Sleep(time.Duration(1500+rnd.IntN(3000)) * time.Millisecond) // until all have found it, or two blips are one
		w.until(20*time.Second, "all is as before", func() bool {
			if len(w.starts()) != starts {
				t.Fatalf("%d starts, want none\n%s", len(w.starts())-starts, w)
			}
			return w.converged() && fmt.Sprint(w.ready("a"), w.ready("b")) == before
		})
	}
	w.stop()
	for _, c := range others {
		c.stop()
	}
}

// Nodes are drained and freed, servers are restarted and rolled out, and leaders
// change, on a network that only delays. Never do fewer replicas serve than are
// wanted. If the newest revision does not work, the one before serves on.
func TestMovesLoseNothing(t *testing.T) {
	simulate(t, moves)
}

func moves(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 33))
	w := newWorld(t, seed)
	broken := func(r fleet.Revision) bool { return r%3 == 2 }
	w.addMany(4, func(_ fleet.ServerName, r fleet.Revision) observetest.Behaviour {
		return observetest.Behaviour{ReadyAfter: 150 * time.Millisecond, StopAfter: 100 * time.Millisecond, FailStart: broken(r)}
	})
	w.net.SetFaults(observetest.Faults{OrderDelay: 100 * time.Millisecond, ReportDelay: 100 * time.Millisecond})
	const wanted = 5
	w.desired.set(server("a", 1, wanted))
	others := []*controller{w.newController()}
	w.follow(others[0])
	w.control()
	w.until(20*time.Second, "deployed", w.converged)
	pause := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if n := len(w.ready("a")); n < wanted {
				t.Fatalf("%d serve, want %d\n%s", n, wanted, w)
			}
		}
	}
	stable := server("a", 1, wanted)
	for range 20 {
		pause(time.Duration(rnd.IntN(6000)) * time.Millisecond)
		now := w.desired.Servers()[0]
		if !now.Rolling() {
			stable = now
		}
		node := fleet.NodeID(fmt.Sprint("n", rnd.IntN(4)))
		switch rnd.IntN(5) {
		case 0:
			for id := range w.desired.Nodes() { // one at a time
				w.desired.intend(id, fleet.NodeIntent{})
			}
			w.desired.intend(node, fleet.NodeIntent{Cordoned: true, DrainUntil: time.Now().Add(time.Minute)})
		case 1:
			w.desired.intend(node, fleet.NodeIntent{})
		case 2:
			next := server("a", now.Revision+1, wanted)
			next.Generation = now.Generation
			w.desired.set(upgraded(stable, next))
		case 3:
			if !now.Rolling() {
				w.desired.set(restarted(now, now.Generation+1))
			}
		case 4:
			old := w.controller
			w.lead(others[0])
			others[0] = old
			pause(time.Duration(rnd.IntN(3000)) * time.Millisecond)
			w.follow(old)
		}
	}
	last := w.desired.Servers()[0]
	next := server("a", 3*(last.Revision+1), wanted)
	next.Generation = last.Generation
	w.desired.set(upgraded(stable, next))
	pause(40 * time.Second)
	if !w.converged() || w.desired.Servers()[0].Rolling() {
		t.Errorf("not what is desired, or still rolling\n%s", w)
	}
	w.stop()
	others[0].stop()
}
