package reconcile

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/observe/observetest"
)

func inZone(z string) func(*node) { return func(n *node) { n.Zone = z } }

func TestRebalance(t *testing.T) {
	calls := func(n int) func(*unit) { return func(x *unit) { x.ongoing = n } }
	spare := func(x *unit) { x.spare = true }
	at := func(nodes ...string) (out []*unit) {
		for i, n := range nodes {
			out = append(out, u(fmt.Sprint("r", i+1), n))
		}
		return out
	}
	twoZones := []node{onNode("n1", inZone("x")), onNode("n2", inZone("x")), onNode("n3", inZone("y"))}
	noSurge := func(s *fleet.Spec) {
		s.Update = &fleet.Update{MaxSurge: fleet.Amount{}, MaxUnavailable: fleet.Amount{Count: 1}}
	}
	for _, tt := range []struct {
		name    string
		desired *fleet.Server
		nodes   []node
		units   []*unit
		plan    decision
		arrived []string
		stays   bool
		want    string
	}{
		{name: "nothing arrived", units: at("n1", "n1", "n2"), want: ""},
		{name: "by two: from the fullest", units: at("n1", "n1", "n2"), arrived: []string{"n3"}, want: "r1 from n1 to n3"},
		{name: "by one: as good as before", units: at("n1", "n2", "n2"), arrived: []string{"n1"}, want: ""},
		{name: "to the emptiest, which did not arrive", units: at("n1", "n1"), arrived: []string{"n3"}, want: ""},
		{name: "the one with the fewest calls", units: []*unit{u("r1", "n1", calls(3)), u("r2", "n1", calls(1)), u("r3", "n2"), u("r4", "n2")}, arrived: []string{"n3"},
			want: "r3 from n2 to n3"},
		{name: "between zones, before nodes", nodes: twoZones, units: at("n1", "n1", "n2"), arrived: []string{"n3"}, want: "r1 from n1 to n3"},
		{name: "zones are even by one", nodes: twoZones, units: at("n1", "n2", "n3"), arrived: []string{"n3"}, want: ""},
		{name: "no zone gets less even for nodes", nodes: twoZones, units: at("n1", "n1", "n3", "n3"), arrived: []string{"n2"}, want: "r1 from n1 to n2"},
		{name: "one of several", desired: ptr(server("a", 1, 4)), units: at("n1", "n1", "n1", "n1"), arrived: []string{"n2", "n3"}, want: "r1 from n1 to n2"},
		{name: "no room there", desired: ptr(server("a", 1, 2, func(s *fleet.Spec) { s.Resources.Memory = 100 })), nodes: []node{onNode("n1"), onNode("n2", withMemory(50))},
			units: at("n1", "n1"), arrived: []string{"n2"}, want: ""},
		{name: "only one replica", desired: ptr(server("a", 1, 1)), units: at("n1"), arrived: []string{"n2"}, want: ""},
		{name: "one starts", units: []*unit{u("r1", "n1"), u("r2", "n1"), u("r3", "n2", in(fleet.PhaseStarting))}, arrived: []string{"n3"}, want: ""},
		{name: "one stops", units: append(at("n1", "n1", "n2"), u("r4", "n1", told)), arrived: []string{"n3"}, want: ""},
		{name: "one is moved already", units: []*unit{u("r1", "n1", func(x *unit) { x.moving = &moving{} }), u("r2", "n1"), u("r3", "n2")}, arrived: []string{"n3"}, want: ""},
		{name: "one cannot be reached", units: []*unit{u("r1", "n1"), u("r2", "n1"), u("r3", "n2", cutOff)}, arrived: []string{"n3"}, want: ""},
		{name: "one drains", units: []*unit{u("r1", "n1"), u("r2", "n1"), u("r3", "n2", leaves)}, arrived: []string{"n3"}, want: ""},
		{name: "something is planned", units: at("n1", "n1", "n2"), plan: decision{need: 1}, arrived: []string{"n3"}, want: ""},
		{name: "it has just failed", units: at("n1", "n1", "n2"), arrived: []string{"n3"}, stays: true, want: ""},
		{name: "a rollout", desired: next(2, 3), units: at("n1", "n1", "n2"), arrived: []string{"n3"}, want: ""},
		{name: "no more than wanted may run", desired: ptr(server("a", 1, 3, noSurge)), units: at("n1", "n1", "n2"), arrived: []string{"n3"}, want: ""},
		{name: "spares neither count nor move", units: append(at("n1", "n2", "n2"), u("s1", "n1", spare), u("s2", "n1", spare)), arrived: []string{"n3"}, want: "r2 from n2 to n3"},
	} {
		if tt.nodes == nil {
			tt.nodes = three
		}
		if tt.desired == nil {
			n := count(tt.units, func(u *unit) bool { return !u.spare })
			tt.desired = ptr(server("a", 1, n))
		}
		arrived := make(map[fleet.NodeID]arrival)
		for _, id := range tt.arrived {
			arrived[fleet.NodeID(id)] = arrival{why: "joined"}
		}
		moves := rebalance([]want{{name: "a", desired: tt.desired, units: tt.units}}, []decision{tt.plan}, newRoom(tt.nodes, tt.units), arrived, 9,
			func(fleet.ServerName) bool { return tt.stays })
		got := ""
		for _, m := range moves {
			got += fmt.Sprintf("%s from %s to %s", m.from.id, m.from.node, m.to)
			if why := fmt.Sprintf("moves from node %s to node %s: rebalance after node %s joined", m.from.node, m.to, m.to); m.reason != why {
				t.Errorf("%s: reason %q, want %q", tt.name, m.reason, why)
			}
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// Moves end, whatever the fleet looks like, with every server as even as it can be. No
// more than the given number are made at once.
func TestRebalanceEnds(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 11))
		var nodes []node
		arrived := make(map[fleet.NodeID]arrival)
		for i := range 2 + rnd.IntN(8) {
			n := onNode(fmt.Sprint("n", i), inZone(fmt.Sprint("z", rnd.IntN(3))))
			nodes = append(nodes, n)
			arrived[n.ID] = arrival{}
		}
		var servers []want
		var all []*unit
		for s := range 4 {
			n := 2 + rnd.IntN(12)
			w := want{name: fleet.ServerName(fmt.Sprint("s", s)), desired: ptr(server(fmt.Sprint("s", s), 1, n))}
			for r := range n {
				w.units = append(w.units, u(fmt.Sprint(w.name, "-", r), fmt.Sprint("n", rnd.IntN(len(nodes)))))
			}
			servers, all = append(servers, w), append(all, w.units...)
		}
		for round := 0; ; round++ {
			rm := newRoom(nodes, all)
			moves := rebalance(servers, make([]decision, len(servers)), rm, arrived, 2, func(fleet.ServerName) bool { return false })
			if len(moves) > 2 {
				t.Fatalf("seed %d: %d moves at once", seed, len(moves))
			}
			if len(moves) == 0 {
				break
			}
			if round > len(all) {
				t.Fatalf("seed %d: still moving %s to %s", seed, moves[0].from.id, moves[0].to)
			}
			for _, m := range moves {
				m.from.node = m.to
			}
		}
		for _, w := range servers {
			onNode, inZone := make(map[fleet.NodeID]int), make(map[string]int)
			rm := newRoom(nodes, nil)
			for _, n := range nodes {
				onNode[n.ID], inZone[n.Zone] = 0, 0
			}
			for _, u := range w.units {
				onNode[u.node]++
				inZone[rm.zoneOf(u.node)]++
			}
			for _, a := range nodes {
				for _, b := range nodes {
					if inZone[a.Zone]-inZone[b.Zone] > 1 || a.Zone == b.Zone && onNode[a.ID]-onNode[b.ID] > 1 {
						t.Fatalf("seed %d: %s is uneven: %v %v", seed, w.name, onNode, inZone)
					}
				}
			}
		}
	}
}

