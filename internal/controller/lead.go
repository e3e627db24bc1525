package controller

import (
	"context"
	"log/slog"

	"golang.org/x/sync/errgroup"

	"github.com/mcpfleet/mcpfleet/internal/autoscale"
	"github.com/mcpfleet/mcpfleet/internal/catalogue"
	"github.com/mcpfleet/mcpfleet/internal/events"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/load"
	"github.com/mcpfleet/mcpfleet/internal/membership"
	"github.com/mcpfleet/mcpfleet/internal/reconcile"
	"github.com/mcpfleet/mcpfleet/internal/rollout"
	"github.com/mcpfleet/mcpfleet/internal/seal"
	"github.com/mcpfleet/mcpfleet/internal/sessions"
	"github.com/mcpfleet/mcpfleet/internal/store"
)

// leadership runs the leader's part while this controller leads, and the followers'
// part while it does not. It never runs both, or one of them twice.
type leadership struct {
	desired    *store.Store
	reconciler *reconcile.Reconciler
	loads      *load.Watcher
	scaler     *autoscale.Scaler
	rollouts   *rollout.Loop
	keeper     *membership.Keeper
	catalogues *catalogue.Keeper
	toolNames  *catalogue.NameCheck
	events     *events.Log
	copier     *events.Copier
	sealKeys   *seal.Keeper
	sessions   *sessions.Service
	log        *slog.Logger
}

// Run ends with ctx, or when the store cannot go on.
func (l *leadership) Run(ctx context.Context) error {
	stop := l.follow(ctx)
	defer func() { stop() }()
	return l.desired.Lead(ctx, func(tenure context.Context, order fleet.Order) {
		stop()
		l.lead(tenure, order)
		stop = l.follow(ctx)
	})
}

// follow starts the followers' part. stop ends it and waits for it.
func (l *leadership) follow(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var parts errgroup.Group
	parts.Go(func() error { return l.reconciler.Follow(ctx) })
	parts.Go(func() error { return l.copier.Run(ctx) })
	return func() {
		cancel()
		if err := parts.Wait(); err != nil {
			l.log.Error("follower part failed", "err", err)
		}
	}
}

// lead runs the leader's part for one tenure.
func (l *leadership) lead(ctx context.Context, order fleet.Order) {
	defer l.events.Lead(order.Epoch)()
	l.events.Record(events.LeaderElected(l.desired.State()))
	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { return l.reconciler.Lead(ctx, order) })
	parts.Go(func() error { return l.loads.Run(ctx, order) })
	parts.Go(func() error { return l.scaler.Run(ctx) })
	parts.Go(func() error { return l.rollouts.Run(ctx) })
	parts.Go(func() error { return l.keeper.Run(ctx) })
	parts.Go(func() error { return l.catalogues.Run(ctx) })
	parts.Go(func() error { return l.toolNames.Run(ctx) })
	parts.Go(func() error { return l.sealKeys.Run(ctx) })
	parts.Go(func() error { return l.sessions.Lead(ctx, order) })
	if err := parts.Wait(); err != nil {
		l.log.Error("leader part failed", "err", err)
	}
}
