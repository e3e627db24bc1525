// Package agent keeps this node's replicas as the controllers ordered them and
// reports what became of them.
//
// It promises: an order is obeyed once however often it comes, and never when
// a newer leader has spoken; a replica that was stopped never starts later;
// every replica that ends is removed from the runtime, whatever ended it;
// every call is answered by exactly one reply event; a report that was missed
// is caught up by the next one. It restarts nothing by itself: it reports an
// end with its reason and waits for a new assignment.
//
// It leaves to others: what should run where, which replica a call goes to and
// when its deadline passes (controllers); how a process is made (fleet.Runtime);
// the conversation on the pipe (package stdio); the network (package rpc).
//
// Run owns every goroutine: one supervisor per replica, which owns that
// replica's life. All other methods may be called at any time from anywhere;
// orders wait until Run has swept what an earlier life of the node left.
package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/stdio"
)

// Defaults of Config.
const (
	DefaultDrainTimeout = 25 * time.Second
	DefaultKeepEnded    = 100
	DefaultKeepFor      = 15 * time.Minute
	DefaultBudget       = 256 << 20
)

const (
	// loadPeriod is how often changed loads are reported, and how often orders
	// that could not be recorded are tried again. Controllers learn the load from
	// every reply; this serves those that sent none.
	loadPeriod = time.Second
	// unwatched is how long nobody may have watched before a node that drains
	// gives up waiting for somebody to move its replicas.
	unwatched = 2 * time.Second
	// noLeader is how long a node that drains waits for a sign of a leader, which
	// alone can move its replicas. A new one is elected within two seconds.
	noLeader = 5 * time.Second
	// lastCalls bounds how long running calls may take at the end of a drain:
	// who waits for it has waited long.
	lastCalls = 3 * time.Second
	// closeTimeout bounds the runtime's own cleaning up at the end.
	closeTimeout = 20 * time.Second
	// rushedGrace bounds each step of a stop when the whole node stops, which
	// has no time for every server's wishes.
	rushedGrace = 3 * time.Second
)

// Config is what an agent needs.
type Config struct {
	Node    fleet.NodeInfo
	Runtime fleet.Runtime
	Log     *slog.Logger // nil discards
	// StateFile keeps the cluster that the node belongs to and the newest order
	// seen of it.
	StateFile string

	// DrainTimeout bounds how long the end of Run waits for controllers to move
	// the replicas elsewhere.
	DrainTimeout time.Duration
	// Hurry, when it is closed, ends that wait, and soon also that for running
	// calls. It may be nil.
	Hurry <-chan struct{}
	// Now, when it is closed, ends every wait of a stop: calls are not waited
	// for, and servers are killed. It may be nil.
	Now <-chan struct{}
	// Ended replicas are remembered for KeepFor; the last KeepEnded of them, and
	// the last 10 of each server, for longer.
	KeepEnded int
	KeepFor   time.Duration
	// MaxReply is the longest line a server may send; 0 means stdio's default.
	MaxReply int
	// Budget bounds the bytes of large replies held at one time.
	Budget int64
}

// Agent runs replicas. Make one with New.
type Agent struct {
	cfg    Config
	log    *slog.Logger
	orders *ledger
	board  *board
	budget *stdio.Budget

	// obeying is held for reading from an order's admission until what it did
	// is on the board. Fence waits there for older orders that it came too
	// late to refuse.
	obeying sync.RWMutex

	swept   chan struct{} // closed: orders are taken
	stopped chan struct{} // closed: Run has ended every replica
	look    chan struct{} // replicas wait to be launched
	ended   chan struct{} // look whether any is left

	live sync.Map // fleet.ReplicaID -> *replica, until ended
	// pingless has the revisions whose replicas ended when they were sent ping.
	pingless sync.Map // revisionKey -> bool

	mu      sync.Mutex
	waiting []*replica // ordered, not yet launched by Run
}

