package agent

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/stdio"
)

const (
	// stdoutGrace is how long stdout may stay open after the process has ended, so
	// that its output is read. A grandchild that inherited the pipe could keep it
	// open for ever.
	stdoutGrace = time.Second
	// refreshPause collects a burst of list_changed notifications. refreshRetry is
	// the wait after a listing that failed.
	refreshPause   = 100 * time.Millisecond
	refreshRetry   = 10 * time.Second
	refreshTimeout = 30 * time.Second
)

// session is a replica's process and the conversation with it.
type session struct {
	proc       fleet.Process
	conn       *stdio.Conn
	introduced bool      // the server has answered initialize or server/discover
	lists      *listings // nil for a raw spare
	// gone is closed at the end of stdout, when every call has ended.
	gone <-chan struct{}
	hang func() // ends the conversation
	// subscribe begins the subscriptions, and unsubscribe ends them.
	subscribe   func(*stdio.Server) *subscriptions
	unsubscribe func()

	pumped  <-chan struct{} // closed at the end of stderr
	started time.Time
	owned   sync.WaitGroup
	killed  bool // we sent KILL
}

// converse starts the goroutines that read from and write to the process.
func (r *replica) converse(ctx context.Context, proc fleet.Process) *session {
	ctx, hang := context.WithCancel(ctx)
	gone, pumped := make(chan struct{}), make(chan struct{})
	s := &session{proc: proc, gone: gone, hang: hang, pumped: pumped, started: time.Now()}
	s.conn = stdio.New(stdio.Config{
		In: proc.Stdin(), Out: proc.Stdout(), Log: r.log,
		MaxLine: r.maxLine, Budget: r.budget,
		Quote: r.quote,
		OnStray: func(one stdio.Stray) {
			r.strays.add(one)
			r.stderr.add(strayLog(one))
		},
		NoPing:     r.order.Template.Health.Off || r.isPingless(),
		ClientInfo: mcp.Implementation{Name: "mcpfleet", Version: r.node.Version},
		OnNotification: func(method string, params []byte) {
			r.notified(method, params)
			r.saw(method, "", nil, params)
			if bits := changedBy(method); bits != 0 {
				r.relist.Or(bits)
				notify(r.changed)
			}
		},
	})
	r.conn = s.conn
	subscribed, unsubscribe := context.WithCancel(ctx)
	s.subscribe = func(server *stdio.Server) *subscriptions { return r.subscribe(subscribed, s, server) }
	s.unsubscribe = unsubscribe
	r.askings.begin()
	if m, ok := proc.(fleet.Metered); ok {
		r.gauge.at = s.started
		r.metered.Store(&m)
	}
	s.owned.Go(func() {
		defer close(gone)
		if err := s.conn.Run(ctx); err != nil {
			r.log.Warn("conversation broken", "err", err)
		}
		r.askings.end()
		r.endTasks()
		r.closeHub()
	})
	s.owned.Go(func() {
		defer close(pumped)
		pumpStderr(proc.Stderr(), r.stderr, r.mask, r.log)
	})
	s.owned.Go(func() {
		select {
		case <-gone:
			return
		case <-proc.Done(): // may be nil: never
		}
		if !wait(gone, stdoutGrace) {
			r.log.Warn("process ended, but something keeps its stdout open")
			hang()
		}
	})
	r.board.move(r.order.ID, fleet.PhaseStarting, func(rep *fleet.Replica) { rep.Reason = "" })
	r.board.edit(r.order.ID, fleet.PhaseStarting, func(rep *fleet.Replica) bool {
		rep.PID, rep.ContainerID, rep.ColdStart = proc.PID(), proc.ContainerID(), r.cold
		return true
	})
	return s
}

func (r *replica) revision() revisionKey { return revisionKey{r.order.Server, r.order.Revision} }

// isPingless reports whether a replica of the revision ended when it was sent ping.
// Others are sent tools/list instead.
func (r *replica) isPingless() bool {
	_, known := r.pingless.Load(r.revision())
	return known
}

// quote returns the first n bytes of the server's output, masked.
func (r *replica) quote(b []byte, n int) string {
	keep := min(len(b), n+r.mask.Longest()+1) // do not copy all of it, which may be large
	return r.mask.Cut(strings.ToValidUTF8(string(b[:keep]), "\uFFFD"), n)
}

// wait waits for c, d at most, and reports whether it was closed.
func wait(c <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c:
		return true
	case <-t.C:
		return false
	}
}

