package controller

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/reconcile"
	"github.com/mcpfleet/mcpfleet/internal/route"
)

const (
	// wakeRetry is how soon the leader is told again of a server whose calls
	// still wait.
	wakeRetry = time.Second
	// wakeTimeout bounds telling it once.
	wakeTimeout = 2 * time.Second
)

// waker has the leader start the servers that rest while calls wait for them
// here.
type waker struct {
	look       chan struct{} // calls wait; see route.Config.Wanted
	router     *route.Router
	writes     *writes
	reconciler *reconcile.Reconciler
	log        *slog.Logger
}

func newLook() (look chan struct{}, notify func()) {
	look = make(chan struct{}, 1)
	return look, func() {
		select {
		case look <- struct{}{}:
		default:
		}
	}
}

// Run goes on until ctx ends.
func (k *waker) Run(ctx context.Context) error {
	again := time.NewTimer(wakeRetry)
	defer again.Stop()
	for {
		again.Stop()
		names := k.router.Wanted()
		for _, name := range names {
			if err := k.wake(ctx, name); err != nil && ctx.Err() == nil {
				k.log.Warn("calls wait for a server that rests, and the leader is not told", "server", name, "err", err)
			}
		}
		if len(names) > 0 {
			again.Reset(wakeRetry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-k.look:
		case <-again.C:
		}
	}
}

func (k *waker) wake(ctx context.Context, name fleet.ServerName) error {
	self, http, ok := k.writes.Leader()
	switch {
	case self:
		k.reconciler.Wake(name)
		return nil
	case !ok || http == "":
		return errors.New("there is no leader at present")
	}
	client, err := api.NewClient(http, k.writes.peers)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, wakeTimeout)
	defer cancel()
	return client.Wake(ctx, name)
}
