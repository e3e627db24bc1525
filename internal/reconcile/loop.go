// Package reconcile makes what runs equal to what is desired. The leader acts;
// followers make the same passes without acting, so that their status is as good.
// Each pass has four steps:
//
//   - observe: state.go takes in the workers' reports
//   - plan: plan.go decides. It is pure: desired and observed state in, actions
//     with reasons out
//   - act: dispatch.go sends orders to the workers
//   - back off: attempts.go and backoff.go say how soon a failed start is repeated
//
// The package promises:
//
//   - Running replicas of wanted revisions are adopted, whoever started them, and
//     never restarted.
//   - A new leader acts only when every living worker refuses earlier leaders and
//     has reported what they ordered (fence.go). It recalls how starts have gone
//     from what workers remember (recall.go).
//   - A rollout that makes no progress is rolled back to the last revision that was
//     rolled out.
//   - Updates, restarts, drains and the replacement of unhealthy replicas start the
//     new before they stop the old, wherever there is room.
//   - Orders are repeated until answered, and counted until a report shows them. No
//     loss, repetition or reordering of messages makes one replica too many or too
//     few.
//   - A server that cannot start is tried for ever, and ever less often. A revision
//     that does not start never replaces the last one that was rolled out.
//   - Replicas that were lost with their node are replaced without delay. While a
//     node may come back nothing is replaced, except that a server without any
//     other replica gets one.
//
// It knows nothing of calls and writes no desired state: Config.EndRollout does.
// Follow and Lead own every goroutine. Other methods may be called at any time.
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

// Desired is what users asked for. Package store implements it.
type Desired interface {
	Servers() []fleet.Server
	Nodes() map[fleet.NodeID]fleet.NodeIntent // those with an intent
	Subscribe() (look <-chan struct{}, cancel func())
}

// View is what runs. Package observe implements it.
type View interface {
	Snapshot() *observe.Snapshot
	Shape() uint64 // of the next Snapshot
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

	Sessions Sessions // nil: there are none

	// EndRollout makes it durable how a rollout has ended. Only a leader calls it,
	// from a goroutine of its own, and again after an error. It may be nil.
	EndRollout func(context.Context, RolloutEnd) error
	// Record receives the events of a leader. It must not block. It may be nil.
	Record func(Event)

	// NodeGrace is how long a new controller waits for the nodes that may run
	// replicas.
	NodeGrace time.Duration
	// ExpectWorkers is how many workers a new cluster waits for, NodeGrace at
	// most, before the first replicas are placed, so that few have to move later.
	ExpectWorkers int
	// Settle is how long a new cluster waits for more workers after each that
	// has joined, before the first replicas are placed. It waits longer, but no
	// longer than NodeGrace, if the start of a worker took longer.
	Settle time.Duration
	// RebalanceAfter is how long a node must have taken replicas before others move to
	// it.
	RebalanceAfter time.Duration
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
	DefaultRebalance    = 30 * time.Second
	DefaultOrderTimeout = 5 * time.Second
)

const (
	// batch is how long the loop waits for more news before the next pass.
	batch = 5 * time.Millisecond
	// backup is the longest time between two passes.
	backup = 2 * time.Second
)

