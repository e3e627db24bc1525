package reconcile

import (
	"context"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// renewPeriod is how often a leader shows workers that stop that it is there. A
// worker that misses it for some seconds waits for nobody to move its replicas.
const renewPeriod = time.Second

// renew repeats the leader's fence to nodes whose workers are stopping, until ctx
// ends. What they answer is of no use: the fences that count are those of the
// dispatcher.
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
				ctx, cancel := context.WithTimeout(ctx, renewPeriod) // then comes the next
				defer cancel()
				if _, err := n.Worker.Fence(ctx, as); err != nil {
					r.log.Debug("fence of a draining node not renewed", "node", id, "err", err)
				}
			})
		}
	}
}
