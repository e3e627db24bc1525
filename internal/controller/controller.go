// Package controller assembles one controller: desired state in raft, the
// picture of what runs, the loop that makes them equal while this controller
// leads, the router, the catalogue and the HTTP front. It decides nothing
// itself.
//
// Run is what production and tests start: it owns every goroutine, stops all
// that it started before it returns, and leaves every replica running, for the
// other controllers or this one's next life to go on with.
package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/mcpfleet/mcpfleet/internal/advertise"
	"github.com/mcpfleet/mcpfleet/internal/catalogue"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/events"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
	"github.com/mcpfleet/mcpfleet/internal/gossip"
	"github.com/mcpfleet/mcpfleet/internal/httpapi"
	"github.com/mcpfleet/mcpfleet/internal/membership"
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/reconcile"
	"github.com/mcpfleet/mcpfleet/internal/route"
	"github.com/mcpfleet/mcpfleet/internal/rpc"
	"github.com/mcpfleet/mcpfleet/internal/store"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// Run runs one controller until ctx ends, and returns nil then. It closes
// cfg.HTTP and cfg.Raft in any case.
//
//	  other controllers                           gossip
//	        │ raft                                   v
//	      store ──> reconcile (leads, follows) <──> observe <── reports ── rpc ── workers
//	        │           │ status                       │ snapshot            ^
//	        │           └────────> publish <───────────┘                     │ calls
//	        │ reads, writes            v            v                        │
//	HTTP ── web, httpapi ──────> catalogue    route ─────────────────────────┘
func Run(ctx context.Context, cfg Config) (err error) {
	if cfg.HTTP != nil {
		defer cfg.HTTP.Close()
	}
	if cfg.Raft != nil {
		defer cfg.Raft.Close()
	}
	if err := cfg.validate(); err != nil {
		return err
	}
	log := cfg.Log.With("controller", cfg.Name)

	// Who we are, before anyone hears of us.
	dir, err := store.Prepare(cfg.DataDir)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }() // of a start that failed; the store closes it else
	seed := &seeder{cfg: cfg, log: log}
	var file *fleetfile.File
	if cfg.File != "" && dir.Stateless() {
		if file, err = seed.parse(); err != nil {
			return err
		}
	}
	self, err := memberOf(cfg, dir)
	if err != nil {
		return err
	}
	ring, err := gossip.New(gossip.Config{
		Member: self, Bind: cfg.Gossip, Advertise: cfg.Advertise, Join: cfg.Join,
		PeersFile: filepath.Join(cfg.DataDir, "peers.json"), Log: log,
	})
	if err != nil {
		return err
	}
	defer ring.Close()

	happened := events.New(events.MaxEvents)
	state, err := store.Open(store.Config{
		Dir: dir, Name: cfg.Name, Listener: cfg.Raft, Expect: cfg.Expect, Log: log, Timeouts: cfg.Timeouts, DiskTimeout: cfg.DiskTimeout,
		Resolve: func(id fleet.ControllerID) (string, bool) {
			m, ok := controllerOf(ring.Members(), id)
			return m.Raft, ok
		},
		Formats: func() int { return oldestFormat(ring.Members(), dir.Cluster()) },
		Applied: tellChanges(happened),
	})
	if err != nil {
		return err
	}
	defer func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), handover)
		defer cancel()
		err = errors.Join(err, state.Close(bounded))
	}()

	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	registry.MustRegister(state.Collectors()...)
	if cfg.LogDropped != nil {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "mcpfleet_log_lines_dropped_total", Help: "Lines of this controller's log that were dropped because nobody read them.",
		}, func() float64 { return float64(cfg.LogDropped()) }))
	}
	peers := peerClient()
	defer peers.CloseIdleConnections()
	write := &writes{Store: state, ring: ring, peers: peers}
	observer := observe.New(observe.Config{
		Order: func() (fleet.Order, bool) {
			st := state.State()
			return st.Order(), st.Cluster != ""
		},
		Members: ring, Log: log, NodeGrace: cfg.NodeGrace,
		Dial: func(m fleet.Member) (observe.Worker, error) {
			return rpc.Dial(m.GRPC, rpc.ClientConfig{DialOptions: cfg.DialOptions})
		},
	})
	progress := progress{write}
	reconciler := reconcile.New(reconcile.Config{
		Desired: progress, View: observer, Known: progress, Log: log, NodeGrace: cfg.NodeGrace,
		ExpectWorkers: cfg.ExpectWorkers, RolledOut: progress.rolledOut,
		Record: func(e reconcile.Event) { happened.Record(eventFrom(e)) },
	})
	look, wanted := newLook()
	router := route.New(route.Config{Zone: cfg.Zone, Registry: registry, Wanted: wanted})
	offers := catalogue.New()
	caughtUp := &catchUp{writes: write, done: make(chan struct{})}
	seed.writes, seed.caughtUp = write, caughtUp.done
	leaving, stopping := make(chan struct{}), make(chan struct{})
	front := &view{cfg: cfg, leaving: leaving, self: self, writes: write, observer: observer, caughtUp: caughtUp, seed: seed}
	write.mayLack = front.mayLack
	pub := &publisher{desired: state, observer: observer, reconciler: reconciler, router: router, catalogue: offers, front: front}
	pub.publish() // what is desired is known before the first request
	registry.MustRegister(front)

	rest := httpapi.New(httpapi.Config{
		Catalogue: &starting{Catalogue: offers, incomplete: front.mayLack, empty: front.empty}, Router: router,
		Fleet: front, Logs: front, Gatherer: registry,
		Desired: write, Events: happened, Preview: preview(reconciler), Wake: reconciler.Wake, Controllers: &controllers{writes: write, names: make(map[fleet.ControllerID]fleet.NodeID)},
		Backup: backup(cfg.Version), Self: cfg.Name, Stopping: stopping,
	})
	defer rest.Close()
	mux := web.NewMux(web.Config{
		Listener: cfg.HTTP.Addr(), Names: namesOf(cfg), AllowedHosts: cfg.AllowedHosts,
		MaxBody: cfg.MaxBody, Leaving: leaving, Log: log, Registry: registry,
	}, rest.Routes()...)
	// Requests end with requests, not with ctx: a stop lets them finish first.
	requests, endRequests := context.WithCancelCause(context.WithoutCancel(ctx))
	defer endRequests(nil)
	server := web.NewServer(requests, mux, log)
	ending := &shutdown{
		server: server, desired: write, leaving: leaving, stopping: stopping, endStreams: front.endStreams, endRequests: endRequests,
		delay: cfg.ShutdownDelay, drain: cmp.Or(cfg.DrainTimeout, defaultDrain), log: log,
	}

	log.Info("controller is up", "id", dir.ID(), "cluster", state.Cluster(), "http", self.HTTP, "gossip", ring.Addr(), "raft", self.Raft, "version", cfg.Version)
	if cfg.Up != nil {
		if err := cfg.Up(Addresses{HTTP: cfg.HTTP.Addr().String(), Gossip: ring.Addr(), Raft: self.Raft}); err != nil {
			return err
		}
	}

	// Stop order: the HTTP front, while calls still reach the workers (see
	// shutdown); then everything else at once. No replica is stopped: they go on
	// without us.
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, gctx := errgroup.WithContext(inner)
	g.Go(func() error { return ring.Run(gctx) })
	g.Go(func() error { return observer.Run(gctx) })
	g.Go(func() error { return (&founder{state, ring, self, log}).Run(gctx) })
	g.Go(func() error {
		return (&leadership{
			desired: state, reconciler: reconciler, events: happened, log: log,
			keeper: membership.New(membership.Config{
				Store: state, Members: ring.Members, DeadAfter: cfg.DeadAfter, Log: log,
				Record: func(kind fleet.EventKind, message string) {
					happened.Record(events.Event{Kind: kind, Message: message})
				},
			}),
			catalogues: &catalogueKeeper{state, observer, log},
			toolNames:  &toolNames{desired: state, record: happened.Record, log: log},
			copier:     &eventCopier{write, happened},
		}).Run(gctx)
	})
	g.Go(func() error { return caughtUp.Run(gctx) })
	g.Go(func() error { return pub.Run(gctx) })
	g.Go(func() error { return (&waker{look, router, write, reconciler, log}).Run(gctx) })
	g.Go(func() error { return seed.Run(gctx, file) })
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
		ending.run(context.WithoutCancel(ctx), gctx.Done())
		stop()
		return nil
	})
	err = g.Wait()
	log.Info("controller stopped")
	return err
}

