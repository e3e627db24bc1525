package reconcile

import (
	"slices"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

func TestNodeWatch(t *testing.T) {
	type nodes = map[fleet.NodeID]observe.Node
	node := func(life string, set ...func(*observe.Node)) observe.Node {
		n := observe.Node{Member: fleet.Member{Node: "n1", Life: fleet.LifeID(life)}, Info: fleet.NodeInfo{Life: fleet.LifeID(life)}, Connected: true}
		for _, f := range set {
			f(&n)
		}
		return n
	}
	silent := func(n *observe.Node) { n.Connected = false }
	draining := func(n *observe.Node) { n.Draining = true }
	lost := func(n *observe.Node) { n.Connected, n.Lost = false, true }
	unreported := func(n *observe.Node) { n.Info = fleet.NodeInfo{} }
	tests := []struct {
		name   string
		passes []nodes
		want   []fleet.EventKind
	}{
		{"nothing is known of it", []nodes{{"n1": node("a", unreported)}}, nil},
		{"it stays", []nodes{{"n1": node("a")}, {"n1": node("a")}}, []fleet.EventKind{fleet.EventNodeJoined}},
		{"a blip", []nodes{{"n1": node("a")}, {"n1": node("a", silent)}, {"n1": node("a")}}, []fleet.EventKind{fleet.EventNodeJoined, fleet.EventNodeSilent, fleet.EventNodeReturned}},
		{"restarted", []nodes{{"n1": node("a")}, {"n1": node("b", unreported)}, {"n1": node("b")}}, []fleet.EventKind{fleet.EventNodeJoined, fleet.EventNodeJoined}},
		{"lost", []nodes{{"n1": node("a")}, {"n1": node("a", silent)}, {"n1": node("a", lost)}, {}}, []fleet.EventKind{fleet.EventNodeJoined, fleet.EventNodeSilent, fleet.EventNodeLost}},
		{"gone", []nodes{{"n1": node("a")}, {}}, []fleet.EventKind{fleet.EventNodeJoined, fleet.EventNodeLost}},
		{"leaves", []nodes{{"n1": node("a")}, {"n1": node("a", draining)}, {"n1": node("a", draining, silent)}, {}}, []fleet.EventKind{fleet.EventNodeJoined, fleet.EventNodeDraining, fleet.EventNodeLeft}},
		{"drains, restarts and drains", []nodes{{"n1": node("a", draining)}, {"n1": node("b", draining)}}, []fleet.EventKind{fleet.EventNodeJoined, fleet.EventNodeDraining, fleet.EventNodeJoined, fleet.EventNodeDraining}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newNodeWatch()
			var got []fleet.EventKind
			for i, nodes := range tt.passes {
				w.observe(nodes, t0.Add(time.Duration(i)*time.Second), func(e Event) { got = append(got, e.Kind) })
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("events = %v, want %v", got, tt.want)
			}
		})
	}
}

// A worker that has stopped in order is expected back for a while. One that was
// lost is not.
func TestNodeWatchExpectsRestarts(t *testing.T) {
	w := newNodeWatch()
	ignore := func(Event) {}
	nodes := map[fleet.NodeID]observe.Node{
		"n1": {Member: fleet.Member{Node: "n1", Life: "a"}, Info: fleet.NodeInfo{Life: "a"}, Draining: true},
		"n2": {Member: fleet.Member{Node: "n2", Life: "b"}, Info: fleet.NodeInfo{Life: "b"}},
	}
	w.observe(nodes, t0, ignore)
	if until := w.restartsUntil(); !until.IsZero() {
		t.Errorf("expected until %v while it runs", until)
	}
	left := t0.Add(time.Second)
	w.observe(nil, left, ignore)
	for range 2 {
		if until := w.restartsUntil(); !until.Equal(left.Add(restartTime)) {
			t.Errorf("expected until %v, want %v", until, left.Add(restartTime))
		}
		w.observe(nil, left.Add(restartTime), ignore)
	}
	w.observe(nil, left.Add(restartTime+1), ignore)
	if until := w.restartsUntil(); !until.IsZero() {
		t.Errorf("still expected until %v", until)
	}
	w.observe(nodes, t0, ignore)
	w.observe(nil, left, ignore)
	w.observe(nodes, left, ignore)
	if until := w.restartsUntil(); !until.IsZero() {
		t.Errorf("expected until %v after it came back", until)
	}
}
