package observe

import (
	"context"
	"fmt"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Logs calls on with the last lines of a replica, at most tail of them unless
// tail is 0, and with those to come if follow is set, until ctx or the replica
// ends. The lines come from the replica's worker while it runs, then from what
// was kept of its end. The error wraps fleet.ErrUnknownReplica if there is no
// such replica, and fleet.ErrReplicaLost if its node cannot be reached.
func (o *Observer) Logs(ctx context.Context, id fleet.ReplicaID, tail int, follow bool, on func(fleet.LogLine)) error {
	snap := o.Snapshot()
	if r := snap.Replicas[id]; r != nil {
		worker := snap.Nodes[r.Node].Worker
		if worker == nil {
			return fmt.Errorf("logs of replica %s: node %s cannot be reached: %w", id, r.Node, fleet.ErrReplicaLost)
		}
		return worker.Logs(ctx, id, tail, follow, func(lines []fleet.LogLine) error {
			for _, l := range lines {
				on(l)
			}
			return ctx.Err()
		})
	}
	r := snap.ended(id)
	if r == nil {
		return fmt.Errorf("%w %q", fleet.ErrUnknownReplica, id)
	}
	lines := r.Log
	if tail > 0 && len(lines) > tail {
		lines = lines[len(lines)-tail:]
	}
	for _, l := range lines {
		on(fleet.LogLine{Text: l})
	}
	return nil
}

// ended returns a replica whose end is remembered, or nil.
func (s *Snapshot) ended(id fleet.ReplicaID) *fleet.Replica {
	for _, list := range s.Ended {
		for _, r := range list {
			if r.ID == id {
				return r
			}
		}
	}
	return nil
}
