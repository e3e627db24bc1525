package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mask"
	"github.com/mcpfleet/mcpfleet/internal/stdio"
)

const (
	// pullTimeout ends a pull that does not end.
	pullTimeout = 30 * time.Minute
	// pullNews is how often the progress of a pull is reported.
	pullNews = 500 * time.Millisecond
)

var (
	errStopped = errors.New("stopped on order")
	errPulling = fmt.Errorf("the image pull took longer than %s", pullTimeout)
)

// replica is one replica. Its supervisor, run, changes its phase, except to DRAINING,
// which stop does at once.
type replica struct {
	order   fleet.Assignment
	node    fleet.NodeInfo
	cluster func() fleet.ClusterID
	runtime fleet.Runtime
	board   *board
	budget  *stdio.Budget
	maxLine int
	log     *slog.Logger // masks
	plain   *slog.Logger // does not
	stderr  *stderrRing  // and lines of stdout that are not JSON-RPC
	strays  strays
	mask    *mask.Masker
	// These are shared with the agent.
	pingless, eras, ending *sync.Map
	// again is the era of the process that took the place of the first one; EraAuto: the
	// first one still runs. See startsAgain.
	again   fleet.Era
	metered atomic.Pointer[fleet.Metered] // set once it runs; nil if it is not metered
	gauge   gauge
	ordered time.Time
	turn    *turn           // to start
	cold    fleet.ColdStart // only the supervisor uses it

	// The state of calls. conn is set before open.
	conn       *stdio.Conn
	open       atomic.Bool   // calls are taken
	running    atomic.Int64  // calls inside their deadline, and live tasks
	ongoing    atomic.Int64  // and cancelled ones that the server still works on
	total      atomic.Uint64 // that were ever taken
	counts     counts        // of those that have ended
	askings    askings       // that wait for their clients
	tasks      liveTasks
	logger     logger // that asked for the server's log
	streams    *streams
	listeners  *listeners
	listening  atomic.Pointer[listening]
	hub        atomic.Pointer[hub] // nil unless the replica belongs to a session
	loadNotice *loadNotice         // posted when a load changes
	idle       chan struct{}       // running may have become 0 after open
	late       chan struct{}       // timeouts has changed
	// timeouts counts calls that timed out since health was last updated.
	timeouts atomic.Int32
	changed  chan struct{} // the server reports that lists have changed: those in relist
	relist   atomic.Uint32

	claims chan *claim // of a raw spare, one in its life

	rushed   atomic.Bool     // the node is stopping
	stopping chan struct{}   // closed by the first stop
	hurry    chan struct{}   // patience became shorter
	now      <-chan struct{} // closed when a stop must wait for nothing
	mu       sync.Mutex
	reason   string    // of the first stop; "" until then
	patience time.Time // until when a drain may wait
	claimed  *claim    // by a session; nil for none
	// claimable is set while a raw spare waits for a session.
	claimable bool
}

// revisionKey names a revision of a server.
type revisionKey struct {
	server   fleet.ServerName
	revision fleet.Revision
}

func newReplica(a *Agent, as fleet.Assignment) *replica {
	masker := mask.New(as.Template.Env)
	plain := a.log.With("server", string(as.Server), "replica", string(as.ID))
	return &replica{
		order: as, node: a.cfg.Node, cluster: a.orders.cluster, runtime: a.cfg.Runtime,
		board: a.board, loadNotice: &a.loadNotice, streams: a.streams, listeners: &a.listeners, budget: a.budget, maxLine: a.cfg.MaxReply,
		log: slog.New(masker.Handler(plain.Handler())), plain: plain,
		mask: masker, pingless: &a.pingless, eras: &a.eras, ending: &a.ending,
		ordered: time.Now(), turn: a.turns.newTurn(a.nth.Add(1)),
		stderr: newStderrRing(), claims: make(chan *claim, 1),
		idle: make(chan struct{}, 1), late: make(chan struct{}, 1), changed: make(chan struct{}, 1),
		stopping: make(chan struct{}), hurry: make(chan struct{}, 1), now: a.cfg.Now,
	}
}