func TestMostMoves(t *testing.T) {
	for nodes, want := range map[int]int{1: 2, 20: 2, 29: 2, 30: 3, 100: 10, 1000: 100} {
		if got := mostMoves(nodes); got != want {
			t.Errorf("%d moves at once on %d nodes, want %d", got, nodes, want)
		}
	}
}

func TestArrivals(t *testing.T) {
	type step struct {
		life     string // "": not there
		set      func(*nodeView)
		suspect  bool
		complete bool
		want     string
	}
	now := func(v *nodeView) {}
	cordoned := func(v *nodeView) { v.intent.Cordoned = true }
	drained := func(v *nodeView) { v.intent = fleet.NodeIntent{Cordoned: true, DrainUntil: t0} }
	stops := func(v *nodeView) { v.ending = true }
	silent := func(v *nodeView) { v.node.Connected = false }
	lost := func(v *nodeView) { v.node.Connected, v.node.Lost = false, true }
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"was there before", []step{{"a", now, false, false, ""}, {"a", now, false, true, ""}}},
		{"joins", []step{{"", nil, false, true, ""}, {"a", now, false, true, "joined"}, {"a", now, false, true, "joined"}}},
		{"restarts", []step{{"a", now, false, false, ""}, {"a", stops, false, true, ""}, {"b", now, false, true, "joined"}}},
		{"leaves", []step{{"a", now, false, true, "joined"}, {"", nil, false, true, ""}}},
		{"uncordoned", []step{{"a", now, false, false, ""}, {"a", cordoned, false, true, ""}, {"a", now, false, true, "was uncordoned"}}},
		{"drained", []step{{"a", now, false, false, ""}, {"a", drained, false, true, ""}, {"a", now, false, true, "was uncordoned"}}},
		{"taken back", []step{{"a", now, false, false, ""}, {"a", now, true, true, ""}, {"a", now, false, true, "was taken back"}}},
		{"a blip", []step{{"a", now, false, false, ""}, {"a", silent, false, true, ""}, {"a", now, false, true, "returned"}}},
		{"lost and back", []step{{"a", now, false, false, ""}, {"a", lost, false, true, ""}, {"a", now, false, true, "returned"}}},
		{"joins and is cordoned", []step{{"a", now, false, true, "joined"}, {"a", cordoned, false, true, ""}}},
	} {
		a := newArrivals()
		for i, s := range tt.steps {
			views, suspects := &nodeViews{byName: make(map[fleet.NodeID]*nodeView)}, make(suspicions)
			if s.life != "" {
				v := views.of("n1")
				life := fleet.LifeID(s.life)
				v.known, v.node = true, observe.Node{Member: fleet.Member{Life: life}, Info: fleet.NodeInfo{Life: life}, Connected: true}
				s.set(v)
				views.list = append(views.list, v)
			}
			if s.suspect {
				suspects["n1"] = &suspicion{trouble: trouble{reason: "it flaps"}, until: t0.Add(time.Hour)}
			}
			at := t0.Add(time.Duration(i) * time.Second)
			a.observe(at, views, suspects, s.complete)
			if got, _ := a.settled(at.Add(time.Minute), time.Minute); got["n1"].why != s.want {
				t.Errorf("%s, step %d: %q, want %q", tt.name, i, got["n1"].why, s.want)
			}
		}
	}
	a := newArrivals()
	a.at["n1"] = arrival{t0, "joined"}
	if nodes, wake := a.settled(t0.Add(time.Second), 30*time.Second); len(nodes) != 0 || !wake.Equal(t0.Add(30*time.Second)) {
		t.Errorf("settled %v, look at %v", nodes, wake)
	}
	a.observe(t0.Add(arrivalTime+1), &nodeViews{}, nil, true)
	if len(a.at) != 0 {
		t.Error("an arrival is never forgotten")
	}
}

