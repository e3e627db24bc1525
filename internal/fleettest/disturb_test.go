package fleettest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
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
			c := Start(t, Options{Workers: 3, File: echoFile(3, ""), Dial: d.Client(), Patient: true})

			// The bound of each stage: what is wanted, of the old revision too
			// while it is being replaced.
			var mu sync.Mutex
			bound := 3
			var crowds []crowd
			ctx, cancel := context.WithCancel(t.Context())
			var watcher sync.WaitGroup
			watcher.Go(func() {
				tick := time.NewTicker(2 * time.Millisecond)
				defer tick.Stop()
				for ctx.Err() == nil {
					mu.Lock()
					from := time.Now()
					if n := c.Alive(); n > bound {
						crowds = append(crowds, crowd{from, time.Now(), n - bound})
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
			happened, err := c.Events(t.Context(), api.EventOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, crowd := range crowds {
				if allowed := max(extra(happened.Events, crowd.from), extra(happened.Events, crowd.to)); crowd.more > allowed {
					t.Errorf("%d replicas too many were alive at once at %v, %d of them allowed", crowd.more, crowd.from, allowed)
				}
			}
		})
	}
}

// crowd is a moment at which more replicas were alive than wanted and being
// replaced.
type crowd struct {
	from, to time.Time
	more     int
}

// extra returns how many more there may be, by what the leader had done until
// then. If no replica of the server serves and a node with one cannot be reached,
// which on a busy machine outlasts a broken stream, another replica stands in. It
// is one too many once the node is back, until one of them has ended.
func extra(events []api.Event, at time.Time) int {
	standIns := make(map[fleet.ReplicaID]string) // why they were started
	for _, e := range events {
		if e.Time.After(at) {
			break
		}
		surplus := e.Kind == fleet.EventReplicaStopped && strings.Contains(e.Message, " more than the ")
		switch {
		case e.Kind == fleet.EventReplicaStarted && strings.Contains(e.Message, "no replica serves while node"):
			standIns[e.Replica] = e.Message
		case e.Kind == fleet.EventReplicaStopped, e.Kind == fleet.EventReplicaFailed:
			for id, why := range standIns {
				if id == e.Replica || surplus || strings.Contains(why, fmt.Sprintf("node %s cannot", e.Node)) {
					delete(standIns, id)
					break
				}
			}
		}
	}
	return len(standIns)
}
