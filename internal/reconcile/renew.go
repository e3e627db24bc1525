package reconcile

import (
	"context"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// renewPeriod is how often a leader repeats its fence to workers that are
// stopping. A worker that misses it for some seconds stops without waiting for its
// replicas to be moved.
const renewPeriod = time.Second

// renew repeats the leader's fence to workers that are stopping, until ctx ends.
// Their answers do not matter: those to the dispatcher's fences count.
func (r *Reconciler) renew(ctx context.Context, as fleet.Order) {
	var sent sync.WaitGroup
	defer sent.Wait()
	tick := time.NewTicker(renewPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for id, n := range r.cfg.View.Snapshot().Nodes {
			if !n.Connected || !n.Draining {
				continue
			}
			sent.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, renewPeriod)
				defer cancel()
				if _, err := n.Worker.Fence(ctx, as); err != nil {
					r.log.Debug("fence of a draining node not renewed", "node", id, "err", err)
				}
			})
		}
	}
}