// New makes an agent. It reads the state file, and fails when that cannot be
// understood: an agent that forgot the newest order could obey an older one.
func New(cfg Config) (*Agent, error) {
	if cfg.Runtime == nil || cfg.Node.Node == "" || cfg.StateFile == "" {
		return nil, errors.New("agent: node, runtime and state file are needed")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.DrainTimeout = cmp.Or(cfg.DrainTimeout, DefaultDrainTimeout)
	cfg.KeepEnded = cmp.Or(cfg.KeepEnded, DefaultKeepEnded)
	cfg.KeepFor = cmp.Or(cfg.KeepFor, DefaultKeepFor)
	cfg.Budget = cmp.Or(cfg.Budget, DefaultBudget)
	log := cfg.Log.With("component", "agent")
	orders, err := openLedger(cfg.StateFile, log)
	if err != nil {
		return nil, err
	}
	board := newBoard(cfg.Node, cfg.KeepEnded, cfg.KeepFor)
	orders.told = board.refuseStarts
	return &Agent{
		cfg:     cfg,
		log:     log,
		orders:  orders,
		board:   board,
		budget:  stdio.NewBudget(cfg.Budget),
		swept:   make(chan struct{}),
		stopped: make(chan struct{}),
		look:    make(chan struct{}, 1),
		ended:   make(chan struct{}, 1),
	}, nil
}

// Ready is closed once the agent takes orders: what an earlier life of the
// node left is gone.
func (a *Agent) Ready() <-chan struct{} { return a.swept }

// Node is what the agent reports of its node.
func (a *Agent) Node() fleet.NodeInfo { return a.cfg.Node }

// Run sweeps, then supervises replicas until ctx ends. Then it reports that
// the node drains: it starts nothing more, and goes on serving until the
// controllers have stopped every replica, DrainTimeout has passed, nobody
// watches, no controller leads, or it has to hurry. It stops the rest, gives
// their running calls some seconds more, and returns when nothing is left.
// Watches end after Run has.
func (a *Agent) Run(ctx context.Context) error {
	defer close(a.stopped)
	defer a.orders.close()
	defer a.board.drain() // also when the sweep fails
	base := context.WithoutCancel(ctx)
	removed, err := a.cfg.Runtime.Sweep(ctx)
	if len(removed) > 0 {
		a.log.Debug("removed what an earlier life left", "removed", removed) // the runtime has told it
	}
	if err != nil && ctx.Err() != nil {
		return a.close(base) // told to stop meanwhile: the next life sweeps again
	}
	if err != nil {
		return errors.Join(fmt.Errorf("sweep what an earlier life of the node left: %w", err), a.close(base))
	}
	close(a.swept)

	var supervisors sync.WaitGroup
	deadline := a.supervise(ctx, base, &supervisors)
	a.stopAll(deadline)
	a.launch(base, &supervisors) // those that waited end as stopped
	a.finish(&supervisors)
	return a.close(base)
}

// finish waits until nothing is left of the replicas, which have been told to
// stop. Told to hurry meanwhile, it gives their running calls less time.
func (a *Agent) finish(supervisors *sync.WaitGroup) {
	over := make(chan struct{})
	go func() {
		defer close(over)
		supervisors.Wait()
	}()
	select {
	case <-over:
	case <-a.cfg.Hurry:
		a.stopAll(a.giveUp("told to hurry"))
		<-over
	}
}

// supervise launches replicas and reports their load until ctx ends, and then
// until none is left or there is nothing to wait for. It returns until when
// running calls may go on.
func (a *Agent) supervise(ctx, base context.Context, supervisors *sync.WaitGroup) time.Time {
	loads := time.NewTicker(loadPeriod)
	defer loads.Stop()
	stop := ctx.Done()
	var deadline <-chan time.Time // set while the node drains
	var began, by time.Time
	for {
		select {
		case <-stop:
			stop = nil
			a.board.drain()
			began = time.Now()
			by = began.Add(a.cfg.DrainTimeout)
			timer := time.NewTimer(a.cfg.DrainTimeout)
			defer timer.Stop()
			deadline = timer.C
			a.log.Info("node drains", "replicas", a.running(), "timeout", a.cfg.DrainTimeout)
		case <-a.look:
			a.launch(base, supervisors)
		case <-a.ended:
		case <-loads.C:
			a.publishLoads()
			a.board.forget()
			a.orders.again()
		case <-deadline:
			return a.giveUp("the drain timeout has passed")
		case <-a.hurry(deadline):
			return a.giveUp("told to hurry")
		}
		if deadline == nil {
			continue
		}
		if a.running() == 0 {
			return by
		}
		if a.board.unwatchedFor(unwatched) {
			a.giveUp("no controller watches")
			return by // of the calls that run nobody knows better
		}
		if a.orders.leaderless(began, noLeader) {
			a.giveUp("no controller leads")
			return by
		}
	}
}

// hurry is what ends a drain early; nothing does before there is one.
func (a *Agent) hurry(draining <-chan time.Time) <-chan struct{} {
	if draining == nil {
		return nil
	}
	return a.cfg.Hurry
}

// giveUp tells why replicas are stopped that nobody moved, and until when their
// running calls may go on.
func (a *Agent) giveUp(why string) time.Time {
	if n := a.running(); n > 0 {
		a.log.Info("node stops its replicas", "replicas", n, "reason", why)
	}
	return time.Now().Add(min(lastCalls, a.cfg.DrainTimeout))
}

// running counts the replicas that have not ended.
func (a *Agent) running() (n int) {
	a.live.Range(func(any, any) bool { n++; return true })
	return n
}

func (a *Agent) launch(base context.Context, supervisors *sync.WaitGroup) {
	a.mu.Lock()
	waiting := a.waiting
	a.waiting = nil
	a.mu.Unlock()
	for _, r := range waiting {
		supervisors.Go(func() {
			r.run(base)
			a.live.Delete(r.order.ID)
			notify(a.ended)
		})
	}
}

func (a *Agent) publishLoads() {
	a.live.Range(func(_, v any) bool {
		r := v.(*replica)
		a.board.load(r.order.ID, r.load())
		return true
	})
}

// stopAll stops what runs. Running calls have until by, unless their server
// gives them less.
func (a *Agent) stopAll(by time.Time) {
	a.mu.Lock() // a start that the board still took is in live now
	defer a.mu.Unlock()
	a.live.Range(func(_, v any) bool {
		r := v.(*replica)
		r.rushed.Store(true)
		patience := min(time.Until(by), r.order.Template.DrainTimeout)
		r.stop("the node is stopping", time.Now().Add(patience))
		return true
	})
}

func (a *Agent) close(base context.Context) error {
	ctx, cancel := context.WithTimeout(base, closeTimeout)
	defer cancel()
	return a.cfg.Runtime.Close(ctx)
}

func (a *Agent) replica(id fleet.ReplicaID) *replica {
	if v, ok := a.live.Load(id); ok {
		return v.(*replica)
	}
	return nil
}

// notify says "look again" on a channel of capacity one.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
