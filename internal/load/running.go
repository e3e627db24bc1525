package load

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// replicaCalls counts the calls at replicas, by server. It counts again only when
// the snapshot has changed.
type replicaCalls struct {
	seq      uint64
	byServer map[fleet.ServerName]int
}

func (r *replicaCalls) update(snap *observe.Snapshot) {
	if r.byServer != nil && r.seq == snap.Seq {
		return
	}
	r.seq, r.byServer = snap.Seq, runningIn(snap)
}

// runningIn returns the calls at the replicas of each server that has any. Replicas
// that take no calls have none, and neither have spares.
func runningIn(snap *observe.Snapshot) map[fleet.ServerName]int {
	byServer := make(map[fleet.ServerName]int)
	for _, r := range snap.Replicas {
		if r.Load.Ongoing > 0 && !r.Spare && (r.Phase == fleet.PhaseReady || r.Phase == fleet.PhaseDraining) {
			byServer[r.Server] += r.Load.Ongoing
		}
	}
	return byServer
}

// unheard names the nodes whose calls are not known, in words.
func unheard(snap *observe.Snapshot) (out []string) {
	for _, name := range slices.Sorted(maps.Keys(snap.Nodes)) {
		switch n := snap.Nodes[name]; {
		case n.Connected || n.Lost:
		case n.Reported():
			out = append(out, fmt.Sprintf("node %s cannot be reached", name))
		default:
			out = append(out, fmt.Sprintf("node %s has not reported yet", name))
		}
	}
	return out
}

// maxMissing bounds how many are named.
const maxMissing = 3

// missing joins what is missing in one line.
func missing(parts []string) string {
	if more := len(parts) - maxMissing; more > 0 {
		parts = append(slices.Clone(parts[:maxMissing]), fmt.Sprintf("and %d more", more))
	}
	return strings.Join(parts, "; ")
}
