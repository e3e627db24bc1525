// Package agent runs the replicas that controllers have ordered on this node, and
// reports their state.
//
// It promises:
//
//   - An order is obeyed once, however often it comes, and never after an order of
//     a newer leader.
//   - A replica that was stopped never starts later.
//   - Every replica that ends is removed from the runtime.
//   - Every call gets exactly one reply event, or one release if it has a stream and its
//     caller gave it up.
//   - A message of a stream has one number, and is passed to one reader at a time.
//   - A report that was missed is made up for by the next one.
//   - At most Config.MaxStarts replicas start at once, whatever is ordered.
//   - A spare takes no call before it is activated.
//
// It restarts nothing by itself. It reports an end with its reason and waits for a
// new assignment. Controllers decide which replicas run here, which replica a call
// goes to, and when its deadline passes. Processes are made by a fleet.Runtime.
//
// Run owns every goroutine. Each replica has a supervisor, which is one of them. All
// other methods may be called at any time from anywhere. Orders wait until Run has
// removed the remains of an earlier life of the node.
package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
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
	// tidyPeriod is how often old ended replicas are forgotten, and orders that could
	// not be recorded are tried again. It backs up the reports of loads, too.
	tidyPeriod = time.Second
	// unwatched is how long a node that drains without being watched waits for a
	// controller to move its replicas.
	unwatched = 2 * time.Second
	// noLeader is how long a node that drains waits for a sign of a leader, which
	// alone can move its replicas. A new one is elected within two seconds.
	noLeader = 5 * time.Second
	// lastCalls bounds how long running calls may take at the end of a drain. It is
	// short, because the drain itself was long.
	lastCalls = 3 * time.Second
	// closeTimeout bounds the runtime's own cleanup at the end.
	closeTimeout = 20 * time.Second
	// rushedGrace bounds each step of a replica's stop when the whole node stops,
	// whatever the stop_grace of its server is.
	rushedGrace = 3 * time.Second
)

// Config configures an Agent.
type Config struct {
	Node    fleet.NodeInfo
	Runtime fleet.Runtime
	Log     *slog.Logger // nil discards
	// StateFile keeps the cluster that the node belongs to, and the newest order of
	// it.
	StateFile string

	// DrainTimeout bounds how long the end of Run waits for controllers to move
	// the replicas elsewhere.
	DrainTimeout time.Duration
	// Hurry, when it is closed, ends that wait, and soon the wait for running calls
	// too. It may be nil.
	Hurry <-chan struct{}
	// Now, when it is closed, ends every wait of a stop: running calls fail, and
	// servers are killed. It may be nil.
	Now <-chan struct{}
	// Ended replicas are remembered for KeepFor. The last KeepEnded of them, and
	// the last 10 of each server, are remembered longer.
	KeepEnded int
	KeepFor   time.Duration
	// MaxReply is the longest line a server may send; 0 means stdio's default.
	MaxReply int
	// MaxStarts bounds how many replicas start at once, from their turn until they are
	// READY or have ended; 0 is two for each CPU. The others wait in the order of their
	// orders. Pulls do not count.
	MaxStarts int
	// Budget bounds the bytes of large replies at one time.
	Budget int64
}

// Agent runs replicas. Make one with New.
type Agent struct {
	cfg    Config
	log    *slog.Logger
	orders *ledger
	board  *board
	budget *stdio.Budget
	// streams has the streams of calls and sessions.
	streams   *streams
	listeners listeners

	// obeying is held for reading from an order's admission until its effect is on
	// the board. Fence locks it for writing, to wait for older orders that were
	// admitted before it.
	obeying sync.RWMutex

	loadNotice loadNotice

	swept   chan struct{} // closed when orders are taken
	stopped chan struct{} // closed when Run has ended every replica
	ordered chan struct{} // replicas wait to be launched, or images to be pulled
	ended   chan struct{} // a replica has ended

	live  sync.Map // fleet.ReplicaID -> *replica, until ended
	turns *turns
	nth   atomic.Uint64 // orders to start a replica
	// pingless has the revisions whose replicas ended when they were sent ping.
	pingless sync.Map // revisionKey -> bool
	// eras has what revisions were found to speak here.
	eras sync.Map // revisionKey -> fleet.Era
	// ending has the revisions whose replicas ended before they were READY, whatever they
	// were asked.
	ending sync.Map // revisionKey -> bool

	mu      sync.Mutex
	waiting []*replica        // ordered, not yet launched by Run
	images  []*fleet.Template // to be pulled, not yet begun
	pulling map[string]bool   // images that are in images or being pulled
	pullers int               // goroutines that pull them
}

