package events

import (
	"context"
	"errors"
	"sync"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/leader"
)

var errNothingToCopy = errors.New("this controller leads")

// Copier copies the leader's events to the log of a controller that follows.
type Copier struct {
	Log    *Log
	Leader *leader.Finder
}

// Run copies until ctx ends, and returns nil.
func (c *Copier) Run(ctx context.Context) error { return c.Log.Follow(ctx, c.copy) }

// copy copies from the present leader until its stream ends, or another
// controller leads: a stream outlives the tenure, but has nothing new then.
func (c *Copier) copy(ctx context.Context, since string, on func(Event)) error {
	from, err := c.Leader.Find()
	if err != nil {
		return err
	}
	if from.Self {
		return errNothingToCopy
	}
	client, err := c.Leader.Client(from)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	watch.Go(func() {
		_ = c.Leader.Wait(ctx, func(l leader.Leader) bool { return l.ID != from.ID })
		cancel()
	})
	return client.StreamEvents(ctx, &api.EventOptions{Since: since, Limit: MaxEvents}, on)
}
