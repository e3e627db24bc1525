package reconcile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

var t0 = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// u makes a unit of revision 1 that serves on a node since long ago.
func u(id, node string, set ...func(*unit)) *unit {
	x := &unit{
		id: fleet.ReplicaID(id), server: "a", rev: 1, node: fleet.NodeID(node), observed: true, reachable: true,
		phase: fleet.PhaseReady, startedAt: t0.Add(-time.Hour), readyAt: t0.Add(-time.Hour),
	}
	for _, f := range set {
		f(x)
	}
	return x
}

func rev(r fleet.Revision) func(*unit) { return func(x *unit) { x.rev = r } }
func in(p fleet.Phase) func(*unit) {
	return func(x *unit) {
		if x.phase = p; p < fleet.PhaseReady {
			x.readyAt = time.Time{}
		}
	}
}
func age(d time.Duration) func(*unit) { return func(x *unit) { x.startedAt = t0.Add(-d) } }
func holds(memory int64) func(*unit)  { return func(x *unit) { x.resources.Memory = memory } }
func sick(x *unit)                    { x.unhealthy = true }
func cutOff(x *unit)                  { x.reachable = false }
func leaves(x *unit)                  { x.leaves = true }
func expired(x *unit)                 { x.leaves, x.expired = true, true }
func gen(n uint64) func(*unit)        { return func(x *unit) { x.gen = n } }
func told(x *unit)                    { x.stop = &order{} }
func onNode(id string, set ...func(*node)) node {
	n := node{ID: fleet.NodeID(id), Connected: true, Runtimes: []string{fleet.RuntimePodman}}
	for _, f := range set {
		f(&n)
	}
	return n
}
func withMemory(m int64) func(*node) { return func(n *node) { n.Capacity.Memory = m } }
func isDraining(n *node)             { n.Draining = true }

func isCordoned(n *node) { n.Cordoned = true }

// next is a revision that is to take the place of revision 1, the stable one.
func next(rev fleet.Revision, replicas int, set ...func(*fleet.Spec)) *fleet.Server {
	return ptr(upgraded(server("a", 1, replicas, set...), server("a", rev, replicas, set...)))
}

// scaled is a server with a target other than the number in its spec.
func scaled(s fleet.Server, replicas int) *fleet.Server {
	s.Target = fleet.Target{Replicas: replicas, By: fleet.ByScale}
	return &s
}

func idle(s fleet.Server) *fleet.Server {
	s.Spec.Autoscaling = &fleet.Autoscaling{DownscaleDelay: time.Minute}
	s.Target = fleet.Target{By: fleet.ByAutoscaling}
	return &s
}

var three = []node{onNode("n1"), onNode("n2"), onNode("n3")}

// does puts a decision in lines: what, where, why.
func does(d decision) []string {
	out := []string{}
	for _, a := range d.actions {
		if a.stop != nil {
			out = append(out, fmt.Sprintf("stop %s: %s", a.stop.id, a.reason))
		} else if a.activate != nil {
			out = append(out, fmt.Sprintf("activate %s: %s", a.activate.id, a.reason))
		} else if a.raw {
			out = append(out, fmt.Sprintf("start raw %d on %s", a.rev, a.node))
		} else if a.spare {
			out = append(out, fmt.Sprintf("start spare %d on %s", a.rev, a.node))
		} else {
			out = append(out, fmt.Sprintf("start %d on %s: %s", a.rev, a.node, a.reason))
		}
	}
	return out
}

