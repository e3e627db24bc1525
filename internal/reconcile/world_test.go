package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/notice"
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/observe/observetest"
)

// desiredState is a store in memory.
type desiredState struct {
	board   notice.Board
	mu      sync.Mutex
	servers map[fleet.ServerName]fleet.Server
	intents map[fleet.NodeID]fleet.NodeIntent
	known   []fleet.NodeID
	broken  error
	leader  *controller // whose writes are taken
	rolled  []RolloutEnd
	// onEnd ends a rollout in place of endRollout. It may be nil.
	onEnd func(RolloutEnd)
}

func (d *desiredState) Servers() []fleet.Server {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []fleet.Server
	for _, name := range sortedKeys(d.servers) {
		out = append(out, d.servers[name])
	}
	return out
}

func (d *desiredState) Nodes() map[fleet.NodeID]fleet.NodeIntent {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.intents)
}

func (d *desiredState) intend(node fleet.NodeID, i fleet.NodeIntent) {
	d.mu.Lock()
	if d.intents == nil {
		d.intents = make(map[fleet.NodeID]fleet.NodeIntent)
	}
	d.intents[node] = i
	d.mu.Unlock()
	d.board.Post()
}

// writer is the desired state as one controller writes it, while it leads.
type writer struct {
	*desiredState
	by *controller
}

func (d writer) SetKnownNodes(n []fleet.NodeID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.leader != d.by {
		return fleet.ErrNotLeader
	}
	if d.broken == nil {
		d.known = n
	}
	return d.broken
}

// endRollout ends a rollout, as the real state does.
func (d writer) endRollout(_ context.Context, e RolloutEnd) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken != nil || d.leader != d.by {
		return errors.Join(d.broken, fleet.ErrNotLeader)
	}
	d.rolled = append(d.rolled, e)
	if d.onEnd != nil {
		d.mu.Unlock() // onEnd sets the servers
		d.onEnd(e)
		d.mu.Lock()
		return nil
	}
	s := d.servers[e.Server]
	if s.Revision != e.Revision || s.Generation != e.Generation {
		return nil
	}
	s.Rollout = nil
	if e.Failed != "" {
		s.Failed = &fleet.FailedRevision{Revision: e.Revision, Reason: e.Failed}
		s.Revision, s.Spec.Template, s.Rollout = s.Stable, *s.StableTemplate, &fleet.Rollout{From: e.Revision}
	}
	s.Stable, s.StableTemplate = 0, nil
	d.servers[e.Server] = s
	d.board.Post()
	return nil
}

// ended lists the rollouts whose end was written.
func (d *desiredState) ended() []RolloutEnd {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.rolled)
}

// breaks makes every write fail, until it is called with nil.
func (d *desiredState) breaks(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broken = err
}

func (d *desiredState) Subscribe() (<-chan struct{}, func()) { return d.board.Subscribe() }

func (d *desiredState) KnownNodes() []fleet.NodeID {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.known)
}

func (d *desiredState) set(servers ...fleet.Server) {
	d.mu.Lock()
	d.servers = make(map[fleet.ServerName]fleet.Server)
	for _, s := range servers {
		d.servers[s.Name] = s
	}
	d.mu.Unlock()
	d.board.Post()
}

// controller is one controller's observe and reconcile.
type controller struct {
	obs    *observe.Observer
	rec    *Reconciler
	mu     sync.Mutex
	events []Event
	epoch  fleet.Epoch // its last; the world's mu
	stop   func()      // both
	yield  func()      // ends leading or following; nil: neither
}

// world is workers, their network, and the controller that leads.
type world struct {
	t       *testing.T
	net     *observetest.Fleet
	desired *desiredState
	workers []*observetest.Worker
	// rebalanceAfter is that of the Config.
	rebalanceAfter time.Duration
	log            *slog.Logger
	mu             sync.Mutex
	epoch          fleet.Epoch
	*controller
}

func newWorld(t *testing.T, seed uint64, nodes ...string) *world {
	w := &world{
		t: t, net: observetest.New(seed), desired: &desiredState{},
		log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})),
	}
	for _, n := range nodes {
		w.add(n, nil)
	}
	return w
}

func (w *world) add(name string, behave func(fleet.ServerName, fleet.Revision) observetest.Behaviour) *observetest.Worker {
	return w.join(fleet.NodeInfo{Node: fleet.NodeID(name)}, behave)
}

// join is add for a worker with a zone or a capacity.
func (w *world) join(info fleet.NodeInfo, behave func(fleet.ServerName, fleet.Revision) observetest.Behaviour) *observetest.Worker {
	n := w.net.StartWorker(info)
	if behave != nil {
		n.Behave(behave)
	}
	w.workers = append(w.workers, n)
	return n
}

// behave says how replicas on all workers go.
func (w *world) behave(how func(fleet.ServerName, fleet.Revision) observetest.Behaviour) {
	for _, n := range w.workers {
		n.Behave(how)
	}
}

// always lets all replicas go alike.
func always(b observetest.Behaviour) func(fleet.ServerName, fleet.Revision) observetest.Behaviour {
	return func(fleet.ServerName, fleet.Revision) observetest.Behaviour { return b }
}

// control starts a controller that leads. The one before must have been stopped.
func (w *world) control() {
	w.controller = w.newController()
	w.lead(w.controller)
}

// deploy makes a controller lead, until the test ends, and waits until the servers
// are deployed.
func (w *world) deploy(servers ...fleet.Server) {
	w.t.Helper()
	w.desired.set(servers...)
	w.control()
	w.t.Cleanup(w.stop)
	w.until(5*time.Second, "deployed", w.converged)
}

