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
	steadyLife = 30 * time.Second // a process that ran this long resets the delay
	logPeriod  = 10 * time.Second // how often the size of a log is checked
)

// nextDelay returns how long to wait before a child is restarted. last is the
// delay before its previous start, and life is how long it then ran.
func nextDelay(last, life time.Duration) time.Duration {
	if last == 0 || life >= steadyLife {
		return firstDelay
	}
	return min(2*last, maxDelay)
}

// cluster supervises the children of one Run.
type cluster struct {
	launcher *launcher
	out      *progress.Printer
	group    *errgroup.Group
	ring     *ring
}

// supervised is a child that is restarted when it dies.
type supervised struct {
	listening chan struct{} // closed once addr is set
	addr      address
	failed    chan struct{} // closed if the first start fails
}

// address waits for the child's first address.
func (k *supervised) address(ctx context.Context) (address, error) {
	select {
	case <-k.listening:
		return k.addr, nil
	case <-k.failed:
		return address{}, errors.New("did not start")
	case <-ctx.Done():
		return address{}, context.Cause(ctx)
	}
}

// supervise starts a program and keeps it running until ctx ends. If the first
// start fails, the group gets the error. keepers, if not nil, counts the
// children that are not gone yet.
func (c *cluster) supervise(ctx context.Context, p program, keepers *sync.WaitGroup) *supervised {
	k := &supervised{listening: make(chan struct{}), failed: make(chan struct{})}
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
		c.recordAddress(p, one)
		k.addr = one.addr
		close(k.listening)
		c.keepRunning(ctx, p, one)
		return nil
	})
	return k
}

// recordAddress sets the address of a controller in the ring.
func (c *cluster) recordAddress(p program, one *child) {
	if !p.lifeline {
		c.ring.set(p.name, one.addr)
	}
}

// keepRunning restarts the child whenever it dies, until ctx ends.
func (c *cluster) keepRunning(ctx context.Context, p program, one *child) {
	had, delay := one.addr, time.Duration(0)
	for c.waitForExit(ctx, one) {
		delay = nextDelay(delay, time.Since(one.started))
		c.out.Event(fmt.Sprintf("%s died: %s", p.name, one.exitText()))
		one.log.close()
		for {
			c.out.Event(fmt.Sprintf("restarting %s in %s", p.name, delay))
			if proctab.Sleep(ctx, delay) != nil {
				return
			}
			next, err := c.launcher.start(ctx, p, had)
			if ctx.Err() != nil && err != nil {
				return
			}
			if err == nil {
				c.recordAddress(p, next)
				one, had = next, next.addr
				break
			}
			c.out.Event(err.Error())
			had = p.addressForRetry(had)
			delay = nextDelay(delay, 0)
		}
	}
}

// waitForExit waits for the end of a child. It returns true if the child died,
// and false if ctx ended and the child was stopped.
func (c *cluster) waitForExit(ctx context.Context, one *child) bool {
	tick := time.NewTicker(logPeriod)
	defer tick.Stop()
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
		case <-tick.C:
			if err := one.log.bound(); err != nil {
				c.out.Event(fmt.Sprintf("log of %s: %s", one.name, err))
			}
		}
	}
}
