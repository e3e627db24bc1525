//go:build linux

package partition

import (
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// A worker is unreachable. For less than node_grace it keeps its replicas and nothing
// is replaced. After that all are replaced elsewhere, and when it returns exactly the
// wanted replicas run. Calls succeed all the time.
func TestWorkerCutOff(t *testing.T) {
	c := NewCluster(t, 2)
	before := c.Deploy("c1", 4)
	leader := c.AwaitLeader(c.Controllers...)
	if on := c.running("w1"); len(on) != 2 {
		t.Fatalf("w1 runs %v of %v, want two", on, before)
	}

	t.Run("for a moment", func(t *testing.T) {
		callers := c.Call(30*time.Second, c.Controllers...)
		c.Cut("w1", c.Others("w1")...)
		// Heal as soon as the cut is noticed, when the grace begins.
		eventually(t, "the cut is seen", func() error { return c.workersAre(leader, api.NodeReady, "w2") })
		c.Heal()
		eventually(t, "the worker and its replicas are back", func() error {
			for _, name := range c.Controllers {
				if err := c.workersAre(name, api.NodeReady, c.Workers...); err != nil {
					return err
				}
				if err := c.same(name, before); err != nil {
					return err
				}
			}
			return nil
		})
		// Wait longer than a replacement would have taken.
		throughout(t, 12*time.Second, "nothing is replaced", func() error { return c.untouched(before) })
		callers.Finish(t, false)
	})

	t.Run("for good", func(t *testing.T) {
		callers := c.Call(30*time.Second, c.Controllers...)
		kept := c.running("w1")
		c.Cut("w1", c.Others("w1")...)
		eventually(t, "all is replaced on the other worker", func() error {
			pids, err := c.readyOn(leader, "w2")
			if err != nil {
				return err
			}
			if err := differ("replicas on w2", len(pids), 4); err != nil {
				return err
			}
			return differ("processes on w2", len(c.running("w2")), 4)
		})
		if got := c.running("w1"); differ("", got, kept) != nil {
			t.Errorf("w1 runs %v while it is alone, want what it had: %v", got, kept)
		}
		c.Heal()
		eventually(t, "the worker is back", func() error { return c.workersAre(leader, api.NodeReady, c.Workers...) })
		c.AwaitReplicas(4, c.Controllers...)
		throughout(t, 5*time.Second, "it stays so", func() error { return differ("replicas that run", len(c.running()), 4) })
		callers.Finish(t, false)
	})
}

// readyOn returns the demo server's ready replicas on one worker.
func (c *Cluster) readyOn(via, worker string) ([]fleet.ReplicaID, error) {
	ctx, cancel := c.ctx()
	defer cancel()
	all, err := c.Clients[via].Replicas(ctx)
	var ids []fleet.ReplicaID
	for _, r := range all {
		if r.Server == "demo" && string(r.Node) == worker && r.Phase == "READY" {
			ids = append(ids, r.ID)
		}
	}
	return ids, err
}
