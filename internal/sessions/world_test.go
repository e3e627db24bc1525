package sessions

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/notice"
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/observe/observetest"
	"github.com/mcpfleet/mcpfleet/internal/reconcile"
)

// desiredState is a store in memory.
type desiredState struct {
	board notice.Board
	mu    sync.Mutex
	spec  fleet.Spec
	rev   fleet.Revision
	known []fleet.NodeID
}

func (d *desiredState) Servers() []fleet.Server {
	d.mu.Lock()
	defer d.mu.Unlock()
	return []fleet.Server{{Name: "a", Revision: d.rev, Spec: d.spec, Target: fleet.Target{By: fleet.BySessions}, Offers: true}}
}
func (d *desiredState) Nodes() map[fleet.NodeID]fleet.NodeIntent { return nil }
func (d *desiredState) Subscribe() (<-chan struct{}, func())     { return d.board.Subscribe() }
func (d *desiredState) KnownNodes() []fleet.NodeID {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known
}

func (d *desiredState) SetKnownNodes(n []fleet.NodeID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known = n
	return nil
}

func (d *desiredState) edit(change func(*fleet.Spec)) {
	d.mu.Lock()
	change(&d.spec)
	d.mu.Unlock()
	d.board.Post()
}

// world is workers, their network, and controllers of which one leads.
type world struct {
	*testing.T
	net     *observetest.Fleet
	desired *desiredState
	workers []*observetest.Worker
	log     *slog.Logger

	mu          sync.Mutex
	leads       *controller
	epoch       fleet.Epoch
	controllers []*controller
}

// controller is one controller's observe, reconcile and sessions.
type controller struct {
	w         *world
	name      fleet.NodeID
	directory *Directory
	service   *Service
	observer  *observe.Observer
	rec       *reconcile.Reconciler
	yield     func()
}

// newWorld starts workers and controllers. The first one leads.
func newWorld(t *testing.T, seed uint64, workers, controllers int, spec func(*fleet.Spec)) *world {
	w := &world{
		T: t, net: observetest.New(seed), log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})),
		desired: &desiredState{rev: 1, spec: fleet.Spec{
			Template: fleet.Template{Image: "a", Sessions: fleet.SessionsSession, StartTimeout: time.Second}, Warm: 1, MaxSessions: 20, MaxQueuedRequests: 50,
			SessionIdle: 10 * time.Minute, SessionLifetime: 24 * time.Hour, OnLoss: fleet.OnLossReinit,
		}},
	}
	if spec != nil {
		spec(&w.desired.spec)
	}
	for i := range workers {
		n := w.net.StartWorker(fleet.NodeInfo{Node: fleet.NodeID(fmt.Sprint("n", i))})
		n.Behave(func(fleet.ServerName, fleet.Revision) observetest.Behaviour {
			return observetest.Behaviour{ReadyAfter: 200 * time.Millisecond, StopAfter: 100 * time.Millisecond}
		})
		w.workers = append(w.workers, n)
	}
	for i := range controllers {
		w.controllers = append(w.controllers, w.newController(fleet.NodeID(fmt.Sprint("c", i))))
	}
	for _, c := range w.controllers {
		w.background(c.observer.Run)
		w.background(c.service.Run)
	}
	w.lead(w.controllers[0])
	t.Cleanup(func() {
		for _, c := range w.controllers {
			if c.yield != nil {
				c.yield()
			}
		}
	})
	return w
}

func (w *world) newController(name fleet.NodeID) *controller {
	c := &controller{w: w, name: name, directory: NewDirectory()}
	order := func() (fleet.Order, bool) { return fleet.Order{Cluster: "c"}, true }
	c.observer = observe.New(observe.Config{Order: order, Members: w.net, Dial: w.net.Dial, Log: w.log})
	c.service = New(Config{
		Self: fleet.LifeID(name), Order: order, Desired: w.desired, View: c.observer, Members: w, Directory: c.directory, Log: w.log,
		Leader: func() (fleet.Member, bool, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.leads == nil {
				return fleet.Member{}, false, fleet.ErrNoLeader
			}
			return w.member(w.leads), w.leads == c, nil
		},
		Dial: func(m fleet.Member) (Controller, error) { return &link{w.byName(m.Node)}, nil },
		Routed: func(ctx context.Context, server fleet.ServerName, session fleet.SessionID, id fleet.ReplicaID) error {
			look, end := c.observer.Subscribe()
			defer end()
			for {
				if r := ownedBy(c.observer.Snapshot(), key{server, session}); r != nil && r.ID == id {
					return nil
				}
				select {
				case <-look:
				case <-ctx.Done(): // perhaps it is gone again
					return context.Cause(ctx)
				}
			}
		},
	})
	seq := 0
	c.rec = reconcile.New(reconcile.Config{
		Desired: w.desired, View: c.observer, Known: w.desired, Log: w.log, Sessions: c.service, OrderTimeout: 500 * time.Millisecond,
		Jitter: func() float64 { return 0.5 },
		NewID: func(s fleet.ServerName, r fleet.Revision) fleet.ReplicaID {
			seq++
			return fleet.ReplicaID(fmt.Sprintf("%s-%d-%s.%d", s, r, name, seq))
		},
	})
	return c
}

