package observe

import (
	"context"
	"fmt"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Logs passes the last tail lines of a replica (0: all) to on, and with follow
// those to come until ctx or the replica ends. It first calls on without lines, as
// soon as it has found the replica, and stops when on returns an error.
//
// The lines come from the replica's worker, which also keeps them for a while
// after the replica has ended. Of an ended replica that its worker does not know
// any more, Logs has the lines of the last report.
//
// The error wraps fleet.ErrUnknownReplica if there is no such replica, and
// fleet.ErrReplicaLost if its node cannot be reached.
func (o *Observer) Logs(ctx context.Context, id fleet.ReplicaID, tail int, follow bool, on func([]fleet.LogLine) error) error {
	snap := o.Snapshot()
	running, ended := snap.Replicas[id], snap.ended(id)
	var worker Worker
	switch {
	case running != nil:
		if worker = snap.Nodes[running.Node].Worker; worker == nil {
			return fmt.Errorf("logs of replica %s: node %s cannot be reached: %w", id, running.Node, fleet.ErrReplicaLost)
		}
	case ended != nil:
		worker = snap.Nodes[ended.Node].Worker
	default:
		return fmt.Errorf("%w %q", fleet.ErrUnknownReplica, id)
	}
	if err := on(nil); err != nil {
		return err
	}
	if worker != nil {
		passed := false
		err := worker.Logs(ctx, id, tail, follow, func(lines []fleet.LogLine) error {
			passed = true
			return on(lines)
		})
		if err == nil || passed || ctx.Err() != nil {
			return err
		}
		if ended = o.Snapshot().ended(id); ended == nil {
			return err
		}
	}
	return on(keptLines(ended, tail))
}

// keptLines returns the last lines of an ended replica's report.
func keptLines(r *fleet.Replica, tail int) []fleet.LogLine {
	texts := r.Log
	if tail > 0 {
		texts = texts[max(0, len(texts)-tail):]
	}
	lines := make([]fleet.LogLine, len(texts))
	for i, text := range texts {
		lines[i].Text = text
	}
	return lines
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
