// Package controller assembles one controller: desired state in raft, the
// picture of what runs, the loop that makes them equal while this controller
// leads, the router, the catalogue and the HTTP front. It decides nothing
// itself.
//
// Run is what production and tests start. It owns every goroutine, and stops all
// that it started before it returns. It leaves every replica running, for the
// other controllers or for this one's next life.
package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mcpfleet/mcpfleet/internal/events"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
	"github.com/mcpfleet/mcpfleet/internal/gossip"
	"github.com/mcpfleet/mcpfleet/internal/httpapi"
	"github.com/mcpfleet/mcpfleet/internal/leader"
	"github.com/mcpfleet/mcpfleet/internal/store"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

const (
	// defaultDrain is how long requests may go on once the controller takes no new
	// ones.
	defaultDrain = 5 * time.Second
	// handOverWithin bounds how long a stopping leader tries to have another one
	// elected.
	handOverWithin = 2 * time.Second
)

// Run runs one controller until ctx ends, and returns nil then. It closes
// cfg.HTTP, cfg.Raft and cfg.GRPC in any case.
//
//	  other controllers                           gossip
//	        │ raft                                   v
//	      store ──> reconcile (leads, follows) <──> observe <── reports ── rpc ── workers
//	        │           │ status                       │ snapshot            ^
//	        │           └──────> projection <──────────┘                     │ calls
//	        │ reads, writes     v     v     v                                │
//	HTTP ── web, httpapi ──> status catalogue route ─────────────────────────┘
//	                                           │ queues
//	                                           └──> load (leads) <── rpc ── other controllers
func Run(ctx context.Context, cfg Config) (err error) {
	defer cfg.closeListeners()
	if err := cfg.validate(); err != nil {
		return err
	}
	c := &controller{cfg: cfg, log: cfg.Log.With("controller", cfg.Name)}
	defer func() { err = errors.Join(err, c.close(ctx)) }()
	if err := c.open(); err != nil {
		return err
	}
	c.assemble()
	c.log.Info("controller is up", "id", c.store.ID(), "cluster", c.store.Cluster(), "http", c.self.HTTP,
		"gossip", c.ring.Addr(), "raft", c.self.Raft, "grpc", c.self.GRPC, "version", cfg.Version)
	if cfg.Up != nil {
		if err := cfg.Up(Addresses{HTTP: cfg.HTTP.Addr().String(), Gossip: c.ring.Addr(), Raft: c.self.Raft, GRPC: c.self.GRPC}); err != nil {
			return err
		}
	}
	return c.run(ctx)
}

// controller is one life of a controller.
type controller struct {
	cfg  Config
	log  *slog.Logger
	self fleet.Member
	file *fleetfile.File // fills an empty state; nil if there is none

	// Opened, and closed in the reverse order.
	dir    *store.Dir
	ring   *gossip.Ring
	events *events.Log
	store  *store.Store
	leader *leader.Finder

	// Assembled.
	parts             []func(context.Context) error // what runs until the controller stops
	rest              *httpapi.API
	mux               *web.Mux
	leaving, stopping chan struct{} // see web.Shutdown
}

// close closes what was opened.
func (c *controller) close(ctx context.Context) (err error) {
	if c.rest != nil {
		c.rest.Close()
	}
	if c.leader != nil {
		c.leader.Close()
	}
	if c.store != nil {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), handOverWithin)
		defer cancel()
		err = c.store.Close(bounded)
	}
	if c.ring != nil {
		c.ring.Close()
	}
	if c.dir != nil {
		_ = c.dir.Close() // of a start that failed: an open store has closed it
	}
	return err
}

// run runs the parts and the HTTP front until ctx ends, or one of them fails.
// The front stops first, while calls still reach the workers. Then all else stops
// at once.
func (c *controller) run(ctx context.Context) error {
	// Neither requests nor parts end with ctx: a stop lets requests finish first.
	lasting := context.WithoutCancel(ctx)
	requests, endRequests := context.WithCancelCause(lasting)
	defer endRequests(nil)
	server := web.NewServer(requests, c.mux, c.log)
	stopped, stop := context.WithCancel(lasting)
	defer stop()
	g, gctx := errgroup.WithContext(stopped)
	for _, part := range c.parts {
		g.Go(func() error { return part(gctx) })
	}
	g.Go(func() error {
		if err := server.Serve(c.cfg.HTTP); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve HTTP: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		select {
		case <-ctx.Done():
		case <-gctx.Done():
		}
		server.Stop(lasting, gctx.Done(), web.Shutdown{
			Leaving: c.leaving, Stopping: c.stopping, EndRequests: endRequests,
			HandOver: func(ctx context.Context) error { return c.store.Transfer(ctx, "") },
			Delay:    c.cfg.ShutdownDelay, Drain: cmp.Or(c.cfg.DrainTimeout, defaultDrain), Log: c.log,
		})
		stop()
		return nil
	})
	err := g.Wait()
	c.log.Info("controller stopped")
	return err
}