// stop begins the stop of the replica: it takes no more calls, and running ones may
// finish until by. Further calls of stop can only shorten that.
func (r *replica) stop(reason string, by time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reason != "" {
		if by.Before(r.patience) {
			r.patience = by
			notify(r.hurry)
		}
		return
	}
	r.reason, r.patience = reason, by
	r.drain(reason, false)
	close(r.stopping)
}

// drain takes the replica out of rotation, because it was stopped or failed. The first
// reason counts.
func (r *replica) drain(reason string, failed bool) {
	r.board.move(r.order.ID, fleet.PhaseDraining, func(rep *fleet.Replica) {
		r.open.Store(false)
		rep.Reason, rep.Failing = reason, failed
		rep.Load, rep.Calls = r.load(), r.counts.now()
	})
	notify(r.idle)
}

// stopReason returns why the replica was stopped, "" if it was not, and until when it
// may drain.
func (r *replica) stopReason() (string, time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reason, r.patience
}

func (r *replica) load() fleet.Load {
	return fleet.Load{Ongoing: int(r.ongoing.Load()), Total: r.total.Load()}
}

// callEnded uncounts a call that is no longer inside its deadline.
func (r *replica) callEnded() {
	if r.running.Add(-1) == 0 && !r.open.Load() {
		notify(r.idle)
	}
}

// run runs the replica from its order to its end. It returns when nothing of it is
// left. The replica keeps its turn until it is READY, or until it has ended.
func (r *replica) run(ctx context.Context) {
	defer r.stderr.close()
	defer r.turn.giveBack()
	if reason, _ := r.stopReason(); reason != "" {
		r.neverRan(ctx, errStopped)
		return
	}
	starting, free := r.starting(ctx)
	defer free(nil)
	s, err := r.bringUp(ctx, starting)
	if s == nil {
		r.neverRan(ctx, err)
		return
	}
	opened := err == nil
	if opened && r.order.Raw {
		opened, err = r.awaitSession(starting, s)
	}
	if opened {
		r.turn.giveBack()
		r.serve(ctx, s)
	}
	r.finish(ctx, s, err)
}

// bringUp starts the process and, unless it is a raw spare, makes the replica READY. If the
// question for its era has spoilt the process, another one takes its place. The session is
// nil if no process runs.
func (r *replica) bringUp(ctx, starting context.Context) (*session, error) {
	for {
		proc, began, err := r.launch(starting)
		if err != nil {
			return nil, err
		}
		s := r.converse(ctx, proc)
		if r.order.Raw {
			return s, nil
		}
		if err = r.setUp(starting, s, began); err == nil || !r.startsAgain(err) {
			return s, err
		}
		r.log.Info("process starts again", "reason", err)
		r.discard(ctx, s)
		r.cold.Handshake = time.Since(began) // what it has cost so far
		if starting.Err() != nil {
			return nil, context.Cause(starting)
		}
	}
}

// starting returns the context of a start, which ends with a stop or when the start
// takes too long. The returned function frees it.
func (r *replica) starting(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-r.stopping:
			cancel(errStopped)
		case <-ctx.Done():
		}
	})
	return ctx, func(err error) {
		cancel(err)
		watch.Wait()
	}
}

// launch pulls the image if that is needed, waits for the replica's turn, and starts the
// process. It returns when that began.
func (r *replica) launch(ctx context.Context) (proc fleet.Process, began time.Time, err error) {
	l := fleet.Launch{
		Cluster: r.cluster(), Node: r.node.Node,
		Replica: r.order.ID, Server: r.order.Server, Revision: r.order.Revision, Template: r.order.Template,
	}
	for again := false; ; again = true {
		if err = r.prepare(ctx, l); err != nil {
			return nil, began, err
		}
		if err = r.turn.take(ctx, r.waits); err != nil {
			return nil, began, err
		}
		began = time.Now()
		if r.again == fleet.EraAuto {
			r.cold.Place = began.Sub(r.ordered) - r.cold.Pull
		}
		proc, err = r.start(ctx, l)
		if again || !errors.Is(err, fleet.ErrImageGone) {
			return proc, began, err
		}
		// Somebody has removed the image since it was last seen.
		r.turn.giveBack()
	}
}

