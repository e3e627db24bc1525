//go:build linux

package partition

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Nearly a third of all packets between hosts is lost. Writes that are acknowledged
// meanwhile are stored, each call is answered in time, and in the end exactly the
// wanted replicas run.
func TestLoss(t *testing.T) {
	c := NewCluster(t, 2)
	c.Deploy("c1", 4)
	const during = 20 * time.Second

	callers := c.Call(5*time.Second, c.Controllers...)
	c.Lose(0.3)
	ctx, cancel := context.WithTimeout(t.Context(), during)
	defer cancel()
	var (
		group    sync.WaitGroup
		mu       sync.Mutex
		wrote    = map[fleet.ServerName]int{}
		verdicts = map[verdict]int{}
	)
	for _, via := range c.Controllers {
		group.Go(func() {
			tick := time.NewTicker(200 * time.Millisecond)
			defer tick.Stop()
			for n := 1; ctx.Err() == nil; n++ {
				name := fmt.Sprintf("note-%s-%d", via, n)
				v, err := judge(c.Put(via, name, c.spec(0, n)))
				mu.Lock()
				verdicts[v]++
				if err != nil {
					t.Errorf("write %s: %v", name, err)
				}
				if v == done {
					wrote[fleet.ServerName(name)] = n
				}
				mu.Unlock()
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	group.Wait()
	c.Heal()
	t.Logf("writes: %v", verdicts)
	if len(wrote) == 0 {
		t.Errorf("no write was acknowledged within %s", during)
	}

	c.AwaitLeader(c.Controllers...)
	for _, via := range c.Controllers {
		eventually(t, "all that was acknowledged is there for "+via, func() error {
			ctx, cancel := c.ctx()
			defer cancel()
			list, err := c.Clients[via].List(ctx, api.ReadOptions{})
			if err != nil {
				return err
			}
			there := map[fleet.ServerName]int{}
			for _, s := range list.Servers {
				if there[s.Name], err = queueOf(s); err != nil {
					return err
				}
			}
			for name, n := range wrote {
				if there[name] != n {
					// No later answer can correct this.
					t.Fatalf("%s answers without %s, which was acknowledged", via, name)
				}
			}
			return nil
		})
	}
	c.AwaitReplicas(4, c.Controllers...)
	throughout(t, 5*time.Second, "it stays so", func() error { return differ("replicas that run", len(c.running()), 4) })
	answered := callers.Results().Answered
	eventually(t, "calls succeed again", func() error {
		if n := callers.Results().Answered - answered; n < 10 {
			return fmt.Errorf("%d calls have succeeded", n)
		}
		return nil
	})
	callers.Finish(t, true)
}
