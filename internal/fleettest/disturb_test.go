package fleettest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/rpc/rpctest"
)

// TestDisturbedOrders deploys, scales, updates and kills while orders and
// reports are lost, repeated and reordered: never more replicas alive than
// wanted and being replaced, and in the end exactly those wanted.
func TestDisturbedOrders(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			d := rpctest.Disturb(seed)
			c := Start(t, Options{Workers: 3, File: echoFile(3, ""), Dial: d.Client()})

			// The bound of each stage: what is wanted, of the old revision too
			// while it is being replaced.
			var mu sync.Mutex
			bound, worst := 3, 0
			ctx, cancel := context.WithCancel(t.Context())
			var watcher sync.WaitGroup
			watcher.Go(func() {
				tick := time.NewTicker(2 * time.Millisecond)
				defer tick.Stop()
				for ctx.Err() == nil {
					mu.Lock()
					if n := c.Alive(); n > bound {
						worst = max(worst, n-bound)
					}
					mu.Unlock()
					select {
					case <-ctx.Done():
					case <-tick.C:
					}
				}
			})
			stage := func(most, want int, revision uint64, file string) {
				t.Helper()
				mu.Lock()
				bound = most
				mu.Unlock()
				if file != "" {
					c.Deploy(file)
				}
				Eventually(t, func(ctx context.Context) error {
					ready, err := replicas(ctx, c, "READY")
					if err != nil {
						return err
					}
					for id, r := range ready {
						if uint64(r.Revision) != revision {
							return fmt.Errorf("%s is of revision %d, want %d", id, r.Revision, revision)
						}
					}
					if n := c.Alive(); n != want || len(ready) != want {
						return fmt.Errorf("%d READY and %d alive, want %d", len(ready), n, want)
					}
					// Until a rollout is known to be over, deaths bring the old revision back beside the new one.
					servers, err := c.Servers(ctx)
					if err != nil {
						return err
					}
					if servers[0].Rollout != nil {
						return errors.New("the rollout is not over")
					}
					return nil
				})
			}
			stage(3, 3, 1, "")
			stage(6, 6, 1, echoFile(6, ""))
			stage(6, 2, 1, echoFile(2, ""))
			stage(4, 2, 2, echoFile(2, "    env: {V: two}\n")) // one of the new before one of the old, at most both
			for range 5 {
				ready, err := replicas(t.Context(), c, "READY")
				if err != nil {
					t.Fatal(err)
				}
				for id := range ready {
					c.KillReplica(id)
				}
				stage(2, 2, 2, "")
			}
			stage(5, 5, 2, echoFile(5, "    env: {V: two}\n"))
			d.Stop()
			stage(5, 5, 2, "")
			cancel()
			watcher.Wait()
			if worst > 0 {
				t.Errorf("%d replicas too many were alive at once", worst)
			}
		})
	}
}