// prepare pulls the image if that is needed.
func (r *replica) prepare(ctx context.Context, l fleet.Launch) error {
	ctx, cancel := context.WithTimeoutCause(ctx, pullTimeout, errPulling)
	defer cancel()
	var mu sync.Mutex // of the callback, which any goroutine may call
	var began, told time.Time
	over := false
	l.Pulling = func(progress string) {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return
		}
		if began.IsZero() {
			began = time.Now()
		}
		if time.Since(told) >= pullNews {
			told = time.Now()
			r.pulling(progress)
		}
	}
	err := r.runtime.Prepare(ctx, l)
	mu.Lock()
	defer mu.Unlock()
	over = true
	if !began.IsZero() {
		r.cold.Pull += time.Since(began)
	}
	return err
}

// waits reports that the replica waits for its turn, beside its phase. After a pull that
// is PULLING, since phases do not move back.
func (r *replica) waits(reason string) {
	tell := func(rep *fleet.Replica) bool {
		rep.Reason, rep.ColdStart = reason, r.cold
		return true
	}
	r.board.edit(r.order.ID, fleet.PhasePending, tell)
	r.board.edit(r.order.ID, fleet.PhasePulling, tell)
}

// start starts the process.
func (r *replica) start(ctx context.Context, l fleet.Launch) (fleet.Process, error) {
	timeout := r.startTimeout()
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, startTooLong(timeout))
	defer cancel()
	r.board.move(r.order.ID, fleet.PhaseStarting, func(rep *fleet.Replica) {
		rep.Reason, rep.ColdStart = "", r.cold
	})
	began := time.Now()
	proc, err := r.runtime.Start(ctx, l)
	if err != nil {
		return nil, err
	}
	if c, ok := proc.(fleet.Creator); ok {
		if at := c.Created(); at.After(began) {
			r.cold.Create = at.Sub(began)
		}
	}
	r.cold.Start = time.Since(began) - r.cold.Create
	return proc, nil
}

func (r *replica) startTimeout() time.Duration {
	return cmp.Or(r.order.Template.StartTimeout, fleet.DefaultStartTimeout)
}

func startTooLong(d time.Duration) error { return fmt.Errorf("not ready within %s of its start", d) }

func (r *replica) pulling(progress string) {
	tell := func(rep *fleet.Replica) { rep.Reason = r.mask.Text(progress) }
	if !r.board.move(r.order.ID, fleet.PhasePulling, tell) {
		r.board.edit(r.order.ID, fleet.PhasePulling, func(rep *fleet.Replica) bool {
			tell(rep)
			return true
		})
	}
}

// neverRan reports the end of a replica that never had a process.
func (r *replica) neverRan(ctx context.Context, err error) {
	if reason, _ := r.stopReason(); reason != "" {
		r.report(ctx, fleet.PhaseStopped, reason, nil)
		return
	}
	r.report(ctx, fleet.PhaseFailed, r.mask.Text(err.Error()), nil)
}

// report reports the end. Quotes in the reason are masked already. Masking it as a
// whole could hide words of ours that are also values of env.
func (r *replica) report(ctx context.Context, phase fleet.Phase, reason string, exit *fleet.Exit) {
	level := slog.LevelInfo
	if phase == fleet.PhaseFailed {
		level = slog.LevelWarn
	}
	r.board.move(r.order.ID, phase, func(rep *fleet.Replica) {
		r.open.Store(false)
		rep.Reason, rep.Exit, rep.Unhealthy = reason, exit, false
		rep.EndedAt = time.Now()
		rep.PID = 0
		rep.Load, rep.Calls, rep.Usage = fleet.Load{Total: r.total.Load()}, r.counts.now(), fleet.Usage{}
		rep.Log = r.stderr.last(reportLines, reportBytes, false)
	})
	r.plain.Log(ctx, level, "replica ended", "phase", phase.String(), "reason", reason)
}