// After a node has joined, replicas move to it, a few at a time, new before old.
// Nothing else moves.
func TestReplicasMoveToANodeThatJoined(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		slow := always(observetest.Behaviour{ReadyAfter: 300 * time.Millisecond, StopAfter: 2 * time.Second})
		w.addMany(2, slow)
		var servers []fleet.Server
		for i := range 5 {
			servers = append(servers, server(fmt.Sprint("s", i), 1, 6, func(s *fleet.Spec) {
				// What an update may do without is not given up for a move.
				s.Update = &fleet.Update{MaxSurge: fleet.Amount{Count: 1}, MaxUnavailable: fleet.Amount{Count: i}}
			}))
		}
		w.deploy(servers...)
		w.add("n2", slow)
		time.Sleep(DefaultRebalance - 10*time.Millisecond)
		if len(w.workers[2].Starts()) > 0 {
			t.Fatal("moved too early")
		}
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			starting := 0
			for _, s := range servers {
				run := len(w.running(s.Name))
				starting += run - len(w.ready(s.Name))
				for _, r := range w.running(s.Name) {
					if r.Phase == fleet.PhaseDraining {
						starting--
					}
				}
				if n := len(w.ready(s.Name)); n < 6 {
					t.Fatalf("%d replicas of %s serve, want 6\n%s", n, s.Name, w)
				}
				if run > 7 {
					t.Fatalf("%d replicas of %s run, want 7 at most", run, s.Name)
				}
				if st := w.status(s.Name); st.State != fleet.StateReady || !st.Settled {
					t.Fatalf("%s is %s (%s) while it is moved", s.Name, st.State, st.Reason)
				}
			}
			if starting > 2 {
				t.Fatalf("%d replicas start at once\n%s", starting, w)
			}
		}
		time.Sleep(time.Minute)
		for _, s := range servers {
			for i, n := range w.workers {
				on := slices.DeleteFunc(n.Running(), func(r fleet.Replica) bool { return r.Server != s.Name })
				if len(on) != 2 {
					t.Errorf("%d replicas of %s on node %d, want 2", len(on), s.Name, i)
				}
			}
		}
		if n := len(w.workers[2].Starts()); n != 10 {
			t.Errorf("%d starts on the new node, want 10", n)
		}
		moved := 0
		w.controller.mu.Lock()
		for _, e := range w.controller.events {
			if e.Kind == fleet.EventReplicaStarted && strings.HasSuffix(e.Message, "to node n2: rebalance after node n2 joined") {
				moved++
			}
		}
		w.controller.mu.Unlock()
		if moved != 10 {
			t.Errorf("%d events of moves, want 10", moved)
		}
	})
}