// setUp opens the conversation, lists what the server offers, and opens the replica to
// calls unless it is a spare.
func (r *replica) setUp(ctx context.Context, s *session, began time.Time) error {
	timeout := r.startTimeout()
	ctx, cancel := context.WithDeadlineCause(ctx, began.Add(timeout), startTooLong(timeout))
	defer cancel()
	asked := time.Now()
	server, err := s.conn.Open(ctx, r.opening())
	if err != nil {
		return r.openError(ctx, err)
	}
	r.foundEra(server.Era)
	s.introduced, s.lists = true, newLists(server)
	if sub := s.subscribe(server); sub != nil {
		sub.awaitReady(ctx) // first, so that no change of what is listed below is missed
	}
	r.cold.Handshake += time.Since(asked)
	asked = time.Now()
	if err := s.lists.update(ctx, s.conn, listPatience, r.log); err != nil {
		return startError(ctx, "tools/list", err)
	}
	r.cold.List = time.Since(asked)
	catalogue := s.lists.catalogue()
	r.board.offer(r.order.ID, catalogue)
	opened := r.board.move(r.order.ID, fleet.PhaseReady, func(rep *fleet.Replica) {
		rep.Reason, rep.ReadyAt, rep.ColdStart = "", time.Now(), r.cold
		r.open.Store(!rep.Spare)
	})
	if !opened {
		return errStopped
	}
	r.log.Info("replica ready", "era", server.Era, "protocol", server.Protocol, "tools", len(catalogue.Tools), "after", r.cold.Total(), "cold_start", r.cold)
	return nil
}

// startError returns why a start failed: the deadline or the stop, rather than the
// request that it ended.
func startError(ctx context.Context, waiting string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: no answer to %s", context.Cause(ctx), waiting)
	}
	return err
}

// serve supervises a replica that takes calls until it is stopped or its stdout ends.
func (r *replica) serve(ctx context.Context, s *session) {
	ctx, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()

	health := newVitals(r.order.Template.Health)
	health.modern = s.lists != nil && s.lists.server.Era == fleet.EraModern
	replies := func() int64 { // late ones count too
		st := s.conn.Stats()
		return st.Replies + st.LateReplies
	}
	health.tick(replies())
	next := time.NewTimer(0) // at once, to learn early whether the server answers pings
	defer next.Stop()
	if health.plan.Off {
		next.Stop()
	}
	var unused <-chan time.Time
	if h := r.hub.Load(); h != nil && h.once {
		wait := time.NewTimer(onceWait)
		defer wait.Stop()
		unused = wait.C
	}
	pinged := make(chan error, 1)
	var pinging bool
	var running, unanswered int64 // when the ping began

	var refresh <-chan time.Time // set while a listing is due
	if s.lists != nil && s.lists.anyDue() {
		refresh = time.After(refreshPause)
	}
	listed := make(chan error, 1)
	var listing bool
	// busy returns how many requests the server works on that excuse a failed ping.
	busy := func() int64 {
		at := r.running.Load() - r.askings.count() - r.tasks.count()
		if listing {
			at++
		}
		return at
	}

	for {
		select {
		case <-s.gone:
			return
		case <-r.stopping:
			return

		case <-unused:
			if r.total.Load() == 0 {
				r.stop("its session was for one call, which did not come", time.Now())
			}

		case <-next.C:
			health.tick(replies())
			running, unanswered, pinging = busy(), r.ongoing.Load()-r.askings.count()-r.tasks.count(), true
			last := health.last()
			tasks.Go(func() { pinged <- s.conn.Check(ctx, health.plan.Timeout, last) })
		case err := <-pinged:
			pinging = false
			health.pinged(err, running, busy(), unanswered, replies())
			r.reportHealth(health)
			next.Reset(health.pause())
		case <-r.late:
			if health.timedOut(int(r.timeouts.Swap(0)), replies()); health.suspect() && !pinging {
				next.Reset(0)
			}

		case <-r.changed:
			if refresh == nil {
				refresh = time.After(refreshPause)
			}
		case <-refresh:
			if listing { // its result may be old already
				refresh = time.After(refreshPause)
				break
			}
			refresh, listing = nil, true
			tasks.Go(func() { listed <- r.refresh(ctx, s) })
		case err := <-listed:
			listing = false
			if err != nil {
				r.log.Warn("tools not listed again", "err", err)
			}
			if refresh == nil && s.lists != nil && s.lists.anyDue() {
				refresh = time.After(refreshRetry)
			}
		}
	}
}

// reportHealth reports a change of health.
func (r *replica) reportHealth(v *vitals) {
	changed := false
	r.board.edit(r.order.ID, fleet.PhaseReady, func(rep *fleet.Replica) bool {
		if changed = rep.Unhealthy != v.unhealthy; changed {
			rep.Unhealthy, rep.Reason = v.unhealthy, v.reason()
		}
		return changed
	})
	switch {
	case changed && v.unhealthy:
		r.log.Warn("replica unhealthy", "reason", v.reason())
	case changed:
		r.log.Info("replica healthy again")
	}
}

// refresh lists again what may have changed, or has not been listed yet.
func (r *replica) refresh(ctx context.Context, s *session) error {
	if r.order.Raw {
		return nil // what it offers is between the server and its session
	}
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	s.lists.change(r.relist.Swap(0))
	err := s.lists.update(ctx, s.conn, 0, r.log)
	if catalogue := s.lists.catalogue(); r.board.offer(r.order.ID, catalogue) {
		r.log.Info("catalogue changed", "tools", len(catalogue.Tools), "resources", len(catalogue.Resources),
			"templates", len(catalogue.Templates), "prompts", len(catalogue.Prompts))
	}
	return err
}