func TestPlan(t *testing.T) {
	in100 := t0.Add(100 * time.Millisecond)
	perNode := func(n int) func(*fleet.Spec) { return func(s *fleet.Spec) { s.MaxReplicasPerNode = n } }
	wants := func(m int64) func(*fleet.Spec) { return func(s *fleet.Spec) { s.Resources.Memory = m } }
	worked := backoff{everReady: true}
	tests := []struct {
		name     string
		desired  *fleet.Server
		nodes    []node
		units    []*unit
		back     backoff
		stable   backoff
		want     []string
		unplaced string
		wake     time.Time
	}{
		{name: "nothing to do", desired: ptr(server("a", 1, 2)), units: []*unit{u("r1", "n1"), u("r2", "n2")}},
		{name: "first start: spread", desired: ptr(server("a", 1, 3)), want: []string{
			"start 1 on n1: 3 replicas wanted, there are 0",
			"start 1 on n2: 3 replicas wanted, there are 0",
			"start 1 on n3: 3 replicas wanted, there are 0",
		}},
		{name: "untried: four at once", desired: ptr(server("a", 1, 20)), nodes: three[:1], want: slices.Repeat(
			[]string{"start 1 on n1: 20 replicas wanted, there are 0"}, 4)},
		{name: "untried: those that start count", desired: ptr(server("a", 1, 20)), nodes: three[:1],
			units: []*unit{u("r1", "n1", in(fleet.PhasePulling)), u("r2", "n1", in(fleet.PhasePending)), u("r3", "n1", in(fleet.PhaseStarting))},
			want:  []string{"start 1 on n1: 20 replicas wanted, there are 3"}},
		{name: "one has worked: all of them", desired: ptr(server("a", 1, 7)), nodes: three[:1], back: worked,
			units: []*unit{u("r1", "n1")}, want: slices.Repeat([]string{"start 1 on n1: 7 replicas wanted, there are 1"}, 6)},

		{name: "removed", units: []*unit{u("r1", "n1"), u("r2", "n2", told)}, want: []string{"stop r1: the server was removed"}},
		{name: "zero in the spec", desired: ptr(server("a", 1, 0)), units: []*unit{u("r1", "n1"), u("r2", "n1", in(fleet.PhaseDraining))},
			want: []string{"stop r1: stopped by hand: replicas is 0"}},
		{name: "scaled to zero", desired: scaled(server("a", 1, 2), 0), units: []*unit{u("r1", "n1")}, want: []string{"stop r1: stopped by hand: scaled to 0"}},
		{name: "idle", desired: idle(server("a", 1, 0)), units: []*unit{u("r1", "n1"), u("r2", "n1", in(fleet.PhaseDraining))}, want: []string{"stop r1: idle: no calls for 1m0s"}},
		{name: "idle, and did not start", desired: idle(server("a", 1, 0)), back: backoff{failing: true, notBefore: in100}, wake: in100},
		{name: "scaled down", desired: scaled(server("a", 1, 2), 1), units: []*unit{u("r1", "n1"), u("r2", "n2", in(fleet.PhaseStarting))},
			want: []string{"stop r2: 1 more than the 1 replica wanted"}},
		{name: "scaled up from zero", desired: scaled(server("a", 1, 0), 1), nodes: three[:1], want: []string{"start 1 on n1: 1 replica wanted, there are 0"}},
		{name: "excess: one that does not serve", desired: ptr(server("a", 1, 1)), units: []*unit{u("r1", "n1"), u("r2", "n1", in(fleet.PhaseStarting))},
			want: []string{"stop r2: 1 more than the 1 replica wanted"}},
		{name: "excess: one that cannot be reached", desired: ptr(server("a", 1, 1)), units: []*unit{u("r1", "n1", cutOff), u("r2", "n1")},
			want: []string{"stop r1: 1 more than the 1 replica wanted"}},
		{name: "excess: from the crowded node", desired: ptr(server("a", 1, 3)),
			units: []*unit{u("r1", "n1"), u("r2", "n2"), u("r3", "n2"), u("r4", "n3")},
			want:  []string{"stop r2: 1 more than the 3 replicas wanted"}},
		{name: "excess: evenly", desired: ptr(server("a", 1, 2)),
			units: []*unit{u("r1", "n1"), u("r2", "n1"), u("r3", "n2"), u("r4", "n2")},
			want:  []string{"stop r1: 2 more than the 2 replicas wanted", "stop r3: 1 more than the 2 replicas wanted"}},
		{name: "excess: the youngest of equals", desired: ptr(server("a", 1, 1)), units: []*unit{u("r1", "n1"), u("r2", "n2", age(time.Minute))},
			want: []string{"stop r2: 1 more than the 1 replica wanted"}},

		{name: "update: new first, one more", desired: ptr(server("a", 2, 3)), units: []*unit{u("r1", "n1"), u("r2", "n2"), u("r3", "n3")},
			want: []string{"start 2 on n1: revision 2 replaces revision 1"}},
		{name: "update: a quarter more", desired: ptr(server("a", 2, 8)), nodes: three[:1],
			units: []*unit{u("1", "n1"), u("2", "n1"), u("3", "n1"), u("4", "n1"), u("5", "n1"), u("6", "n1"), u("7", "n1"), u("8", "n1")},
			want:  slices.Repeat([]string{"start 2 on n1: revision 2 replaces revision 1"}, 2)},
		{name: "update: the new one starts", desired: ptr(server("a", 2, 2)), units: []*unit{u("r1", "n1"), u("r2", "n2"), u("r3", "n1", rev(2), in(fleet.PhaseStarting))}},
		{name: "update: the new one serves", desired: ptr(server("a", 2, 2)), units: []*unit{u("r1", "n1"), u("r2", "n2"), u("r3", "n1", rev(2))}, back: worked,
			want: []string{"stop r1: revision 2 replaces revision 1"}},
		{name: "update: the old one drains", desired: ptr(server("a", 2, 2)), units: []*unit{u("r1", "n1", told), u("r2", "n2"), u("r3", "n1", rev(2))}, back: worked},
		{name: "update: an old one that does not serve goes at once", desired: ptr(server("a", 2, 2)),
			units: []*unit{u("r1", "n1"), u("r2", "n2", in(fleet.PhaseStarting))},
			want: []string{"stop r2: revision 2 replaces revision 1 and it does not serve",
				"start 2 on n3: revision 2 replaces revision 1"}},
		{name: "update with fewer wanted: the surplus goes first", desired: ptr(server("a", 2, 1)), units: []*unit{u("r1", "n1"), u("r2", "n2")},
			want: []string{"stop r1: revision 2 replaces revision 1"}},
		{name: "update: the new one fails, the old ones stay", desired: ptr(server("a", 2, 2)), units: []*unit{u("r1", "n1"), u("r2", "n2")},
			back: backoff{failing: true, unreplaced: 1, notBefore: in100, bumpedAt: t0}, wake: in100},
		{name: "update: no room: an old one first", desired: ptr(server("a", 2, 3, perNode(1))), units: []*unit{u("r1", "n1"), u("r2", "n2"), u("r3", "n3")},
			want: []string{"stop r1: revision 2 replaces revision 1; stopped first for want of room: " +
				"no node fits: 3 nodes have max_replicas_per_node (1) already"},
			unplaced: "no node fits: 3 nodes have max_replicas_per_node (1) already"},
		{name: "update: no room: one at a time", desired: ptr(server("a", 2, 3, perNode(1))), units: []*unit{u("r1", "n1", told), u("r2", "n2"), u("r3", "n3")},
			unplaced: "no node fits: 3 nodes have max_replicas_per_node (1) already"},
		{name: "update: no room: the only one", desired: ptr(server("a", 2, 1, wants(100))), nodes: []node{onNode("n1", withMemory(150))},
			units: []*unit{u("r1", "n1", holds(100))},
			want: []string{"stop r1: revision 2 replaces revision 1; stopped first for want of room: " +
				"no node fits: 1 node lacks memory (100 B wanted, 50 B free at most); it would fit with 50 B more memory on node n1"},
			unplaced: "no node fits: 1 node lacks memory (100 B wanted, 50 B free at most); it would fit with 50 B more memory on node n1"},
		{name: "update: no room, and stopping would not help", desired: ptr(server("a", 2, 1, wants(200))), nodes: []node{onNode("n1", withMemory(150))},
			units:    []*unit{u("r1", "n1", holds(100))},
			unplaced: "no node fits: 1 node lacks memory (200 B wanted, 50 B free at most); it would fit with 150 B more memory on node n1"},
		{name: "update: the one whose end helps", desired: ptr(server("a", 2, 2, wants(100))), nodes: []node{onNode("n1", withMemory(50)), onNode("n2", withMemory(150))},
			units: []*unit{u("r1", "n1", holds(50)), u("r2", "n2", holds(100))},
			want: []string{"stop r2: revision 2 replaces revision 1; stopped first for want of room: " +
				"no node fits: 2 nodes lack memory (100 B wanted, 50 B free at most); it would fit with 50 B more memory on node n2"},
			unplaced: "no node fits: 2 nodes lack memory (100 B wanted, 50 B free at most); it would fit with 50 B more memory on node n2"},

		{name: "unhealthy: its replacement first", desired: ptr(server("a", 1, 1)), units: []*unit{u("r1", "n1", sick)}, back: worked,
			want: []string{"start 1 on n2: unhealthy and replaced"}},
		{name: "unhealthy: the replacement starts", desired: ptr(server("a", 1, 1)), units: []*unit{u("r1", "n1", sick), u("r2", "n2", in(fleet.PhaseStarting))}, back: worked},
		{name: "unhealthy: the replacement serves", desired: ptr(server("a", 1, 1)), units: []*unit{u("r1", "n1", sick), u("r2", "n2")}, back: worked,
			want: []string{"stop r1: unhealthy and replaced"}},
		{name: "unhealthy before other old ones", desired: ptr(server("a", 2, 2)), units: []*unit{u("r1", "n1"), u("r2", "n2", sick), u("r3", "n3", rev(2))}, back: worked,
			want: []string{"stop r2: revision 2 replaces revision 1"}},

		{name: "draining node: all move at once", desired: ptr(server("a", 1, 4)), nodes: []node{onNode("n1", isDraining), onNode("n2")}, back: worked,
			units: []*unit{u("r1", "n1", leaves), u("r2", "n1", leaves), u("r3", "n1", leaves), u("r4", "n2")},
			want:  slices.Repeat([]string{"start 1 on n2: node n1 is draining"}, 3)},
		{name: "draining node: stopped once replaced", desired: ptr(server("a", 1, 1)), nodes: []node{onNode("n1", isDraining), onNode("n2")}, back: worked,
			units: []*unit{u("r1", "n1", leaves), u("r2", "n2")}, want: []string{"stop r1: node n1 is draining"}},
		{name: "cut off within the grace: not replaced", desired: ptr(server("a", 1, 2)), units: []*unit{u("r1", "n1", cutOff), u("r2", "n2")}, back: worked},

		{name: "cut off, with surplus from before: nothing more", desired: ptr(server("a", 1, 1)), units: []*unit{u("r1", "n1", cutOff), u("r2", "n2", in(fleet.PhaseStarting))}, back: worked},
		{name: "all cut off: one stands in", desired: ptr(server("a", 1, 3)), back: worked, nodes: three[1:],
			units: []*unit{u("r1", "n1", cutOff), u("r2", "n1", cutOff), u("r3", "n1", cutOff)},
			want:  []string{"start 1 on n2: no replica serves while node n1 cannot be reached"}},
		{name: "it serves: as many of the others are to stop", desired: ptr(server("a", 1, 2)), back: worked,
			units: []*unit{u("r1", "n1", cutOff), u("r2", "n1", cutOff), u("r3", "n2")},
			want:  []string{"stop r1: 1 more than the 2 replicas wanted"}},
		{name: "the only one is unhealthy, no room: it stays", desired: ptr(server("a", 1, 1)), nodes: []node{onNode("n1", isDraining)}, back: worked,
			units: []*unit{u("r1", "n1", sick)}, unplaced: "no node fits: 1 node is draining"},

		{name: "cordoned: nothing new, what runs stays", desired: ptr(server("a", 1, 3)), nodes: []node{onNode("n1", isCordoned)}, back: worked,
			units: []*unit{u("r1", "n1"), u("r2", "n1")}, unplaced: "no node fits: 1 node is cordoned; it would fit with node n1 uncordoned"},
		{name: "drained: new before old", desired: ptr(server("a", 1, 2)), nodes: []node{onNode("n1", isDraining), onNode("n2")}, back: worked,
			units: []*unit{u("r1", "n1", leaves), u("r2", "n1", leaves)}, want: slices.Repeat([]string{"start 1 on n2: node n1 is draining"}, 2)},
		{name: "drained, and nothing else fits: they stay", desired: ptr(server("a", 1, 2)), nodes: []node{onNode("n1", isDraining)}, back: worked,
			units: []*unit{u("r1", "n1", leaves), u("r2", "n1", leaves)}, unplaced: "no node fits: 1 node is draining"},
		{name: "drained for too long: stopped whatever is missing", desired: ptr(server("a", 1, 1)), nodes: []node{onNode("n1", isCordoned)}, back: worked,
			units: []*unit{u("r1", "n1", expired)}, want: []string{"stop r1: the time to drain node n1 is over"}, unplaced: "no node fits: 1 node is cordoned; it would fit with node n1 uncordoned"},

		{name: "restarted: new before old", desired: ptr(restarted(server("a", 1, 2), 3)), back: worked,
			units: []*unit{u("r1", "n1", gen(2)), u("r2", "n2", gen(2))}, want: []string{"start 1 on n3: restarted by hand"}},
		{name: "restarted: one is replaced", desired: ptr(restarted(server("a", 1, 2), 3)), back: worked,
			units: []*unit{u("r1", "n1", gen(2)), u("r2", "n2", gen(2)), u("r3", "n3", gen(3))},
			want:  []string{"stop r1: restarted by hand"}},

		{name: "kept up: the new one is on its way", desired: next(2, 2), units: []*unit{u("r1", "n1"), u("r3", "n3", rev(2), in(fleet.PhaseStarting), age(0))}, stable: worked,
			want: []string{"start 2 on n2: revision 2 replaces revision 1"}},
		{name: "kept up: one has failed meanwhile", desired: next(2, 2), units: []*unit{u("r1", "n1"), u("r3", "n3", rev(2), in(fleet.PhaseStarting), age(0))},
			stable: backoff{everReady: true, unreplaced: 1, notBefore: t0, bumpedAt: t0.Add(-time.Second)},
			want:   []string{"start 1 on n2: revision 2 does not serve: revision 1 is kept up"}},
		{name: "kept up: the new one fails", desired: next(2, 2), units: []*unit{u("r1", "n1")}, stable: worked,
			back: backoff{failing: true, unreplaced: 1, notBefore: in100, bumpedAt: t0}, wake: in100,
			want: []string{"start 1 on n2: revision 2 does not serve: revision 1 is kept up"}},
		{name: "kept up: its replacement starts", desired: next(2, 2), units: []*unit{u("r1", "n1"), u("r2", "n2", in(fleet.PhaseStarting))}, stable: worked,
			back: backoff{failing: true, unreplaced: 1, notBefore: in100, bumpedAt: t0}, wake: in100},
		{name: "kept up: the new one serves after all", desired: next(2, 2), stable: worked, back: worked,
			units: []*unit{u("r1", "n1"), u("r2", "n2", in(fleet.PhaseStarting)), u("r3", "n3", rev(2)), u("r4", "n3", rev(2))},
			want:  []string{"stop r2: revision 2 replaces revision 1 and it does not serve", "stop r1: revision 2 replaces revision 1"}},
		{name: "kept up: no room for the new one, which has failed", desired: next(2, 1, perNode(1)), nodes: three[:1], units: []*unit{u("r1", "n1")}, stable: worked,
			back:     backoff{failing: true, unreplaced: 1, notBefore: t0, bumpedAt: t0.Add(-time.Second)},
			unplaced: "no node fits: 1 node has max_replicas_per_node (1) already"},
		{name: "kept up: moved off a drained node", desired: next(2, 1), nodes: []node{onNode("n1", isDraining), onNode("n2")}, units: []*unit{u("r1", "n1", leaves)}, stable: worked,
			back: backoff{failing: true, unreplaced: 1, notBefore: in100, bumpedAt: t0}, wake: in100,
			want: []string{"start 1 on n2: revision 2 does not serve: revision 1 is kept up"}},

		{name: "no node", desired: ptr(server("a", 1, 1)), nodes: []node{}, unplaced: "waiting for workers: none has joined"},
		{name: "room for some", desired: ptr(server("a", 1, 3, wants(100))), nodes: []node{onNode("n1", withMemory(150))}, back: worked,
			want:     []string{"start 1 on n1: 3 replicas wanted, there are 0"},
			unplaced: "no node fits: 1 node lacks memory (100 B wanted, 50 B free at most); it would fit with 50 B more memory on node n1"},

		{name: "failed: wait", desired: ptr(server("a", 1, 2)), units: []*unit{u("r1", "n1")},
			back: backoff{everReady: true, unreplaced: 1, notBefore: in100, bumpedAt: t0}, wake: in100},
		{name: "failed: the wait is over", desired: ptr(server("a", 1, 2)), units: []*unit{u("r1", "n1")},
			back: backoff{everReady: true, unreplaced: 1, notBefore: t0, bumpedAt: t0.Add(-time.Second), last: "it broke"},
			want: []string{"start 1 on n2: replaces one that failed: it broke"}},
		{name: "lost ones do not wait for the failed", desired: ptr(server("a", 1, 4)), nodes: three[:1], units: []*unit{u("r1", "n1")},
			back: backoff{everReady: true, unreplaced: 1, notBefore: in100, bumpedAt: t0, last: "it broke"}, wake: in100,
			want: slices.Repeat([]string{"start 1 on n1: replaces one that failed: it broke"}, 2)},
		{name: "failing: one probe", desired: ptr(server("a", 1, 20)), nodes: three[:1],
			back: backoff{failing: true, unreplaced: 4, notBefore: t0, bumpedAt: t0.Add(-time.Second), last: "it broke"},
			want: []string{"start 1 on n1: replaces one that failed: it broke"}},
		{name: "failing: the probe starts", desired: ptr(server("a", 1, 20)), units: []*unit{u("r1", "n1", in(fleet.PhaseStarting), age(0))},
			back: backoff{failing: true, unreplaced: 4, notBefore: t0, bumpedAt: t0.Add(-time.Second)}},
		{name: "failing: the probe is not proven", desired: ptr(server("a", 1, 20)), units: []*unit{u("r1", "n1", age(0))},
			back: backoff{failing: true, everReady: true, unreplaced: 4, notBefore: t0, bumpedAt: t0.Add(-time.Second)}},
		{name: "failing, yet others serve: the lost are replaced", desired: ptr(server("a", 1, 4)), units: []*unit{u("r1", "n1")},
			back: backoff{failing: true, everReady: true, unreplaced: 1, notBefore: in100, bumpedAt: t0.Add(-time.Second), last: "it broke"}, wake: in100,
			want: []string{"start 1 on n2: replaces one that failed: it broke", "start 1 on n3: replaces one that failed: it broke"}},

		{name: "those that drain count, up to a point", desired: ptr(server("a", 1, 2)), back: worked,
			units: []*unit{u("r1", "n1"), u("r2", "n1", told), u("r3", "n1", told)}},
		{name: "but nobody serves: one starts", desired: ptr(server("a", 1, 1)), back: worked,
			units: []*unit{u("r1", "n1", told), u("r2", "n1", told), u("r3", "n1", told)},
			want:  []string{"start 1 on n2: 1 replica wanted, there are 0"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			nodes := tt.nodes
			if nodes == nil {
				nodes = three
			}
			w := want{name: "a", desired: tt.desired, units: tt.units, back: tt.back, stable: tt.stable}
			d := plan(t0, []want{w}, newRoom(nodes, tt.units))[0]
			if got := does(d); !slices.Equal(got, tt.want) {
				t.Errorf("actions:\n got %s\nwant %s", strings.Join(got, "\n     "), strings.Join(tt.want, "\n     "))
			}
			if d.unplaced != tt.unplaced {
				t.Errorf("unplaced:\n got %s\nwant %s", d.unplaced, tt.unplaced)
			}
			if !d.wake.Equal(tt.wake) {
				t.Errorf("wake = %v, want %v", d.wake, tt.wake)
			}
		})
	}
}

