package controller

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/autoscale"
	"github.com/mcpfleet/mcpfleet/internal/catalogue"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/events"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/httpapi"
	"github.com/mcpfleet/mcpfleet/internal/interest"
	"github.com/mcpfleet/mcpfleet/internal/leader"
	"github.com/mcpfleet/mcpfleet/internal/load"
	"github.com/mcpfleet/mcpfleet/internal/mcphttp"
	"github.com/mcpfleet/mcpfleet/internal/membership"
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/projection"
	"github.com/mcpfleet/mcpfleet/internal/reconcile"
	"github.com/mcpfleet/mcpfleet/internal/rollout"
	"github.com/mcpfleet/mcpfleet/internal/route"
	"github.com/mcpfleet/mcpfleet/internal/rpc"
	"github.com/mcpfleet/mcpfleet/internal/seal"
	"github.com/mcpfleet/mcpfleet/internal/seed"
	"github.com/mcpfleet/mcpfleet/internal/sessions"
	"github.com/mcpfleet/mcpfleet/internal/status"
	"github.com/mcpfleet/mcpfleet/internal/store"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// assemble makes the parts and plugs them into each other. It starts nothing.
func (c *controller) assemble() {
	cfg, log, state, ring := &c.cfg, c.log, c.store, c.ring
	registry := c.newRegistry()
	c.leaving, c.stopping = make(chan struct{}), make(chan struct{})

	observer := observe.New(observe.Config{
		Order: func() (fleet.Order, bool) {
			st := state.State()
			return st.Order(), st.Cluster != ""
		},
		Members: ring, Log: log, NodeGrace: cfg.NodeGrace, Silence: cfg.Workers.Silence,
		Dial: func(m fleet.Member) (observe.Worker, error) {
			dial := cfg.Workers
			dial.Life = m.Life
			return rpc.Dial(m.GRPC, dial)
		},
	})
	router := route.New(route.Config{Zone: cfg.Zone, Registry: registry})
	owners := c.newSessions(registry, observer, router)
	calls := sessionCalls{router, &sessions.Caller{Router: router, Sessions: owners.Service, Version: cfg.Version}}
	reconciler := reconcile.New(reconcile.Config{
		Desired: state, Sessions: owners.Service, View: observer, Known: knownNodes{state}, Log: log, NodeGrace: cfg.NodeGrace, ExpectWorkers: cfg.ExpectWorkers,
		EndRollout: func(ctx context.Context, e reconcile.RolloutEnd) error {
			if e.Failed != "" {
				_, err := state.Propose(ctx, desired.FailRollout{Name: e.Server, Revision: e.Revision, Generation: e.Generation, Reason: e.Failed})
				return err
			}
			_, err := state.Propose(ctx, desired.EndRollout{Name: e.Server, Revision: e.Revision, Generation: e.Generation})
			return err
		},
		Record: func(e reconcile.Event) {
			c.events.Record(events.Event{
				Kind: e.Kind, Server: e.Server, Replica: e.Replica, Node: e.Node, Revision: e.Revision, Message: e.Message,
			})
		},
	})
	owners.status = reconciler.Status
	loads := load.New(load.Config{
		Self: c.self.Life, Own: router, Members: ring, View: observer, Log: log,
		Dial: func(m fleet.Member) (load.Controller, error) { return rpc.DialController(m.GRPC, cfg.Controllers) },
	})

	catchUp := leader.NewCatchUp(state, c.leader)
	seeder := seed.New(seed.Config{
		File: cfg.File, Lookup: cfg.Lookup, Reload: cfg.Reload, CaughtUp: catchUp.Done(), Desired: state, Leader: c.leader, Log: log,
	})
	incomplete := firstOf(c.noCluster, catchUp.Missing, seeder.Missing)
	mayLack := firstOf(incomplete, state.Stale)
	offers := catalogue.New(mayLack)
	offers.Log = log.With("component", "catalogue")
	view := status.New(status.Config{
		Store: state, Members: ring.Members, Self: c.self.Life, Zone: cfg.Zone, Loads: loads.Now,
		Unready: firstOf(c.isLeaving, incomplete, state.Problem), Cordons: reconciler.Cordons,
	})
	registry.MustRegister(view)
	publisher := projection.New(projection.Config{
		Desired: state, Observed: observer, Decided: reconciler, Router: router, Catalogue: offers, View: view,
	})

	c.rest = httpapi.New(httpapi.Config{
		Catalogue: offers, Router: calls, Fleet: view, Logs: observer, Gatherer: registry,
		Desired: state, Leader: c.leader, Stale: mayLack, Events: c.events,
		Preview: func(ctx context.Context, st *desired.State) ([]api.PlannedAction, error) {
			plan, err := reconciler.Preview(ctx, st.List(), st.Nodes)
			return status.Planned(plan), err
		},
		Wake: reconciler.Wake, Controllers: membership.NewRoster(membership.RosterConfig{Store: state, Ring: ring, Leader: c.leader}),
		Backup: func(w io.Writer, st *desired.State) error {
			if err := store.WriteBackup(w, st, store.BackupMeta{TakenAt: time.Now(), Version: cfg.Version}); err != nil {
				return fmt.Errorf("back up desired state: %w", err)
			}
			return nil
		},
		Self: cfg.Name, Stopping: c.stopping, LeaderWait: cfg.LeaderWait,
	})
	news := interest.New(observer, log)
	native := mcphttp.New(mcphttp.Config{
		Offers: endpoints{offers}, Router: calls, Streams: observer, News: news, Sessions: clientSessions{owners.directory, owners.Service}, Sealer: seal.New(sealKeys{state}.SealKeys),
		ResumeWindow: cfg.ResumeWindow, ParkWindow: cfg.ParkWindow, Version: cfg.Version,
		LegacySSE: cfg.LegacySSE, Self: c.self.Life, Peer: func(life fleet.LifeID) string { return addressOf(ring.Members(), life) },
		Incomplete: mayLack, Leaving: c.leaving, Log: log, Registry: registry,
	})
	c.mux = web.NewMux(web.Config{
		Listener: cfg.HTTP.Addr(), Names: namesOf(cfg), AllowedHosts: cfg.AllowedHosts,
		MaxBody: cfg.MaxBody, Leaving: c.leaving, Log: log, Registry: registry,
	}, append(c.rest.Routes(), native.Routes()...)...)
	scaler := autoscale.New(autoscale.Config{
		Desired: state, Loads: loads, Registry: registry, Log: log,
		Write: func(ctx context.Context, server fleet.ServerName, replicas int, written uint64, reason string) error {
			_, err := state.Propose(ctx, desired.SetTarget{Name: server, Replicas: replicas, Written: written, Reason: reason})
			return err
		},
	})
	tenures := &leadership{
		desired: state, reconciler: reconciler, loads: loads, scaler: scaler, events: c.events, log: log,
		keeper: membership.New(membership.Config{
			Store: state, Members: ring.Members, DeadAfter: cfg.DeadAfter, Log: log,
			Record: func(kind fleet.EventKind, message string) {
				c.events.Record(events.Event{Kind: kind, Message: message})
			},
		}),
		rollouts: rollout.New(rollout.Config{
			Desired: state, Observed: observer, Registry: registry, Log: log,
			Record: func(kind fleet.EventKind, server fleet.ServerName, rev fleet.Revision, message string) {
				c.events.Record(events.Event{Kind: kind, Server: server, Revision: rev, Message: message})
			},
		}),
		catalogues: &catalogue.Keeper{Desired: state, Observed: observer, Log: log},
		toolNames: &catalogue.NameCheck{Desired: state, Log: log, Record: func(kind fleet.EventKind, server fleet.ServerName, rev fleet.Revision, message string) {
			c.events.Record(events.Event{Kind: kind, Server: server, Revision: rev, Message: message})
		}},
		copier:   &events.Copier{Log: c.events, Leader: c.leader},
		sessions: owners.Service,
		sealKeys: &seal.Keeper{Desired: sealKeys{state}, Log: log.With("component", "seal")},
	}
	c.parts = []func(context.Context) error{
		ring.Run, observer.Run, news.Run, (&membership.Founder{Store: state, Ring: ring, Self: c.self, Log: log}).Run,
		tenures.Run, catchUp.Run, publisher.Run, owners.Run,
		func(ctx context.Context) error {
			return router.Run(ctx, log, func(ctx context.Context, name fleet.ServerName) error {
				return c.leader.Do(ctx, func(context.Context) error {
					reconciler.Wake(name)
					return nil
				}, func(ctx context.Context, client *api.Client) error { return client.Wake(ctx, name) })
			})
		},
		func(ctx context.Context) error { return seeder.Run(ctx, c.file) },
		func(ctx context.Context) error {
			return rpc.ServeController(ctx, cfg.GRPC, service{&load.Reporter{Queues: router, Cluster: state.Cluster}, owners.Service})
		},
	}
}