// New returns an agent. It fails if it cannot read the state file, because an agent
// without the newest order could obey an older one.
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
	cfg.MaxStarts = cmp.Or(cfg.MaxStarts, 2*runtime.NumCPU())
	log := cfg.Log.With("component", "agent")
	orders, err := openLedger(cfg.StateFile, log)
	if err != nil {
		return nil, err
	}
	board := newBoard(cfg.Node, cfg.KeepEnded, cfg.KeepFor)
	orders.changed = board.refuseStarts
	return &Agent{
		cfg:        cfg,
		log:        log,
		orders:     orders,
		board:      board,
		budget:     stdio.NewBudget(cfg.Budget),
		streams:    newStreams(),
		swept:      make(chan struct{}),
		stopped:    make(chan struct{}),
		ordered:    make(chan struct{}, 1),
		ended:      make(chan struct{}, 1),
		loadNotice: loadNotice{look: make(chan struct{}, 1)},
		turns:      &turns{most: cfg.MaxStarts},
		pulling:    map[string]bool{},
	}, nil
}

// Ready returns a channel that is closed once the agent takes orders, because the
// remains of an earlier life of the node are gone.
func (a *Agent) Ready() <-chan struct{} { return a.swept }

// Node returns the node as the agent reports it.
func (a *Agent) Node() fleet.NodeInfo { return a.cfg.Node }

// Run sweeps, and then supervises replicas until ctx ends. Then it reports that the
// node drains, and starts no more replicas. It keeps serving until the controllers
// have stopped every replica, DrainTimeout has passed, no controller watches or
// leads, or Hurry is closed. It stops the remaining replicas, gives their running
// calls some more seconds, and returns when nothing is left. Watches end after Run.
func (a *Agent) Run(ctx context.Context) error {
	defer close(a.stopped)
	defer a.orders.close()
	defer a.board.drain() // also when the sweep fails
	base := context.WithoutCancel(ctx)
	removed, err := a.cfg.Runtime.Sweep(ctx)
	if len(removed) > 0 {
		a.log.Debug("remains of an earlier life removed", "removed", removed) // the runtime has logged each
	}
	if err != nil && ctx.Err() != nil {
		return a.close(base) // stopped meanwhile: the next life sweeps again
	}
	if err != nil {
		return errors.Join(fmt.Errorf("remove the remains of an earlier life of the node: %w", err), a.close(base))
	}
	close(a.swept)

	var supervisors, pulls, meter sync.WaitGroup
	meter.Go(func() { a.measure(ctx) })
	deadline := a.supervise(ctx, base, &supervisors, &pulls)
	a.stopAll(deadline)
	a.launch(base, &supervisors) // waiting ones end as stopped
	a.finish(&supervisors)
	meter.Wait() // both end with ctx
	pulls.Wait()
	return a.close(base)
}

// finish waits until nothing is left of the replicas, which are stopping. If Hurry is
// closed meanwhile, running calls get less time.
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

// supervise launches replicas and reports their load until ctx ends, and then until
// no replica is left or waiting is of no use. It returns until when running calls may
// go on.
func (a *Agent) supervise(ctx, base context.Context, supervisors, pulls *sync.WaitGroup) time.Time {
	tidy := time.NewTicker(tidyPeriod)
	defer tidy.Stop()
	var loads <-chan time.Time // set while changed loads are to be reported
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
		case <-a.ordered:
			a.launch(base, supervisors)
			a.pull(ctx, pulls)
		case <-a.ended:
		case <-a.loadNotice.look:
			if loads == nil {
				loads = time.After(loadDelay)
			}
		case <-loads:
			if loads = nil; !a.publishLoads() {
				loads = time.After(loadDelay)
			}
		case <-tidy.C:
			a.publishLoads()
			a.board.forget()
			a.streams.tidy()
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
			return by // running calls get the full time
		}
		if a.orders.leaderless(began, noLeader) {
			a.giveUp("no controller leads")
			return by
		}
	}
}

// hurry returns the channel that ends a drain early. It is nil before a drain.
func (a *Agent) hurry(draining <-chan time.Time) <-chan struct{} {
	if draining == nil {
		return nil
	}
	return a.cfg.Hurry
}

// giveUp logs why replicas are stopped without having moved, and returns until when
// their running calls may go on.
func (a *Agent) giveUp(why string) time.Time {
	if n := a.running(); n > 0 {
		a.log.Info("stopping replicas that did not move", "replicas", n, "reason", why)
	}
	return time.Now().Add(min(lastCalls, a.cfg.DrainTimeout))
}

// running returns how many replicas have not ended.
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

// stopAll stops all replicas. Running calls have until by, or less if their server
// says so.
func (a *Agent) stopAll(by time.Time) {
	a.mu.Lock() // a start that the board accepted is in live now
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

// notify signals a channel of capacity one, unless it is signalled already.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
