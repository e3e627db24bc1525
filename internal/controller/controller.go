// Package controller assembles one controller: desired state, the picture of
// what runs, the loop that makes them equal, the router, the catalogue and the
// HTTP front. It decides nothing itself.
//
// Run is what production and tests start: it owns every goroutine, stops all
// that it started before it returns, and leaves every replica running, for the
// controller's next life to adopt.
package controller

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/mcpfleet/mcpfleet/internal/catalogue"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/gossip"
	"github.com/mcpfleet/mcpfleet/internal/httpapi"
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/reconcile"
	"github.com/mcpfleet/mcpfleet/internal/route"
	"github.com/mcpfleet/mcpfleet/internal/rpc"
	"github.com/mcpfleet/mcpfleet/internal/store"
)

// shutdownGrace is how long requests may go on once the controller is told to
// stop.
const shutdownGrace = 5 * time.Second

// lastWords is how long requests that were ended then have to say so.
const lastWords = time.Second

// Run runs one controller until ctx ends, and returns nil then. It closes
// cfg.HTTP in any case.
//
//	          fleet file                       gossip
//	              v                              v
//	store ──> reconcile <───────────────────> observe <── reports ── rpc ── workers
//	              │ status                       │ snapshot            ^
//	              └────────> publish <───────────┘                     │ calls
//	                     v            v                                │
//	HTTP ── httpapi ─> catalogue    route ─────────────────────────────┘
func Run(ctx context.Context, cfg Config) (err error) {
	defer cfg.HTTP.Close()
	if err := cfg.validate(); err != nil {
		return err
	}
	log := cfg.Log.With("controller", cfg.Name)

	desired, err := store.Open(cfg.DataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, desired.Close()) }()
	if cfg.File != "" {
		if err := load(cfg, desired, log); err != nil {
			return err
		}
	}
	order := fleet.Order{Cluster: desired.Cluster(), Epoch: desired.Epoch()}

	self := fleet.Member{
		Node: cfg.Name, Life: fleet.NewLifeID(), Role: fleet.RoleController,
		HTTP: cfg.HTTP.Addr().String(), PID: os.Getpid(), Started: time.Now(),
	}
	ring, err := gossip.New(gossip.Config{
		Member: self, Bind: cfg.Gossip, Advertise: cfg.Advertise, Join: cfg.Join,
		PeersFile: filepath.Join(cfg.DataDir, "peers.json"), Log: log,
	})
	if err != nil {
		return err
	}
	defer ring.Close()

	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	observer := observe.New(observe.Config{
		Order: order, Members: ring, Log: log, NodeGrace: cfg.NodeGrace,
		Dial: func(m fleet.Member) (observe.Worker, error) {
			return rpc.Dial(m.GRPC, rpc.ClientConfig{DialOptions: cfg.DialOptions})
		},
	})
	reconciler := reconcile.New(reconcile.Config{
		Desired: desired, View: observer, Known: desired, Order: order, Log: log, NodeGrace: cfg.NodeGrace,
		ExpectWorkers: cfg.ExpectWorkers,
	})
	router := route.New(route.Config{Zone: cfg.Zone, Registry: registry})
	offers := catalogue.New()
	front := &state{cfg: cfg, self: self, ring: ring, observer: observer}
	pub := &publisher{desired: desired, observer: observer, reconciler: reconciler, router: router, catalogue: offers, front: front}
	pub.publish() // what is desired is known before the first request
	registry.MustRegister(front)

	handler := httpapi.New(httpapi.Config{
		MaxBody: cfg.MaxBody, Catalogue: offers, Router: router, Fleet: front, Logs: front, Log: log, Registry: registry, Gatherer: registry,
	})
	// Requests end with requests, not with ctx: a stop lets them finish first.
	requests, endRequests := context.WithCancelCause(context.WithoutCancel(ctx))
	defer endRequests(nil)
	server := httpapi.NewServer(requests, handler, log)

	log.Info("controller is up", "cluster", order.Cluster, "epoch", order.Epoch, "http", self.HTTP, "gossip", ring.Addr(), "version", cfg.Version)
	if cfg.Up != nil {
		if err := cfg.Up(Addresses{HTTP: self.HTTP, Gossip: ring.Addr()}); err != nil {
			return err
		}
	}

	// Stop order: refuse new requests and let those that run finish, bounded,
	// while calls still reach the workers; then everything else at once.
	// Nothing is drained: the replicas go on without us.
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, gctx := errgroup.WithContext(inner)
	g.Go(func() error { return ring.Run(gctx) })
	g.Go(func() error { return observer.Run(gctx) })
	g.Go(func() error { return reconciler.Run(gctx) })
	g.Go(func() error { return pub.Run(gctx) })
	g.Go(func() error { return reload(gctx, cfg, desired, log) })
	g.Go(func() error {
		if err := server.Serve(cfg.HTTP); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve HTTP: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		select {
		case <-ctx.Done():
		case <-gctx.Done():
		}
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
		defer cancel()
		// Streams of logs last as long as their readers: they end now, as all
		// requests do that outlast the grace.
		front.endStreams()
		if server.Shutdown(bounded) != nil {
			endRequests(errors.New("the controller is stopping"))
			bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
			defer cancel()
			if server.Shutdown(bounded) != nil {
				server.Close()
			}
		}
		stop()
		return nil
	})
	err = g.Wait()
	log.Info("controller stopped")
	return err
}
