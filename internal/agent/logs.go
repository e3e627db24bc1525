package agent

import (
	"context"
	"fmt"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// logBatch is how many lines are sent at once.
const logBatch = 64

// Logs sends the last tail lines of a replica's stderr (0: all that are kept) and,
// with follow, new ones until the replica ends. A slow reader misses lines and delays
// nobody. The lines of an ended replica are kept while it is remembered. Logs fails
// with fleet.ErrUnknownReplica if the replica is not known here.
func (a *Agent) Logs(ctx context.Context, id fleet.ReplicaID, tail int, follow bool, send func([]fleet.LogLine) error) error {
	ring, known := a.board.stderrOf(id)
	if !known {
		return fmt.Errorf("logs of %s: %w", id, fleet.ErrUnknownReplica)
	}
	look := make(chan struct{}, 1)
	defer ring.read(look)()
	seen := ring.tail(tail)
	for {
		lines, now, more := ring.after(seen, logBatch)
		seen = now
		if len(lines) > 0 {
			if err := send(lines); err != nil {
				return err
			}
			continue
		}
		if !follow || !more {
			return nil
		}
		select {
		case <-look:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
