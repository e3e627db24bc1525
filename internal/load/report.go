package load

import (
	"context"
	"fmt"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	// reportPace is the least time between two reports: changes that are closer
	// together travel in one.
	reportPace = 25 * time.Millisecond
	// heartbeat is how often a controller reports if nothing changes.
	heartbeat = time.Second
)

// Reporter reports the queues of this controller to the leader. It implements
// rpc.Controller.
type Reporter struct {
	Cluster func() fleet.ClusterID // that this controller belongs to; "" for none
	Queues  Queues
}

// WatchQueues sends all queues that are not empty, then those that have changed:
// at once after a pause, else forty times a second at most. It ends with ctx, when
// send fails, or with fleet.ErrForeignCluster.
func (r *Reporter) WatchQueues(ctx context.Context, order fleet.Order, send func(map[fleet.ServerName]int) error) error {
	if own := r.Cluster(); own == "" || order.Cluster != own {
		return fmt.Errorf("%w: this controller serves %q, the order is from %q", fleet.ErrForeignCluster, own, order.Cluster)
	}
	look, cancel := r.Queues.Subscribe()
	defer cancel()
	rest, beat := time.NewTimer(reportPace), time.NewTicker(heartbeat)
	defer rest.Stop()
	defer beat.Stop()
	sent := r.Queues.Queues()
	if err := send(sent); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-rest.C:
		}
		changed := map[fleet.ServerName]int(nil)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-beat.C:
		case <-look:
			now := r.Queues.Queues()
			if changed = changes(sent, now); len(changed) == 0 {
				rest.Reset(reportPace)
				continue
			}
			sent = now
			beat.Reset(heartbeat)
		}
		if err := send(changed); err != nil {
			return err
		}
		rest.Reset(reportPace)
	}
}

// changes returns the queues of after that differ from those of before.
func changes(before, after map[fleet.ServerName]int) map[fleet.ServerName]int {
	out := make(map[fleet.ServerName]int)
	for name, n := range after {
		if n != before[name] {
			out[name] = n
		}
	}
	for name := range before {
		if _, still := after[name]; !still {
			out[name] = 0
		}
	}
	return out
}
