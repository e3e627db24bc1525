package load

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// replicaCalls counts the calls at replicas. It counts again only when the snapshot
// has changed. The zero value has counted nothing.
type replicaCalls struct {
	seq     uint64
	running map[fleet.ServerName]int
	begun   map[fleet.ServerName]uint64 // since the first count
	totals  map[fleet.ReplicaID]uint64  // calls begun in each replica's life, as last counted
}

func (r *replicaCalls) update(snap *observe.Snapshot) {
	first := r.totals == nil
	if !first && r.seq == snap.Seq {
		return
	}
	r.seq, r.running = snap.Seq, runningIn(snap)
	if first {
		r.begun, r.totals = make(map[fleet.ServerName]uint64), make(map[fleet.ReplicaID]uint64)
	}
	for id, one := range snap.Replicas {
		total := one.Load.Total
		if before := r.totals[id]; !first && total > before {
			r.begun[one.Server] += total - before
		}
		r.totals[id] = total
	}
	if len(r.totals) > len(snap.Replicas) {
		maps.DeleteFunc(r.totals, func(id fleet.ReplicaID, _ uint64) bool { return snap.Replicas[id] == nil })
	}
}

// addTo adds the calls to the loads.
func (r *replicaCalls) addTo(loads map[fleet.ServerName]fleet.ServerLoad) {
	for name, n := range r.running {
		l := loads[name]
		l.Running += n
		loads[name] = l
	}
	for name, n := range r.begun {
		l := loads[name]
		l.Begun = n
		loads[name] = l
	}
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
