// Package reconcile makes what runs equal to what is desired. Each pass has
// four steps: observe (memory.go takes in the workers' reports), plan (plan.go
// decides, pure: desired and observed in, actions with reasons out), act
// (orders.go tells the workers), and back off (backoff.go says how soon what
// failed is tried again). One controller leads; the others follow: they make
// the same passes and leave out the act, so that their status is as good.
//
// It promises: running replicas of wanted revisions are adopted and never
// restarted, whoever started them; a new leader acts only when every living
// worker refuses the leaders before and has reported what those ordered
// (fence.go), and recalls how starts have gone from what workers remember
// (past.go); an update, a restart, a drain and the replacement of an unhealthy
// replica start the new before they stop the old, wherever there is room;
// orders are repeated until answered and counted until a report shows them, so
// that neither loss nor repetition nor reordering of messages makes one replica
// too many or too few; a server that cannot start is tried for ever and never
// hammered, and a revision that does not start never takes the place of the
// last one that was rolled out; what was lost with its node is replaced without
// delay, and nothing is while a node may come back, but what a server without
// any other replica needs to serve. It knows nothing of calls and writes no
// desired state: that a rollout has ended is told to a callback.
//
// Follow and Lead own every goroutine; other methods may be called at any time.
package reconcile

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/notice"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// Desired is what users asked for. Package store has it.
type Desired interface {
	Servers() []fleet.Server                  // Spec.Replicas is the target in force
	Nodes() map[fleet.NodeID]fleet.NodeIntent // those with an intent
	Subscribe() (look <-chan struct{}, cancel func())
}

// View is what runs. Package observe has it.
type View interface {
	Snapshot() *observe.Snapshot
	Subscribe() (look <-chan struct{}, cancel func())
}

// KnownNodes remembers, over the controller's life, which nodes may run
// replicas. SetKnownNodes is durable when it returns nil.
type KnownNodes interface {
	KnownNodes() []fleet.NodeID
	SetKnownNodes([]fleet.NodeID) error
}

// Config is what a Reconciler needs. Zero durations mean the defaults.
type Config struct {
	Desired Desired
	View    View
	Known   KnownNodes
	Log     *slog.Logger

	// RolledOut makes it durable that a rollout has ended: all wanted replicas
	// are of this revision and generation, and serve. Only a leader calls it,
	// from a goroutine of its own, and again after an error. nil: nobody cares.
	RolledOut func(ctx context.Context, server fleet.ServerName, rev fleet.Revision, generation uint64) error
	// Record is told what happens, by a leader only. It must not block. nil:
	// nobody cares.
	Record func(Event)

	// NodeGrace is how long a new controller waits for the nodes that may run
	// replicas.
	NodeGrace time.Duration
	// ExpectWorkers is how many workers a new cluster waits for, NodeGrace at
	// most, before the first replicas are placed: replicas do not move later.
	ExpectWorkers int
	// Settle is how long a new cluster waits for more workers after each that
	// has joined, before the first replicas are placed.
	Settle time.Duration
	// OrderTimeout bounds one try of an order.
	OrderTimeout time.Duration
	// Jitter returns numbers in [0, 1); nil means random ones.
	Jitter func() float64
	// NewID makes replica ids; nil means fleet.NewReplicaID.
	NewID func(fleet.ServerName, fleet.Revision) fleet.ReplicaID
}

// The defaults of a Config.
const (
	DefaultSettle       = time.Second
	DefaultOrderTimeout = 5 * time.Second
)

const (
	// batch is how long a pass waits for more news before it looks.
	batch = 5 * time.Millisecond
	// backup is the pass that needs no event.
	backup = 2 * time.Second
)

// Reconciler runs the loop and tells how the servers are doing.
type Reconciler struct {
	cfg   Config
	log   *slog.Logger
	board notice.Board

	asked chan chan<- scene // by previews
	*history

	called chan struct{} // look at wanted

	mu      sync.Mutex
	wanted  []fleet.ServerName // to be woken
	status  []ServerStatus     // by name; replaced, never edited
	leading <-chan struct{}    // closed when the tenure ends; nil: there is none
}