// addressOf returns where the controller with this life serves HTTP, "" if it is not known.
func addressOf(members []fleet.Member, life fleet.LifeID) string {
	for _, m := range members {
		if m.Life == life && m.Role == fleet.RoleController {
			return m.HTTP
		}
	}
	return ""
}

func (c *controller) newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r.MustRegister(c.store.Collectors()...)
	if dropped := c.cfg.LogDropped; dropped != nil {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "mcpfleet_log_lines_dropped_total", Help: "Lines of this controller's log that were dropped because nobody read them.",
		}, func() float64 { return float64(dropped()) }))
	}
	return r
}

// noCluster says that this controller belongs to no cluster yet, "" if it does.
func (c *controller) noCluster() string {
	if c.store.State().Cluster == "" && c.store.Stateless() {
		return "this controller belongs to no cluster yet"
	}
	return ""
}

// isLeaving says that this controller is stopping, "" if it is not.
func (c *controller) isLeaving() string {
	select {
	case <-c.leaving:
		return "stopping"
	default:
		return ""
	}
}

// firstOf returns a function that returns the first reason there is, "" if there
// is none.
func firstOf(reasons ...func() string) func() string {
	return func() string {
		for _, reason := range reasons {
			if why := reason(); why != "" {
				return why
			}
		}
		return ""
	}
}

// knownNodes implements reconcile.KnownNodes.
type knownNodes struct{ *store.Store }

// SetKnownNodes implements reconcile.KnownNodes.
func (k knownNodes) SetKnownNodes(nodes []fleet.NodeID) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return k.Store.SetKnownNodes(ctx, nodes)
}

// endpoints implements mcphttp.Offers.
type endpoints struct{ *catalogue.Catalogue }

// View implements mcphttp.Offers.
func (e endpoints) View(scope fleet.Scope) (mcphttp.View, error) {
	view, err := e.Catalogue.View(scope)
	if err != nil {
		return nil, err
	}
	return view, nil
}

// sealKeys implements seal.Desired.
type sealKeys struct{ *store.Store }

// SealKeys implements seal.Desired.
func (k sealKeys) SealKeys() []fleet.SealKey {
	if st := k.State(); st != nil {
		return st.SealKeys
	}
	return nil
}

// AddSealKey implements seal.Desired.
func (k sealKeys) AddSealKey(ctx context.Context, after uint32, key fleet.SealKey) error {
	_, err := k.Propose(ctx, desired.AddSealKey{After: after, ID: key.ID, Secret: key.Secret})
	return err
}
