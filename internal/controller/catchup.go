package controller

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/events"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// catchUp finds out when this controller has applied all that was committed
// before it started, or before it came back after it had been stopped or cut
// off for a while: until then it knows less than users have been promised.
type catchUp struct {
	writes  *writes
	done    chan struct{} // closed once it has all that was committed before its start
	returns atomic.Uint64 // the last return since when it has caught up
}

// missing says what this controller may not know yet; "" if it has caught up.
func (c *catchUp) missing() string {
	select {
	case <-c.done:
	default:
		return "this controller does not know yet all that was written before it started"
	}
	if c.returns.Load() != c.writes.Returns() {
		return "this controller was stopped or cut off, and does not know yet all that was written meanwhile"
	}
	return ""
}

// Run returns when ctx ends.
func (c *catchUp) Run(ctx context.Context) error {
	changed, cancel := c.writes.Subscribe()
	defer cancel()
	retry := time.NewTicker(100 * time.Millisecond)
	defer retry.Stop()
	target, asked, first := uint64(0), false, true
	returns := c.writes.Returns()
	for {
		if now := c.writes.Returns(); now != returns {
			returns, asked = now, false
		}
		if first || c.returns.Load() != returns {
			if !asked {
				target, asked = c.committed(ctx)
			}
			if asked && c.writes.State().Index >= target {
				c.returns.Store(returns)
				if first {
					first = false
					close(c.done)
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-retry.C:
		}
	}
}

// committed is the index of desired state as the leader has it now.
func (c *catchUp) committed(ctx context.Context) (index uint64, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	self, http, ok := c.writes.Leader()
	switch {
	case !ok || !self && http == "":
		return 0, false
	case self:
		st, err := c.writes.Read(ctx)
		if err != nil {
			return 0, false
		}
		return st.Index, true
	}
	client, err := api.NewClient(http, c.writes.peers)
	if err != nil {
		return 0, false
	}
	list, err := client.List(ctx, api.ReadOptions{})
	return list.Index, err == nil
}

// eventCopier copies the leader's events while this controller follows.
type eventCopier struct {
	writes *writes
	events *events.Log
}

var errNobodyToCopy = errors.New("there is no other leader to copy events from")

// Run copies until ctx ends.
func (c *eventCopier) Run(ctx context.Context) error {
	return c.events.Follow(ctx, func(ctx context.Context, since string, on func(events.Event)) error {
		self, http, ok := c.writes.Leader()
		if !ok || self || http == "" {
			return errNobodyToCopy
		}
		leader, _, _ := c.writes.Store.Leader()
		client, err := api.NewClient(http, c.writes.peers)
		if err != nil {
			return err
		}
		// A stream outlives its leader's tenure: whoever leads next has the
		// events from then on.
		ctx, cancel := context.WithCancel(ctx)
		var watch sync.WaitGroup
		defer watch.Wait()
		defer cancel()
		watch.Go(func() { c.cancelWhenDeposed(ctx, leader, cancel) })
		return client.StreamEvents(ctx, &api.EventOptions{Since: since, Limit: events.MaxEvents}, on)
	})
}

// cancelWhenDeposed returns when ctx ends.
func (c *eventCopier) cancelWhenDeposed(ctx context.Context, leader fleet.ControllerID, cancel func()) {
	changed, unsubscribe := c.writes.Subscribe()
	defer unsubscribe()
	for {
		if now, _, ok := c.writes.Store.Leader(); ok && now != leader {
			cancel()
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}
