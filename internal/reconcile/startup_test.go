package reconcile

import (
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

	late := startup{began: began, grace: 10 * time.Second, settle: time.Second, expect: 9, hasReported: st.hasReported}
	if why, _ := late.waitsFor(snap, began.Add(10*time.Second)); why != "" {
		t.Errorf("waiting %q after the grace", why)
	}
}