// Servers share the room: what one plan gives away the next does not have.
func TestPlanSharesRoom(t *testing.T) {
	a, b := server("a", 1, 1), server("b", 1, 1)
	a.Spec.Resources.Memory, b.Spec.Resources.Memory = 100, 100
	plans := plan(t0, []want{{name: "a", desired: &a}, {name: "b", desired: &b}},
		newRoom([]node{onNode("n1", withMemory(150))}, nil))
	if len(plans[0].actions) != 1 || len(plans[1].actions) != 0 || plans[1].unplaced == "" {
		t.Errorf("plans = %+v, want a placed and b refused", plans)
	}
}

// Spares take only what the replicas of all servers leave.
func TestPlanPlacesSparesLast(t *testing.T) {
	a, b := server("a", 1, 1), server("b", 1, 1)
	a.Spec.Warm = 2
	a.Spec.Resources.Memory, b.Spec.Resources.Memory = 100, 100
	worked := backoff{everReady: true}
	plans := plan(t0, []want{{name: "a", desired: &a, back: worked}, {name: "b", desired: &b, back: worked}},
		newRoom([]node{onNode("n1", withMemory(300))}, nil))
	if got, want := does(plans[0]), []string{"start 1 on n1: 1 replica wanted, there are 0", "start spare 1 on n1"}; !slices.Equal(got, want) {
		t.Errorf("a: got %q, want %q", got, want)
	}
	if plans[0].unplacedSpares == "" {
		t.Error("a: want a spare without room")
	}
	if got, want := does(plans[1]), []string{"start 1 on n1: 1 replica wanted, there are 0"}; !slices.Equal(got, want) {
		t.Errorf("b: got %q, want %q", got, want)
	}
}

