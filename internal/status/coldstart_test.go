package status

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/reconcile"
)

// Each replica that becomes READY is counted once, with the phases that its start had.
// The series go with the server.
func TestColdStartsAreCountedOnce(t *testing.T) {
	c := newColdStarts()
	servers := statuses{"s": &reconcile.ServerStatus{Name: "s"}}
	snap := &observe.Snapshot{Replicas: map[fleet.ReplicaID]*fleet.Replica{
		"new":      {Server: "s", ReadyAt: c.since.Add(time.Second), ColdStart: fleet.ColdStart{Start: 10 * time.Millisecond, Handshake: time.Second}},
		"old":      {Server: "s", ReadyAt: c.since.Add(-time.Second), ColdStart: fleet.ColdStart{Start: time.Second}},
		"starting": {Server: "s"},
		"another":  {Server: "gone", ReadyAt: c.since.Add(time.Second), ColdStart: fleet.ColdStart{Start: time.Second}},
	}}
	for shape := range uint64(3) {
		snap.Shape = 1 + shape/2
		c.count(servers, snap)
	}
	if err := testutil.CollectAndCompare(c.took, strings.NewReader(
		"# HELP mcpfleet_cold_start_seconds How long the phases of starts took, of replicas that became READY.\n"+
			"# TYPE mcpfleet_cold_start_seconds histogram\n"+series("handshake", 1)+series("start", 0.01))); err != nil {
		t.Error(err)
	}
	c.count(nil, &observe.Snapshot{Shape: 9})
	if n := testutil.CollectAndCount(c.took); n > 0 || len(c.counted) > 0 {
		t.Errorf("left of a server that is gone: %d series, %v", n, c.counted)
	}
}

// series is the text of one start of server s whose phase took so many seconds.
func series(phase string, seconds float64) string {
	var b strings.Builder
	labels := fmt.Sprintf("phase=%q,server=\"s\"", phase)
	for _, le := range []float64{.005, .02, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, math.Inf(1)} {
		n := 0
		if seconds <= le {
			n = 1
		}
		fmt.Fprintf(&b, "mcpfleet_cold_start_seconds_bucket{%s,le=%q} %d\n", labels, fmt.Sprint(le), n)
	}
	fmt.Fprintf(&b, "mcpfleet_cold_start_seconds_sum{%s} %g\nmcpfleet_cold_start_seconds_count{%s} 1\n", labels, seconds, labels)
	return b.String()
}
