package process

import (
	"context"
	"fmt"
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/proctab"
)

// Sweep implements fleet.Runtime. It kills the processes that have a marker of
// this node and of a worker life that is over.
func (r *Runtime) Sweep(ctx context.Context) ([]string, error) {
	verdicts := make(map[proctab.Owner]bool)
	over := func(m marker) bool {
		if m.node != r.node {
			return false
		}
		dead, ok := verdicts[m.owner]
		if !ok {
			dead = r.owner.Outlived(m.owner)
			verdicts[m.owner] = dead
		}
		return dead
	}
	replicas := make(map[int]fleet.ReplicaID)
	pids, err := proctab.KillAll(ctx, func() []proctab.ID {
		ids := leftovers(nil, over)
		for _, id := range ids {
			if m, ok := readMarker(id.PID); ok {
				replicas[id.PID] = m.replica
			}
		}
		return ids
	})
	removed := make([]string, 0, len(pids))
	for _, pid := range pids {
		if id, ok := replicas[pid]; ok {
			removed = append(removed, fmt.Sprintf("process %d of replica %s", pid, id))
		} else {
			removed = append(removed, fmt.Sprintf("process %d, child of a replica", pid))
		}
	}
	if len(removed) > 0 {
		r.log.Info("removed what an earlier life of this node left", "removed", removed)
	}
	if err != nil {
		return removed, fmt.Errorf("sweep: %w", err)
	}
	return removed, nil
}

// leftovers returns the processes of known that still live, those whose marker
// matches, and all their descendants.
func leftovers(known []proctab.ID, match func(marker) bool) []proctab.ID {
	table := proctab.Table()
	roots := make(map[int]bool)
	for _, p := range table {
		if slices.Contains(known, p.ID) {
			roots[p.PID] = true
		} else if m, ok := readMarker(p.PID); ok && match(m) {
			roots[p.PID] = true
		}
	}
	return proctab.Family(table, roots)
}