func TestStatus(t *testing.T) {
	failed := backoff{failing: true, unstarted: true, unreplaced: 1, last: "it broke", delay: time.Second, bumpedAt: t0, notBefore: t0.Add(time.Second)}
	starting := u("r9", "n1", in(fleet.PhaseStarting), age(-time.Millisecond))
	tests := []struct {
		name        string
		w           want
		d           decision
		workers     int
		deployed    bool
		waiting     string
		state       fleet.State
		ready       int
		settled     bool
		startFailed bool
		reason      string
	}{
		{name: "all serve", w: want{desired: ptr(server("a", 1, 1)), units: []*unit{u("r1", "n1")}}, workers: 1,
			state: fleet.StateReady, ready: 1, settled: true},
		{name: "held, and all serve", w: want{desired: ptr(server("a", 1, 1)), units: []*unit{u("r1", "n1")}}, workers: 1, waiting: "waiting for n2",
			state: fleet.StateReady, ready: 1, settled: true},
		{name: "held", w: want{desired: ptr(server("a", 1, 1))}, waiting: "waiting for n2", state: fleet.StateDeploying,
			reason: "waiting for n2; 0 of 1 replica ready"},
		{name: "first ones start", w: want{desired: ptr(server("a", 1, 2)), units: []*unit{starting}}, workers: 1,
			state: fleet.StateDeploying, reason: "0 of 2 replicas ready; 1 starting"},
		{name: "pulling", w: want{desired: ptr(server("a", 1, 1)), units: []*unit{u("r1", "n1", in(fleet.PhasePulling))}}, workers: 1,
			state: fleet.StateDeploying, reason: "0 of 1 replica ready; 1 starting, 1 of them pulling the image"},
		{name: "one short after it was full", w: want{desired: ptr(server("a", 1, 2)), units: []*unit{u("r1", "n1"), starting}}, workers: 1, deployed: true,
			state: fleet.StateDegraded, ready: 1, reason: "1 of 2 replicas ready; 1 starting"},
		{name: "does not start", w: want{desired: ptr(server("a", 1, 1)), back: failed}, d: decision{need: 1}, workers: 1,
			state: fleet.StateUnavailable, settled: true, startFailed: true, reason: "last failure: it broke; 0 of 1 replica ready"},
		{name: "does not start, a probe is out", w: want{desired: ptr(server("a", 1, 1)), back: failed, units: []*unit{starting}}, workers: 1,
			state: fleet.StateUnavailable, settled: true, reason: "last failure: it broke; 0 of 1 replica ready; 1 starting"},
		{name: "one of the first round failed, another still starts", w: want{desired: ptr(server("a", 1, 2)), back: failed,
			units: []*unit{u("r1", "n1", in(fleet.PhaseStarting), age(time.Second))}}, d: decision{need: 1}, workers: 1,
			state: fleet.StateUnavailable, reason: "last failure: it broke; 0 of 2 replicas ready; 1 starting"},
		{name: "no room", w: want{desired: ptr(server("a", 1, 1))}, d: decision{need: 1, unplaced: "no node fits"}, workers: 1,
			state: fleet.StateUnavailable, settled: true, startFailed: true, reason: "no node fits; 0 of 1 replica ready"},
		{name: "no worker", w: want{desired: ptr(server("a", 1, 1))}, d: decision{need: 1, unplaced: "waiting for workers"},
			state: fleet.StateDeploying, startFailed: true, reason: "waiting for workers; 0 of 1 replica ready"},
		{name: "updating", w: want{desired: ptr(server("a", 2, 1)), units: []*unit{u("r1", "n1")}}, workers: 1, deployed: true,
			state: fleet.StateUpdating, ready: 1, settled: true, reason: "revision 2: 0 of 1 replica ready; 1 of the revision before"},
		{name: "updating, and callers may break", w: want{desired: rollsOut(next(2, 1), fleet.Rollout{Checked: true, Warning: "tool x: it is gone"}), units: []*unit{u("r1", "n1")}}, workers: 1, deployed: true,
			state: fleet.StateUpdating, ready: 1, settled: true, reason: "revision 2: 0 of 1 replica ready; 1 of the revision before; callers may break: tool x: it is gone"},
		{name: "held because callers may break", w: want{desired: rollsOut(next(2, 1), fleet.Rollout{Held: "callers may break: tool x: it is gone", Warning: "tool x: it is gone"}), units: []*unit{u("r1", "n1")}}, workers: 1, deployed: true,
			state: fleet.StateUpdating, ready: 1, settled: true, reason: "the rollout of revision 2 is held: callers may break: tool x: it is gone; revision 2: 0 of 1 replica ready; 1 of the revision before"},
		{name: "updated, the old one drains", w: want{desired: ptr(server("a", 2, 1)), units: []*unit{u("r1", "n1", told, in(fleet.PhaseDraining)), u("r2", "n1", rev(2))}}, workers: 1, deployed: true,
			state: fleet.StateReady, ready: 1, settled: true},
		{name: "updated, the old one does not hear that it should stop", w: want{desired: ptr(server("a", 2, 1)),
			units: []*unit{u("r1", "n1", told, func(u *unit) { u.stop.err = errors.New("no answer") }), u("r2", "n1", rev(2))}}, workers: 1, deployed: true,
			state: fleet.StateUpdating, ready: 1, settled: true, reason: "node n1 has not answered the order to stop replica r1: no answer; " +
				"revision 2: 1 of 1 replica ready; 1 of the revision before"},
		{name: "an unhealthy one does not count", w: want{desired: ptr(server("a", 1, 1)), units: []*unit{u("r1", "n1", sick), starting}}, workers: 1, deployed: true,
			state: fleet.StateUnavailable, reason: "0 of 1 replica ready; 1 starting"},
		{name: "stopped", w: want{desired: ptr(server("a", 1, 0)), units: []*unit{u("r1", "n1", told)}}, workers: 1,
			state: fleet.StateStopped, settled: true, reason: "stopped by hand: replicas is 0, 1 replica still stopping"},
		{name: "idle", w: want{desired: idle(server("a", 1, 0)), units: []*unit{u("r1", "n1", told)}}, workers: 1,
			state: fleet.StateIdle, settled: true, reason: "idle: a call starts it, 1 replica still stopping"},
		{name: "idle, and does not start", w: want{desired: idle(server("a", 1, 0)), back: failed}, workers: 1,
			state: fleet.StateIdle, settled: true, startFailed: true, reason: "idle: a call starts it, but the last start failed: it broke"},
		{name: "idle, and a start may be tried again", w: want{desired: idle(server("a", 1, 0)),
			back: backoff{failing: true, unstarted: true, last: "it broke", notBefore: t0}}, workers: 1,
			state: fleet.StateIdle, settled: true, reason: "idle: a call starts it, but the last start failed: it broke"},
		{name: "deleting", w: want{units: []*unit{u("r1", "n1", told), u("r2", "n1", told)}}, workers: 1,
			state: fleet.StateDeleting, reason: "2 replicas still stopping"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := status(t0, &tt.w, &tt.d, outlook{tt.workers, tt.deployed, false, tt.waiting == "", tt.waiting})
			if s.State != tt.state || s.Ready != tt.ready || s.Settled != tt.settled || s.StartFailed != tt.startFailed || s.Reason != tt.reason {
				t.Errorf("status = %s ready %d settled %v startFailed %v: %s\nwant %s ready %d settled %v startFailed %v: %s",
					s.State, s.Ready, s.Settled, s.StartFailed, s.Reason, tt.state, tt.ready, tt.settled, tt.startFailed, tt.reason)
			}
		})
	}
}

func ptr[T any](x T) *T { return &x }