// link is a connection to another controller.
type link struct{ to *controller }

func (l *link) WatchSessions(ctx context.Context, o fleet.Order, on func([]fleet.SessionRecord)) error {
	return l.to.service.WatchSessions(ctx, o, func(r []fleet.SessionRecord) error { on(r); return nil })
}

func (l *link) TellSessions(ctx context.Context, o fleet.Order, records []fleet.SessionRecord) error {
	return l.to.service.TellSessions(ctx, o, records)
}

func (l *link) GiveSession(ctx context.Context, o fleet.Order, r fleet.SessionRequest) (fleet.SessionGiven, error) {
	return l.to.service.GiveSession(ctx, o, r)
}

func (l *link) Close() error { return nil }

// Members implements Members.
func (w *world) Members() (out []fleet.Member) {
	for _, c := range w.controllers {
		out = append(out, w.member(c))
	}
	return out
}

func (w *world) Subscribe() (<-chan struct{}, func()) { return nil, func() {} }

func (w *world) member(c *controller) fleet.Member {
	return fleet.Member{Node: c.name, Life: fleet.LifeID(c.name), Role: fleet.RoleController, GRPC: "x", Controller: fleet.ControllerID(c.name), Cluster: "c"}
}

func (w *world) byName(name fleet.NodeID) *controller {
	for _, c := range w.controllers {
		if c.name == name {
			return c
		}
	}
	return nil
}

// background runs until the test ends, or the returned function is called.
func (w *world) background(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := run(ctx); err != nil {
			w.Errorf("run: %v", err)
		}
	})
	stop = func() { cancel(); wg.Wait() }
	w.Cleanup(stop)
	return stop
}

// lead makes a controller lead in place of the one that does.
func (w *world) lead(c *controller) {
	w.mu.Lock()
	old := w.leads
	w.leads = nil
	w.epoch++
	order := fleet.Order{Cluster: "c", Epoch: w.epoch}
	w.mu.Unlock()
	if old != nil {
		old.yield()
	}
	if c.yield != nil && c != old {
		c.yield()
	}
	a := w.background(func(ctx context.Context) error { return c.rec.Lead(ctx, order) })
	b := w.background(func(ctx context.Context) error { return c.service.Lead(ctx, order) })
	c.yield = func() { a(); b() }
	w.mu.Lock()
	w.leads = c
	w.mu.Unlock()
}

// open opens a session at a controller.
func (c *controller) open(id fleet.SessionID, timeout time.Duration) (fleet.SessionGiven, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return c.service.Open(ctx, fleet.SessionRequest{Server: "a", Session: id, Until: time.Now().Add(24 * time.Hour), Caller: "x", Initialize: []byte("{}")})
}

// running returns the replicas that really run.
func (w *world) running() (out []fleet.Replica) {
	for _, n := range w.workers {
		out = append(out, n.Running()...)
	}
	return out
}

// owners returns the replicas of each session that have not begun to end, and how many of
// nobody there are.
func (w *world) owners() (owned map[fleet.SessionID][]fleet.ReplicaID, spares int) {
	owned = make(map[fleet.SessionID][]fleet.ReplicaID)
	for _, r := range w.running() {
		switch {
		case r.Phase >= fleet.PhaseDraining:
		case r.Session != "":
			owned[r.Session] = append(owned[r.Session], r.ID)
		default:
			spares++
		}
	}
	return owned, spares
}

// until waits for a condition.
func (w *world) until(d time.Duration, what string, ok func() bool) {
	w.Helper()
	for end := time.Now().Add(d); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("not within %v: %s\nrunning: %+v", d, what, w.running())
		}
	}
}

// settled reports whether these sessions have a replica each, as many spares wait, and
// nothing else runs.
func (w *world) settled(sessions, spares int) bool {
	owned, free := w.owners()
	for _, list := range owned {
		if len(list) != 1 {
			return false
		}
	}
	return len(owned) == sessions && free == spares && len(w.running()) == sessions+spares
}
