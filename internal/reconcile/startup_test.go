package reconcile

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

func TestNewClusterWaitsForExpectedWorkers(t *testing.T) {
	began := time.Now()
	st := startup{began: began, grace: 10 * time.Second, settle: time.Second, expect: 2, hasReported: func(observe.Node) bool { return true }}
	snap := &observe.Snapshot{Nodes: map[fleet.NodeID]observe.Node{}}
	join := func(id fleet.NodeID) {
		snap.Nodes[id] = observe.Node{Alive: true, Connected: true, Info: fleet.NodeInfo{Node: id, Life: "l"}}
	}
	wants := func(after time.Duration, want string) {
		t.Helper()
		why, _ := st.waitsFor(snap, began.Add(after))
		if want == "" && why != "" || !strings.Contains(why, want) {
			t.Errorf("after %v: waiting %q, want %q", after, why, want)
		}
	}
	wants(0, "none has joined")
	join("w1")
	wants(5*time.Second, "1 of 2 have joined") // long after it settled
	join("w2")
	wants(6*time.Second, "more workers")
	wants(7*time.Second, "")

	// Without a number, the slowest start of those that have joined says how long
	// others may still take.
	for _, c := range []struct {
		took, until time.Duration
	}{{100 * time.Millisecond, time.Second}, {3 * time.Second, 3 * time.Second}, {time.Hour, 10 * time.Second}} {
		st = startup{began: began, grace: 10 * time.Second, settle: time.Second, hasReported: st.hasReported}
		snap = &observe.Snapshot{Nodes: map[fleet.NodeID]observe.Node{}}
		join("w1")
		n := snap.Nodes["w1"]
		n.Info.StartTook = c.took
		snap.Nodes["w1"] = n
		wants(0, "more workers")
		if _, wake := st.waitsFor(snap, began); !wake.Equal(began.Add(c.until)) {
			t.Errorf("a start that took %v: asks again after %v, want %v", c.took, wake.Sub(began), c.until)
		}
		wants(c.until-time.Millisecond, "more workers")
		wants(c.until, "")
	}

	// Nobody comes before the grace is over. The first to come do not get everything.
	st = startup{began: began, grace: 10 * time.Second, settle: time.Second, hasReported: st.hasReported}
	snap = &observe.Snapshot{Nodes: map[fleet.NodeID]observe.Node{}}
	wants(9*time.Second, "none has joined")
	wants(10*time.Second, "")
	wants(time.Minute, "")
	join("w1")
	wants(61*time.Second, "more workers")
	wants(61500*time.Millisecond, "more workers")
	wants(62*time.Second, "")

	st = startup{began: began, grace: 10 * time.Second, settle: time.Second, expect: 9, hasReported: st.hasReported}
	wants(time.Second, "1 of 9 have joined")
	wants(10*time.Second, "") // after the grace
}

// A reason names a few nodes only.
func TestNames(t *testing.T) {
	for n, want := range map[int]string{1: "n0", 5: "n0, n1, n2, n3, n4", 8: "n0, n1, n2, n3, n4 and 3 more"} {
		var nodes []fleet.NodeID
		for i := range n {
			nodes = append(nodes, fleet.NodeID(fmt.Sprint("n", i)))
		}
		if got := names(nodes); got != want {
			t.Errorf("%d nodes: %q, want %q", n, got, want)
		}
	}
}