// A move whose new replica does not start leaves the old one where it is, and is not
// tried again at once.
func TestMoveThatFails(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2")
		w.deploy(server("a", 1, 4))
		before := fmt.Sprint(w.ready("a"))
		w.add("n3", always(observetest.Behaviour{ReadyAfter: time.Second, FailStart: true}))
		time.Sleep(DefaultRebalance + moveAgain - time.Second)
		if n := len(w.workers[2].Starts()); n != 1 {
			t.Errorf("%d starts on the new node, want 1", n)
		}
		if after := fmt.Sprint(w.ready("a")); after != before {
			t.Errorf("replicas %s, want %s", after, before)
		}
		if s := w.status("a"); s.State != fleet.StateReady || s.Restarts != 0 {
			t.Errorf("status = %+v", s)
		}
	})
}

// A leader that takes over in the middle of a move finds one replica too many, and
// none is missing.
func TestMoveAndFailover(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		slow := always(observetest.Behaviour{ReadyAfter: 2 * time.Second, StopAfter: time.Second})
		w.addMany(2, slow)
		w.desired.set(server("a", 1, 6))
		other := w.newController()
		w.follow(other)
		w.control()
		w.until(10*time.Second, "deployed", w.converged)
		w.add("n2", slow)
		w.until(time.Minute, "a move", func() bool { return len(w.workers[2].Starts()) > 0 })
		old := w.controller
		w.lead(other)
		for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if n := len(w.ready("a")); n < 6 {
				t.Fatalf("%d serve, want 6\n%s", n, w)
			}
			w.noMoreThan(7+1, "a") // one that starts, and one that drains
		}
		if !w.converged() || len(w.workers[2].Running()) != 2 {
			t.Errorf("not even\n%s", w)
		}
		w.stop()
		old.stop()
	})
}
