//go:build linux

package partition

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// A leader reaches clients and workers, but no other controller. The majority
// continues without it. It writes nothing and answers no linearizable read, and calls
// through it succeed all the time. Whatever it ordered, only replicas that the
// majority wanted changed are changed.
func TestLeaderCutOffFromControllers(t *testing.T) {
	c := NewCluster(t, 2)
	before := c.Deploy("c1", 4)
	old := c.AwaitLeader(c.Controllers...)
	majority := c.otherControllers(old)
	callers := c.Call(20*time.Second, c.Controllers...)

	c.Cut(old, majority...)
	refusals := c.expectRefusals(old, "never")
	c.AwaitLeader(majority...)
	for i, via := range majority {
		eventually(t, "the majority writes through "+via, func() error { return c.Put(via, "demo", c.spec(4, 2000+i)) })
	}
	// Longer than node_grace: the old leader would have acted by then.
	throughout(t, 12*time.Second, "nothing is touched", func() error { return c.same(majority[0], before) })

	// Now the two sides want different numbers of replicas.
	eventually(t, "the majority scales up", func() error { return c.Put(majority[1], "demo", c.spec(5, 3000)) })
	c.AwaitReplicas(5, majority...)
	after, err := c.Replicas(majority[0])
	if err != nil {
		t.Fatal(err)
	}
	for id, pid := range before {
		if after[id] != pid {
			t.Errorf("replica %s, process %d, is none of %v", id, pid, after)
		}
	}
	refusals.finish(t)

	c.Heal()
	eventually(t, "the old leader follows", func() error {
		queue, err := c.Queue(old, "demo", api.ReadOptions{})
		if err != nil {
			return err
		}
		if _, err := c.Leader(c.Controllers...); err != nil {
			return err
		}
		return errors.Join(differ("queue", queue, 3000), c.same(old, after))
	})
	refusals.mustBeGone(t, c, old)
	eventually(t, "a write through the old leader", func() error { return c.Put(old, "demo", c.spec(5, 4000)) })
	throughout(t, 3*time.Second, "nothing is touched after healing", func() error { return c.untouched(after) })
	callers.Finish(t, false)
}

// First a leader hears no other controller, then no other controller hears the
// leader. There is a leader again or still, writes work, and nothing is replaced.
func TestOneWayLoss(t *testing.T) {
	c := NewCluster(t, 2)
	before := c.Deploy("c1", 4)
	for i, way := range []struct {
		name  string
		fault func(leader string)
	}{
		{"leader hears nobody", func(leader string) { c.Deafen(leader, c.Others(leader)...) }},
		{"nobody hears the leader", func(leader string) {
			for _, other := range c.Others(leader) {
				c.Deafen(other, leader)
			}
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			old := c.AwaitLeader(c.Controllers...)
			majority := c.otherControllers(old)
			callers := c.Call(20*time.Second, majority...)
			way.fault(old)
			refusals := c.expectRefusals(old, fmt.Sprintf("never-%d", i+1))
			c.AwaitLeader(majority...)
			queue := 2000 * (i + 1)
			eventually(t, "a write through the others", func() error { return c.Put(majority[0], "demo", c.spec(4, queue)) })
			eventually(t, "a read through the others", func() error {
				got, err := c.Queue(majority[1], "demo", api.ReadOptions{})
				return errors.Join(err, differ("queue", got, queue))
			})
			throughout(t, 8*time.Second, "nothing is replaced", func() error { return c.untouched(before) })
			refusals.finish(t)

			c.Heal()
			eventually(t, "all follow one leader", func() error {
				got, err := c.Queue(old, "demo", api.ReadOptions{})
				if err != nil {
					return err
				}
				if _, err := c.Leader(c.Controllers...); err != nil {
					return err
				}
				return errors.Join(differ("queue", got, queue), c.same(old, before))
			})
			refusals.mustBeGone(t, c, old)
			callers.Finish(t, false)
		})
	}
}

func (c *Cluster) otherControllers(but string) []string {
	return slices.DeleteFunc(slices.Clone(c.Controllers), func(name string) bool { return name == but })
}

// refusals is a client that writes and reads all the time through a controller
// without a majority.
type refusals struct {
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu     sync.Mutex
	writes map[verdict][]fleet.ServerName
	reads  int
	errs   []error
}

// expectRefusals starts a client of a controller that is cut off from the majority.
// The servers that it writes have names with this prefix.
func (c *Cluster) expectRefusals(via, prefix string) *refusals {
	ctx, cancel := context.WithCancel(context.Background())
	r := &refusals{cancel: cancel, writes: map[verdict][]fleet.ServerName{}}
	client := c.Clients[via]
	ask := func(f func(ctx context.Context) error) {
		r.group.Go(func() {
			for ctx.Err() == nil {
				within, cancel := context.WithTimeout(ctx, asked)
				err := f(within)
				cancel()
				if ctx.Err() == nil && err != nil {
					r.mu.Lock()
					r.errs = append(r.errs, err)
					r.mu.Unlock()
				}
			}
		})
	}
	number := 0
	ask(func(ctx context.Context) error {
		number++
		name := fleet.ServerName(fmt.Sprintf("%s-%d", prefix, number))
		_, err := client.PutServer(ctx, name, c.spec(0, number), api.WriteOptions{})
		if errors.Is(context.Cause(ctx), context.Canceled) {
			return nil // the test has ended
		}
		if err := mustRefuse(err); err != nil {
			return err
		}
		v, _ := judge(err)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.writes[v] = append(r.writes[v], name)
		return nil
	})
	ask(func(ctx context.Context) error {
		s, err := client.GetServer(ctx, "demo", api.ReadOptions{})
		if errors.Is(context.Cause(ctx), context.Canceled) {
			return nil
		}
		if e, ok := errors.AsType[*api.Error](err); !ok || e.Code != api.CodeNoLeader {
			return fmt.Errorf("a read without a majority: got %q (%w), want %s", s.Spec, errors.Join(err), api.CodeNoLeader)
		}
		if s, err := client.GetServer(ctx, "demo", api.ReadOptions{Stale: true}); err != nil && ctx.Err() == nil {
			return fmt.Errorf("a stale read: got %q: %w", s.Spec, err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.reads++
		return nil
	})
	c.t.Cleanup(func() { r.cancel(); r.group.Wait() })
	return r
}

// finish fails the test unless there were writes and reads, and all were refused.
func (r *refusals) finish(t testing.TB) {
	t.Helper()
	r.cancel()
	r.group.Wait()
	t.Logf("without a majority: writes %v, %d reads refused", r.writes, r.reads)
	if err := errors.Join(r.errs...); err != nil {
		t.Error(err)
	}
	if len(r.writes) == 0 || r.reads == 0 {
		t.Error("nothing was asked for without a majority")
	}
}

// mustBeGone fails the test if a refused write is stored.
func (r *refusals) mustBeGone(t testing.TB, c *Cluster, via string) {
	t.Helper()
	ctx, cancel := c.ctx()
	defer cancel()
	list, err := c.Clients[via].List(ctx, api.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list.Servers {
		if slices.Contains(r.writes[refused], s.Name) {
			t.Errorf("%s shows %s, which was refused as not written", via, s.Name)
		}
	}
}
