package controller

import (
	"context"
	"sync"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/leader"
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/store"
)

// desiredState implements httpapi.Desired.
type desiredState struct {
	*store.Store
	leader *leader.Finder
	stale  func() string
}

// Stale implements httpapi.Desired.
func (d *desiredState) Stale() string { return d.stale() }

// Leader implements httpapi.Desired.
func (d *desiredState) Leader() (self bool, http string, ok bool) {
	_, _, ok = d.Store.Leader()
	l, _ := d.leader.Find()
	return l.Self, l.HTTP, ok
}

// logs implements httpapi.Logs. It ends every reader when the controller stops.
type logs struct {
	observer *observe.Observer
	stopping <-chan struct{}
}

// Logs implements httpapi.Logs.
func (l *logs) Logs(ctx context.Context, id fleet.ReplicaID, tail int, follow bool, on func([]fleet.LogLine) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	watch.Go(func() {
		select {
		case <-l.stopping:
			cancel()
		case <-ctx.Done():
		}
	})
	return l.observer.Logs(ctx, id, tail, follow, on)
}