// New returns a Reconciler that has not acted yet: all desired servers are
// DEPLOYING.
func New(cfg Config) *Reconciler {
	if cfg.NodeGrace == 0 {
		cfg.NodeGrace = observe.DefaultNodeGrace
	}
	if cfg.Settle == 0 {
		cfg.Settle = DefaultSettle
	}
	if cfg.OrderTimeout == 0 {
		cfg.OrderTimeout = DefaultOrderTimeout
	}
	if cfg.Jitter == nil {
		cfg.Jitter = rand.Float64
	}
	if cfg.RolledOut == nil {
		cfg.RolledOut = func(context.Context, fleet.ServerName, fleet.Revision, uint64) error { return nil }
	}
	if cfg.Record == nil {
		cfg.Record = func(Event) {}
	}
	if cfg.NewID == nil {
		cfg.NewID = fleet.NewReplicaID
	}
	r := &Reconciler{
		cfg: cfg, log: cfg.Log.With("component", "reconcile"),
		asked: make(chan chan<- scene), history: newHistory(), called: make(chan struct{}, 1),
	}
	for _, d := range cfg.Desired.Servers() {
		r.status = append(r.status, ServerStatus{
			Name: d.Name, State: fleet.StateDeploying, Reason: "the controller is starting",
			Desired: d.Spec.Replicas, Revision: d.Revision, Spec: d.Spec,
		})
	}
	return r
}

// Status returns how all servers are doing, by name; those being deleted are
// among them. The list is shared: do not edit it.
func (r *Reconciler) Status() []ServerStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// Subscribe tells when Status may have changed.
func (r *Reconciler) Subscribe() (look <-chan struct{}, cancel func()) { return r.board.Subscribe() }

// Wake replaces the replicas of a server that have ended because nobody needed
// them: a call waits. It does so on the leader, and may be repeated.
func (r *Reconciler) Wake(name fleet.ServerName) {
	r.mu.Lock()
	if !slices.Contains(r.wanted, name) {
		r.wanted = append(r.wanted, name)
	}
	r.mu.Unlock()
	select {
	case r.called <- struct{}{}:
	default:
	}
}

// callers returns the servers that were woken since it was last asked.
func (r *Reconciler) callers() []fleet.ServerName {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := r.wanted
	r.wanted = nil
	return names
}

// Follow tells how the servers are doing until ctx ends, and orders nothing:
// another controller leads, or none.
func (r *Reconciler) Follow(ctx context.Context) error {
	r.loop(ctx, newPass(r, false), nil)
	return nil
}

// Lead makes what runs equal to what is desired until ctx ends, under an order
// that is a new one for each tenure; then it ends its orders and returns nil.
// What runs goes on running. Before it acts, every living worker has refused
// whoever led before and has reported all that was ordered by them, or
// NodeGrace has passed. Follow and Lead are called one after the other, never at
// once, any number of times.
func (r *Reconciler) Lead(ctx context.Context, order fleet.Order) error {
	r.lead(ctx.Done())
	defer r.lead(nil)
	orders := newDispatcher(r.cfg, order)
	defer orders.sent.Wait()
	p := newPass(r, true)
	defer p.rollouts.writes.Wait()
	var renewing sync.WaitGroup
	defer renewing.Wait()
	renewing.Go(func() { r.renew(ctx, order) })
	r.log.Info("leading", "epoch", order.Epoch, "incarnation", order.Incarnation)
	r.loop(ctx, p, orders)
	return nil
}

// lead sets what tells the end of the tenure; nil: there is none.
func (r *Reconciler) lead(over <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leading = over
}

// loop makes passes until ctx ends. orders is nil for one who only follows.
func (r *Reconciler) loop(ctx context.Context, p *pass, orders *dispatcher) {
	desired, cancel := r.cfg.Desired.Subscribe()
	defer cancel()
	observed, cancel := r.cfg.View.Subscribe()
	defer cancel()
	var answers chan answer
	var asked chan chan<- scene
	if orders != nil {
		answers, asked = orders.answers, r.asked
	}
	for {
		now := time.Now()
		wake := p.run(now)
		if orders != nil {
			wake = earlier(orders.dispatch(ctx, p.mem, p.snap, now), wake)
			wake = earlier(p.rollouts.dispatch(ctx, now), wake)
		}
		timer := time.NewTimer(until(wake, now))
		for idle := true; idle; {
			idle = false
			select {
			case <-ctx.Done():
			case <-desired:
			case <-observed:
				// While calls run load changes all the time. That is news only
				// while a report as new as a fence is waited for.
				idle = p.held == "" && r.cfg.View.Snapshot().Shape == p.snap.Shape
			case <-timer.C:
			case shown := <-asked:
				shown <- p.scene(time.Now())
				idle = true
			case a := <-answers:
				p.mem.answered(a, time.Now())
			case <-r.called:
				for _, name := range r.callers() {
					p.mem.wake(name, time.Now())
				}
			case w := <-p.rollouts.done:
				p.rollouts.written(w, time.Now())
			}
		}
		timer.Stop()
		if !gather(ctx, p.mem, answers) {
			return
		}
	}
}

// until is how long to sleep: until wake, at most until the backup pass.
func until(wake, now time.Time) time.Duration {
	if wake.IsZero() {
		return backup
	}
	return min(max(wake.Sub(now), 0), backup)
}

func sooner(a, b time.Time) bool { return !a.IsZero() && (b.IsZero() || a.Before(b)) }
