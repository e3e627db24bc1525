package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// heartbeat is how often a watch gets a report if nothing changes.
const heartbeat = time.Second

// Watch sends a full report, then each change, and a heartbeat after each second
// without a change. A slow send makes its own watch skip intermediate states, and
// delays no other. Watch returns nil after Run has ended and the last report was sent,
// else send's error or ctx's cause. A first report whose Version is at least the one
// that StartReplica, StopReplica or Fence returned shows the effect of that order.
//
// Every controller may watch. A newer order counts as if it had been obeyed, and an
// older one changes nothing. Only an order of another cluster is refused.
func (a *Agent) Watch(ctx context.Context, o fleet.Order, send func(fleet.Report) error) error {
	if err := a.awaitOrders(ctx); err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	if err := a.orders.listen(o); err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	w := a.board.watch()
	defer a.board.unwatch(w)
	beat := time.NewTimer(heartbeat)
	defer beat.Stop()
	for last := false; ; {
		r := a.board.since(w)
		r.Streams = a.streams.now()
		if err := send(r); err != nil {
			return err
		}
		if last {
			return nil
		}
		beat.Reset(heartbeat)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-w.look:
		case <-beat.C:
		case <-a.stopped:
			last = true
		}
	}
}