// Reconciler runs the loop and reports how the servers are doing.
type Reconciler struct {
	cfg   Config
	log   *slog.Logger
	board notice.Board

	asked chan chan<- scene // by previews
	*history

	woken chan struct{} // toWake has changed

	mu      sync.Mutex
	toWake  []fleet.ServerName
	status  []ServerStatus          // by name; replaced, never edited
	cordons map[fleet.NodeID]string // replaced, never edited
	leading <-chan struct{}         // closed when the tenure ends; nil without one
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
	if cfg.RebalanceAfter == 0 {
		cfg.RebalanceAfter = DefaultRebalance
	}
	if cfg.OrderTimeout == 0 {
		cfg.OrderTimeout = DefaultOrderTimeout
	}
	if cfg.Jitter == nil {
		cfg.Jitter = rand.Float64
	}
	if cfg.EndRollout == nil {
		cfg.EndRollout = func(context.Context, RolloutEnd) error { return nil }
	}
	if cfg.Sessions == nil {
		cfg.Sessions = noSessions{}
	}
	if cfg.Record == nil {
		cfg.Record = func(Event) {}
	}
	if cfg.NewID == nil {
		cfg.NewID = fleet.NewReplicaID
	}
	r := &Reconciler{
		cfg: cfg, log: cfg.Log.With("component", "reconcile"),
		asked: make(chan chan<- scene), history: newHistory(), woken: make(chan struct{}, 1),
	}
	for _, d := range cfg.Desired.Servers() {
		r.status = append(r.status, ServerStatus{
			Name: d.Name, State: fleet.StateDeploying, Reason: "the controller is starting",
			Target: d.Target, Revision: d.Revision,
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

// Cordons returns the nodes that the leader has cordoned by itself, and why, as far as
// this controller knows. The map is shared: do not edit it.
func (r *Reconciler) Cordons() map[fleet.NodeID]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cordons
}

// Subscribe returns a channel that gets a value when Status or Cordons may have
// changed.
func (r *Reconciler) Subscribe() (look <-chan struct{}, cancel func()) { return r.board.Subscribe() }

// Wake replaces, at once, the replicas of a server that have ended because nobody
// needed them. It works on the leader only, and may be repeated.
func (r *Reconciler) Wake(name fleet.ServerName) {
	r.mu.Lock()
	if !slices.Contains(r.toWake, name) {
		r.toWake = append(r.toWake, name)
	}
	r.mu.Unlock()
	select {
	case r.woken <- struct{}{}:
	default:
	}
}

// takeWoken returns the servers to wake since the last call.
func (r *Reconciler) takeWoken() []fleet.ServerName {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := r.toWake
	r.toWake = nil
	return names
}

// Follow keeps Status current until ctx ends, and orders nothing. It is for
// controllers that do not lead.
func (r *Reconciler) Follow(ctx context.Context) error {
	r.loop(ctx, newPass(r, false), nil)
	return nil
}

// Lead makes what runs equal to what is desired until ctx ends, then ends its
// orders and returns nil. What runs goes on running. Each tenure needs a new
// order. Lead acts once every living worker refuses earlier leaders and has
// reported what they ordered, or NodeGrace has passed. Follow and Lead may be
// called any number of times, but not at once.
func (r *Reconciler) Lead(ctx context.Context, order fleet.Order) error {
	r.setLeading(ctx.Done())
	defer r.setLeading(nil)
	orders := newDispatcher(r.cfg, order)
	defer orders.sent.Wait()
	p := newPass(r, true)
	defer p.rollouts.writes.Wait()
	var others sync.WaitGroup
	defer others.Wait()
	others.Go(func() { r.renew(ctx, order) })
	others.Go(func() { r.prepull(ctx, order) })
	r.log.Info("leading", "epoch", order.Epoch, "incarnation", order.Incarnation)
	r.loop(ctx, p, orders)
	return nil
}

// setLeading sets the channel that is closed when the tenure ends, nil without
// one.
func (r *Reconciler) setLeading(over <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leading = over
}

// loop makes passes until ctx ends. orders is nil for a follower.
func (r *Reconciler) loop(ctx context.Context, p *pass, orders *dispatcher) {
	desired, cancel := r.cfg.Desired.Subscribe()
	defer cancel()
	observed, cancel := r.cfg.View.Subscribe()
	defer cancel()
	sessions, cancel := r.cfg.Sessions.Subscribe()
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
			wake = earlier(orders.dispatch(ctx, p.state, p.snap, now), wake)
			wake = earlier(p.rollouts.dispatch(ctx, now), wake)
		}
		timer := time.NewTimer(until(wake, now))
		for idle := true; idle; {
			idle = false
			select {
			case <-ctx.Done():
			case <-desired:
			case <-sessions:
			case <-observed:
				// While calls run, load changes all the time. That matters only
				// while a report as new as a fence is awaited.
				idle = p.waitingFor == "" && r.cfg.View.Shape() == p.snap.Shape
			case <-timer.C:
			case shown := <-asked:
				shown <- p.scene(time.Now())
				idle = true
			case a := <-answers:
				p.state.recordAnswer(a, time.Now())
			case <-r.woken:
				for _, name := range r.takeWoken() {
					p.state.attempts.wake(name, time.Now())
				}
			case w := <-p.rollouts.done:
				p.rollouts.written(w, time.Now())
			}
		}
		timer.Stop()
		if !gather(ctx, p.state, answers) {
			return
		}
	}
}

// until returns how long to sleep: until wake, or until the backup pass.
func until(wake, now time.Time) time.Duration {
	if wake.IsZero() {
		return backup
	}
	return min(max(wake.Sub(now), 0), backup)
}

func sooner(a, b time.Time) bool { return !a.IsZero() && (b.IsZero() || a.Before(b)) }