// newController starts a controller that neither leads nor follows yet.
func (w *world) newController() *controller {
	c := &controller{}
	c.obs = observe.New(observe.Config{
		Order:   func() (fleet.Order, bool) { return fleet.Order{Cluster: "c"}, true },
		Members: w.net, Dial: w.net.Dial, Log: w.log,
	})
	rnd := rand.New(rand.NewPCG(uint64(w.epoch), 7))
	state := writer{w.desired, c}
	seq := 0
	c.rec = New(Config{
		Desired: w.desired, View: c.obs, Known: state, Log: w.log,
		RebalanceAfter: w.rebalanceAfter,
		OrderTimeout:   500 * time.Millisecond, Jitter: rnd.Float64, EndRollout: state.endRollout,
		Record: func(e Event) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.events = append(c.events, e)
		},
		NewID: func(s fleet.ServerName, r fleet.Revision) fleet.ReplicaID {
			seq++
			w.mu.Lock()
			defer w.mu.Unlock()
			return fleet.ReplicaID(fmt.Sprintf("%s-%d-e%d.%d", s, r, c.epoch, seq))
		},
	})
	observing := w.background(c.obs.Run)
	c.stop = func() {
		if c.yield != nil {
			c.yield()
		}
		observing()
	}
	return c
}

// background starts run. The returned function ends it and waits for that.
func (w *world) background(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := run(ctx); err != nil {
			w.t.Errorf("run: %v", err)
		}
	})
	return func() { cancel(); wg.Wait() }
}

// lead makes the controller lead in a new epoch, whatever others do.
func (w *world) lead(c *controller) {
	if c.yield != nil {
		c.yield()
	}
	w.mu.Lock()
	w.epoch++
	c.epoch = w.epoch
	order := fleet.Order{Cluster: "c", Epoch: w.epoch}
	w.mu.Unlock()
	w.desired.mu.Lock()
	w.desired.leader = c
	w.desired.mu.Unlock()
	w.controller = c
	c.yield = w.background(func(ctx context.Context) error { return c.rec.Lead(ctx, order) })
}

// follow makes the controller follow.
func (w *world) follow(c *controller) {
	if c.yield != nil {
		c.yield()
	}
	c.yield = w.background(c.rec.Follow)
}

// happened counts the events of a kind that the controller recorded.
func (c *controller) happened(kind fleet.EventKind) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

func (w *world) running(server fleet.ServerName) (out []fleet.Replica) {
	for _, n := range w.workers {
		for _, r := range n.Running() {
			if r.Server == server {
				out = append(out, r)
			}
		}
	}
	return out
}

// ready returns the ids of the replicas that are READY.
func (w *world) ready(server fleet.ServerName) (ids []string) {
	for _, r := range w.running(server) {
		if r.Phase == fleet.PhaseReady {
			ids = append(ids, string(r.ID))
		}
	}
	slices.Sort(ids)
	return ids
}

func (w *world) status(server fleet.ServerName) ServerStatus {
	s, _ := w.rec.Server(server)
	return s
}

// until polls a condition, and returns how long it took to become true.
func (w *world) until(limit time.Duration, what string, is func() bool) time.Duration {
	w.t.Helper()
	began := time.Now()
	for !is() {
		if time.Since(began) > limit {
			w.t.Fatalf("not within %v: %s\n%s", limit, what, w)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
	}
	return time.Since(began)
}

// converged reports whether exactly the desired replicas run and serve.
func (w *world) converged() bool {
	servers := w.desired.Servers()
	total := 0
	for _, n := range w.workers {
		total += len(n.Running())
	}
	for _, s := range servers {
		total -= s.Target.Replicas
		run := w.running(s.Name)
		if len(run) != s.Target.Replicas {
			return false
		}
		for _, r := range run {
			if r.Phase != fleet.PhaseReady || r.Revision != s.Revision || r.Generation < s.Generation {
				return false
			}
		}
		if st := w.status(s.Name); !st.Settled || s.Target.Replicas > 0 && st.State != fleet.StateReady {
			return false
		}
	}
	return total == 0 && len(w.rec.Status()) == len(servers)
}

func (w *world) String() string {
	var b strings.Builder
	for _, s := range w.rec.Status() {
		fmt.Fprintf(&b, "%s rev %d: %s %d/%d settled=%v startfailed=%v restarts=%d: %s\n", s.Name, s.Revision, s.State, s.Ready, s.Target.Replicas, s.Settled, s.StartFailed, s.Restarts, s.Reason)
	}
	for _, n := range w.workers {
		fmt.Fprintf(&b, "%s reachable=%v:", n.Life(), n.Reachable())
		for _, r := range n.Running() {
			fmt.Fprintf(&b, " %s=%s", r.ID, r.Phase)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// server returns a server. Its updates wait for nothing but the starts of its
// replicas, and are never rolled back.
func server(name string, rev fleet.Revision, replicas int, set ...func(*fleet.Spec)) fleet.Server {
	s := fleet.Server{Name: fleet.ServerName(name), Revision: rev, Target: fleet.Target{Replicas: replicas}}
	s.Spec = fleet.Spec{Template: fleet.Template{Image: fmt.Sprintf("%s:%d", name, rev)}, Replicas: replicas}
	policy := fleet.DefaultUpdate()
	policy.MinReady, policy.ProgressDeadline = 0, 0
	s.Spec.Update = &policy
	for _, f := range set {
		f(&s.Spec)
	}
	return s
}

// Server returns how one server is doing.
func (r *Reconciler) Server(name fleet.ServerName) (ServerStatus, bool) {
	list := r.Status()
	i := slices.IndexFunc(list, func(s ServerStatus) bool { return s.Name == name })
	if i < 0 {
		return ServerStatus{}, false
	}
	return list[i], true
}