// memberOf is what the ring is told about this controller.
func memberOf(cfg Config, dir *store.Dir) (fleet.Member, error) {
	m := fleet.Member{
		Node: cfg.Name, Life: fleet.NewLifeID(), Role: fleet.RoleController, PID: os.Getpid(), Started: time.Now(),
		Controller: dir.ID(), Cluster: dir.Cluster(), Format: desired.Format, Version: cfg.Version,
	}
	if dir.Stateless() {
		m.Expect = cfg.Expect
	}
	var err error
	if m.HTTP, err = reachedAt(cfg.HTTP, cfg.Advertise); err != nil {
		return m, fmt.Errorf("--http: %w", err)
	}
	if m.Raft, err = reachedAt(cfg.Raft, cfg.Advertise); err != nil {
		return m, fmt.Errorf("--raft: %w", err)
	}
	return m, nil
}

// namesOf returns the names by which clients may call this controller whatever
// --allowed-hosts says. On loopback only the name in --http is one: others
// belong to addresses of other machines.
func namesOf(cfg Config) []string {
	names := []string{cfg.HTTPHost}
	if tcp, ok := cfg.HTTP.Addr().(*net.TCPAddr); ok && tcp.IP.IsLoopback() {
		return names
	}
	names = append(names, string(cfg.Name), cfg.Advertise)
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	return names
}

// reachedAt is where others reach a listener. What --advertise says is gossip's
// host, perhaps with its port; it says nothing about a listener on loopback.
func reachedAt(l net.Listener, given string) (string, error) {
	if host, _, err := net.SplitHostPort(given); err == nil {
		given = host
	}
	if tcp, ok := l.Addr().(*net.TCPAddr); ok && tcp.IP.IsLoopback() {
		given = ""
	}
	return advertise.Address(l.Addr(), given)
}

// oldestFormat is what all living controllers of a cluster understand, and
// those that may be taken into it.
func oldestFormat(members []fleet.Member, cluster fleet.ClusterID) int {
	oldest := desired.Format
	for _, m := range members {
		if m.Role == fleet.RoleController && (m.Cluster == "" || m.Cluster == cluster) {
			oldest = min(oldest, m.Format)
		}
	}
	return oldest
}
