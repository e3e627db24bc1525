package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// heartbeat is how often a watch hears from us when nothing changes.
const heartbeat = time.Second

// Watch reports everything, then changes as they come, and a heartbeat each
// second without one. A slow send makes its own watch skip intermediate
// states, and nobody else wait. It returns nil after Run has ended and its
// last report was sent; else with send's error or ctx's cause. A first report
// whose Version is not lower than what StartReplica, StopReplica or Fence
// returned shows what that did.
//
// Every controller may watch. A newer order counts as if it had been obeyed, an
// older one is let in and changes nothing; only another cluster's is refused.
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
		if err := send(a.board.since(w)); err != nil {
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
