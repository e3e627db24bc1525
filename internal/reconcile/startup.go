package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/schedule"
)

// startup keeps a controller that has just begun to lead or follow from acting
// too early. A worker that has not reported yet may run what seems to be missing.
// One that does not refuse the earlier leader yet may still get orders from it.
type startup struct {
	began       time.Time
	grace       time.Duration
	settle      time.Duration
	expect      int                     // workers of a new cluster
	known       []fleet.NodeID          // may run replicas, as remembered on disk
	hasReported func(observe.Node) bool // what earlier leaders ordered there is known

	over    bool
	workers int       // connected at the last pass
	arrived time.Time // when the last of them came
}

// waitsFor returns in words what the controller waits for, "" once it may act,
// and when to ask again at the latest.
func (st *startup) waitsFor(s *observe.Snapshot, now time.Time) (why string, wake time.Time) {
	if st.over {
		return "", time.Time{}
	}
	workers := 0
	for _, n := range s.Nodes {
		if n.Connected {
			workers++
		}
	}
	end := st.began.Add(st.grace)
	late := !now.Before(end)
	nobodyCame := st.workers == 0 && len(st.known) == 0
	switch {
	case late && nobodyCame && workers > 0:
		// The first worker of a new cluster comes after the grace. Those that join a
		// moment later should get their share as well.
		st.began, end = now, now.Add(st.grace)
	case late:
		st.over = !nobodyCame
		return "", time.Time{}
	}
	var missing []fleet.NodeID
	present := func(n observe.Node) bool {
		return n.Connected && n.Reported() && st.hasReported(n) || n.Refused != nil || n.Lost
	}
	for _, id := range st.known {
		if !present(s.Nodes[id]) {
			missing = append(missing, id)
		}
	}
	for _, id := range sortedKeys(s.Nodes) {
		if n := s.Nodes[id]; n.Alive && !present(n) && !isKnown(st.known, id) {
			missing = append(missing, id)
		}
	}
	if workers > st.workers {
		st.arrived = now
	}
	st.workers = workers
	switch {
	case len(missing) > 0:
		return "waiting for " + names(missing) + " to report", end
	case workers == 0:
		return schedule.NoNodes, end
	case len(st.known) > 0:
		// All that could run something have reported.
	case workers < st.expect:
		return fmt.Sprintf("waiting for workers: %d of %d have joined", workers, st.expect), end
	case now.Before(st.settled(s)):
		return "waiting for more workers", earlier(st.settled(s), end)
	}
	st.over = true
	return "", time.Time{}
}

// isKnown reports whether a node is in a list that is sorted by name.
func isKnown(known []fleet.NodeID, id fleet.NodeID) bool {
	_, ok := slices.BinarySearch(known, id)
	return ok
}

// mostNames is how many nodes a reason names.
const mostNames = 5

// names joins the first nodes, and says how many more there are.
func names(nodes []fleet.NodeID) string {
	var parts []string
	for _, id := range nodes[:min(len(nodes), mostNames)] {
		parts = append(parts, string(id))
	}
	text := strings.Join(parts, ", ")
	if more := len(nodes) - mostNames; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// settled returns when a new cluster need not wait for more workers any longer.
// Workers that join a moment later should get their share. Those that were started
// together can join as far apart as their starts are long.
func (st *startup) settled(s *observe.Snapshot) time.Time {
	wait := st.settle
	if st.expect == 0 {
		for _, n := range s.Nodes {
			if n.Connected {
				wait = max(wait, n.Info.StartTook)
			}
		}
	}
	return st.arrived.Add(wait)
}
