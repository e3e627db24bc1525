package up

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mcpfleet/mcpfleet/internal/cli/progress"
	"github.com/mcpfleet/mcpfleet/internal/proctab"
)

const (
	firstDelay = 200 * time.Millisecond
	maxDelay   = 5 * time.Second
	steadyLife = 30 * time.Second // after such a life the delays begin anew
	logPeriod  = 10 * time.Second // how often the size of a log is looked at
)

// nextDelay is how long to wait before a child is started again, after the
// delay before its last life, which lasted so long.
func nextDelay(last, life time.Duration) time.Duration {
	if last == 0 || life >= steadyLife {
		return firstDelay
	}
	return min(2*last, maxDelay)
}

// cluster is the children of one Run.
type cluster struct {
	launcher *launcher
	out      *progress.Printer
	group    *errgroup.Group
	ring     *ring
}

// kept is a child that is started again when it dies.
type kept struct {
	listening chan struct{} // closed once it has told its address
	addr      address
	failed    chan struct{} // closed when it never will
}

// address waits until the child listens for the first time.
func (k *kept) address(ctx context.Context) (address, error) {
	select {
	case <-k.listening:
		return k.addr, nil
	case <-k.failed:
		return address{}, errors.New("did not start")
	case <-ctx.Done():
		return address{}, context.Cause(ctx)
	}
}

// keep starts a program and keeps it running until ctx ends. Only a first
// start that goes wrong is an error of the group. The wait group, if any, knows
// when nothing of it is left.
func (c *cluster) keep(ctx context.Context, p program, keepers *sync.WaitGroup) *kept {
	k := &kept{listening: make(chan struct{}), failed: make(chan struct{})}
	if keepers == nil {
		keepers = new(sync.WaitGroup)
	}
	keepers.Add(1)
	c.group.Go(func() error {
		defer keepers.Done()
		one, err := c.launcher.start(ctx, p, address{})
		if err != nil {
			close(k.failed)
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		c.listens(p, one)
		k.addr = one.addr
		close(k.listening)
		c.revive(ctx, p, one)
		return nil
	})
	return k
}

// listens notes where a controller listens from now on.
func (c *cluster) listens(p program, one *child) {
	if !p.lifeline {
		c.ring.tell(p.name, one.addr)
	}
}

// revive lives as long as ctx, and has a child running most of that time.
func (c *cluster) revive(ctx context.Context, p program, one *child) {
	had, delay := one.addr, time.Duration(0)
	for c.attend(ctx, one) {
		delay = nextDelay(delay, time.Since(one.started))
		c.out.Event(fmt.Sprintf("%s died: %s", p.name, one.obituary()))
		one.log.close()
		for {
			c.out.Event(fmt.Sprintf("starting %s again in %s", p.name, delay))
			if proctab.Sleep(ctx, delay) != nil {
				return
			}
			next, err := c.launcher.start(ctx, p, had)
			if ctx.Err() != nil && err != nil {
				return
			}
			if err == nil {
				c.listens(p, next)
				one, had = next, next.addr
				break
			}
			c.out.Event(err.Error())
			had = p.again(had)
			delay = nextDelay(delay, 0)
		}
	}
}

// attend waits for the end of a child. It returns true when the child died, and
// false when ctx ended and it was stopped.
func (c *cluster) attend(ctx context.Context, one *child) bool {
	look := time.NewTicker(logPeriod)
	defer look.Stop()
	for {
		select {
		case <-one.exited:
			if ctx.Err() == nil {
				return true
			}
			one.log.close()
			return false
		case <-ctx.Done():
			c.launcher.stop(ctx, one)
			one.log.close()
			return false
		case <-look.C:
			if err := one.log.bound(); err != nil {
				c.out.Event(fmt.Sprintf("log of %s: %s", one.name, err))
			}
		}
	}
}
