package compose

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

// TestComposeHA is the life of three controllers behind a load balancer. The leader
// is killed under load and comes back. Then the next leader is stopped in order.
func TestComposeHA(t *testing.T) {
	needDocker(t)
	c := newCluster(t, "docker-compose.ha.yml")
	c.run(filepath.Join(c.dir, "../images/build.sh"), "haproxy")
	c.scale(3)
	c.eventually(3*time.Minute, "three workers and three replicas", func(ctx context.Context) error { return c.settled(ctx, 3) })
	c.eventually(time.Minute, "three voters", func(ctx context.Context) error { return c.voters(ctx, 3) })

	c.killLeaderUnderLoad()
	c.stopLeaderUnderLoad()

	c.stopAllWorkers()
}

// voters returns an error until this many controllers vote and live, and one of
// them leads.
func (c *cluster) voters(ctx context.Context, n int) error {
	list, err := c.client.Controllers(ctx)
	if err != nil {
		return err
	}
	alive, led := 0, false
	for _, one := range list.Controllers {
		if one.Role == api.ControllerVoter && one.Alive {
			alive++
			led = led || one.Leader
		}
	}
	if alive != n || !led {
		return fmt.Errorf("%d voters live, want %d, one of them leading: %+v", alive, n, list.Controllers)
	}
	return nil
}

// leader returns the container of the controller that leads. On a busy machine
// there may be none for a moment.
func (c *cluster) leader() (leader container) {
	c.t.Helper()
	c.eventually(time.Minute, "a leader", func(ctx context.Context) error {
		list, err := c.client.Controllers(ctx)
		if err != nil {
			return err
		}
		for _, one := range list.Controllers {
			if !one.Leader {
				continue
			}
			// Controllers are named like their services.
			if found := c.containers(string(one.Name)); len(found) == 1 {
				leader = found[0]
				return nil
			}
		}
		return fmt.Errorf("no container leads: %+v", list.Controllers)
	})
	return leader
}

// write scales the server, which needs a leader.
func (c *cluster) write(ctx context.Context, replicas int) error {
	_, err := c.client.Scale(ctx, "everything", replicas, api.WriteOptions{})
	return err
}

// killLeaderUnderLoad kills the leader. At most the calls that were running through
// it may fail, and writes must work again soon.
func (c *cluster) killLeaderUnderLoad() {
	c.t.Helper()
	const callers = 16
	l := startLoad(c.t, c.client, callers)
	c.eventually(30*time.Second, "load", l.more(200))
	victim := c.leader()
	c.run("docker", "kill", victim.ID)
	killed := time.Now()
	c.eventually(30*time.Second, "a write", func(ctx context.Context) error { return c.write(ctx, 4) })
	c.t.Logf("the first write succeeded %v after the kill", time.Since(killed).Round(time.Millisecond))
	c.eventually(time.Minute, "load after the kill", l.more(1000))
	failed := l.end()
	c.t.Logf("%s killed: %d calls, %d failed", strings.TrimPrefix(victim.Name, "/"), l.calls.Load(), len(failed))
	// These are the calls of echo, three slow ones, and one that may not be repeated.
	if most := callers + 4; len(failed) > most {
		c.t.Errorf("%d calls failed, want at most the %d that were under way: %v", len(failed), most, errors.Join(failed[:10]...))
	}
	c.run("docker", "start", victim.ID)
	c.eventually(time.Minute, "three voters again", func(ctx context.Context) error { return c.voters(ctx, 3) })
	c.eventually(time.Minute, "four replicas", func(ctx context.Context) error { return c.settled(ctx, 3) })
}

// stopLeaderUnderLoad stops the leader in order. No call may fail.
func (c *cluster) stopLeaderUnderLoad() {
	c.t.Helper()
	l := startLoad(c.t, c.client, 16)
	c.eventually(30*time.Second, "load", l.more(200))
	victim := c.leader()
	start := time.Now()
	c.run("docker", "stop", "--time", "40", victim.ID)
	c.t.Logf("the leader stopped in %v", time.Since(start).Round(time.Millisecond))
	c.eventually(30*time.Second, "load after the stop", l.more(200))
	c.report("stop of the leader", l)
	if got := l.lost.Load(); got != 0 {
		c.t.Errorf("stop of the leader: %d calls lost, want none", got)
	}
}
