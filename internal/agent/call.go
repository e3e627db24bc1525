package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/stdio"
)

// progressPeriod is how often the progress of one call is passed on, to move its
// deadline. A server may report progress much more often.
const progressPeriod = 100 * time.Millisecond

// cancelGrace is how long a server has to take in that the only call of its session was
// cancelled, before it is stopped.
const cancelGrace = time.Second

// Call sends a call to a replica and reports its events. The replica's reader, Call
// and cancel call events, which must not block. It is not called twice at once for
// one call, except with progress and notifications.
//
// cancel gives the call up, with timeout if its deadline passed. Without timeout, a call
// with a stream runs on. It may be called at any time, and more than once.
//
// If the replica is unknown, not ready, or draining, the reply is fleet.ErrNotDelivered. A
// draining replica with live tasks still takes calls about tasks. Errors do not name the
// replica, since the router does.
//
// Call starts no goroutine: this is the path of every call.
func (a *Agent) Call(req fleet.CallRequest, events func(fleet.CallEvent)) (cancel func(timeout bool)) {
	r := a.replica(req.Replica)
	if r == nil {
		return undelivered(a.log.With("replica", string(req.Replica)), &req, events, 0, errors.New("its node does not run it"))
	}
	// Counted before open is read, so that a drain that begins now either sees
	// the call or refuses it.
	r.running.Add(1)
	if !r.open.Load() && (!mcp.NamesTask(req.Method) || r.tasks.count() == 0) {
		r.callEnded()
		return undelivered(r.log, &req, events, r.ongoing.Load(), errors.New("it takes no calls"))
	}
	c := &call{r: r, events: events, began: time.Now()}
	c.msg = stdio.Call{
		Method: req.Method, Params: req.Params, NoMeta: req.NoMeta, Trace: req.Trace, Progress: true,
		OnProgress: c.progress, Done: c.done, Released: c.released,
	}
	if req.Notifications || req.Stream.ID != "" {
		c.msg.OnNotification = c.notification
	}
	c.hub = r.hub.Load()
	if req.Stream.ID != "" {
		c.stream = a.streams.begin(&req, c.hub != nil && c.hub.once, events)
		c.events = c.stream.event
	}
	if c.hub != nil {
		c.hub.begin(c.stream)
	}
	var err error
	if req.Logs && c.hub == nil && r.isModern() {
		if c.logs = r.logger.begin(c); !c.logs {
			c.msg.Params, err = mcp.WithoutLogLevel(c.msg.Params) // else nobody could tell whose messages come
		}
	}
	r.ongoing.Add(1)
	if req.Ask && c.stream != nil && mcp.MayRequireInput(req.Method) {
		c.asking = newAsking(c, a.cfg.Node.Life)
	}
	if err == nil {
		err = c.start()
	}
	if err != nil {
		ongoing := r.ongoing.Add(-1)
		c.detach()
		r.callEnded()
		return undelivered(r.log, &req, c.events, ongoing, err)
	}
	r.total.Add(1)
	r.loadNotice.post()
	if c.stream != nil {
		c.stream.begun(c.cancel)
		return c.stream.giveUp
	}
	return func(timeout bool) { c.cancel(timeout, callerLeft) }
}

// callerLeft is the reason of a call's cancellation that servers are told.
const callerLeft = "the caller went away"

// undelivered replies to a call that does not reach the replica. The controller sends
// it elsewhere, so it is logged at debug level.
func undelivered(log *slog.Logger, req *fleet.CallRequest, events func(fleet.CallEvent), ongoing int64, why error) func(bool) {
	log.Debug("call not delivered", req.Trace.Attr(), "method", req.Method, "err", why)
	events(fleet.CallEvent{
		Kind:    fleet.CallReply,
		Err:     fmt.Errorf("%w: %w", fleet.ErrNotDelivered, why),
		Ongoing: int(ongoing),
	})
	return func(bool) {}
}

// call is one call in progress.
type call struct {
	r        *replica
	events   func(fleet.CallEvent)
	stream   *stream // nil if there is none
	asking   *asking // nil if the client is not asked
	hub      *hub    // of the replica's session; nil if it belongs to none
	logs     bool    // it is the replica's logger
	began    time.Time
	msg      stdio.Call
	pending  *stdio.Pending
	timeout  atomic.Bool  // cancelled because the deadline passed
	holding  bool         // cancelled, its slot is held
	last     bool         // cancelled, its session ends when the slot is released
	reported atomic.Int64 // when progress was last passed on
}

// isModern reports whether the server is of the modern era.
func (r *replica) isModern() bool {
	c := r.board.catalogue(r.order.ID)
	return c != nil && c.Era == fleet.EraModern
}

// start sends the call to the server.
func (c *call) start() (err error) {
	if c.asking != nil {
		c.stream.asks(c.asking.answer)
		return c.asking.start(c.msg.Params)
	}
	c.pending, err = c.r.conn.Start(&c.msg)
	return err
}

// cancel cancels the call for this reason, or because its deadline passed.
func (c *call) cancel(timeout bool, reason string) {
	if c.asking != nil {
		c.asking.cancel(timeout, reason)
		return
	}
	c.give(c.pending, timeout, reason)
}

// give gives up the call's request to the server.
func (c *call) give(pending *stdio.Pending, timeout bool, reason string) {
	if timeout {
		c.timeout.Store(true)
		reason = "the call timed out"
	}
	if c.r.conn.Cancel(pending, reason) && timeout {
		c.r.timeouts.Add(1)
		notify(c.r.late)
	}
}

func (c *call) progress() {
	now := time.Now().UnixNano()
	last := c.reported.Load()
	if now-last < int64(progressPeriod) || !c.reported.CompareAndSwap(last, now) {
		return
	}
	c.events(fleet.CallEvent{Kind: fleet.CallProgress, Ongoing: int(c.r.ongoing.Load())})
}

func (c *call) notification(method string, params []byte) {
	c.events(fleet.CallEvent{Kind: fleet.CallNotification, Method: method, Params: params, Ongoing: int(c.r.ongoing.Load())})
}

// detach takes the call off those that get messages of the server which do not name it.
func (c *call) detach() {
	if c.hub != nil {
		c.hub.finish(c.stream)
	}
	if c.logs {
		c.r.logger.finish()
	}
}

// owner returns the owner of the call's stream, "" if it has none.
func (c *call) owner() string {
	if c.stream == nil {
		return ""
	}
	return c.stream.owner
}

func (c *call) done(reply stdio.Reply) {
	c.detach()
	e := fleet.CallEvent{Kind: fleet.CallReply, Result: reply.Result, Error: reply.Error, Free: reply.Release}
	if reply.Err != nil {
		e.Err = c.failure(reply)
	} else {
		c.r.saw(c.msg.Method, c.owner(), c.msg.Params, reply.Result)
	}
	c.holding = reply.Delivered && errors.Is(reply.Err, stdio.ErrCancelled)
	e.Holding = c.holding
	if c.holding {
		e.Ongoing = int(c.r.ongoing.Load())
	} else {
		e.Ongoing = int(c.r.ongoing.Add(-1))
	}
	over := c.hub != nil && c.hub.once && !errors.Is(e.Err, fleet.ErrNotDelivered) && (c.stream == nil || !c.stream.isReplaced())
	took := time.Since(c.began)
	c.r.counts.ended(&e, took)
	c.r.loadNotice.post()
	c.log(e.Err, took)
	c.events(e)
	c.r.callEnded()
	switch {
	case over && c.holding:
		c.last = true
		time.AfterFunc(cancelGrace, c.endSession)
	case over:
		c.endSession()
	}
}

// endSession stops the replica of a session that was for this call.
func (c *call) endSession() { c.r.stop("its session was for one call, which has ended", time.Now()) }

// log logs the end of the call, at debug level unless mcpfleet returns an error.
func (c *call) log(err error, took time.Duration) {
	level := slog.LevelDebug
	if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, fleet.ErrNotDelivered) {
		level = slog.LevelInfo
	}
	ctx := context.Background()
	if !c.r.log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{c.msg.Trace.Attr(), slog.String("method", c.msg.Method), slog.Duration("took", took)}
	if err != nil {
		attrs = append(attrs, slog.Any("err", err))
	}
	c.r.log.LogAttrs(ctx, level, "call ended", attrs...)
}

// released comes after done.
func (c *call) released() {
	if c.last {
		c.endSession()
	}
	if c.holding {
		ongoing := c.r.ongoing.Add(-1)
		c.r.loadNotice.post()
		c.events(fleet.CallEvent{Kind: fleet.CallReleased, Ongoing: int(ongoing)})
	}
}

// failure returns the error of a call as one of package fleet.
func (c *call) failure(reply stdio.Reply) error {
	is := func(target error) bool { return errors.Is(reply.Err, target) }
	switch {
	case is(stdio.ErrCancelled) && c.timeout.Load():
		return fleet.ErrTimeout
	case is(stdio.ErrCancelled):
		return context.Canceled
	case !reply.Delivered:
		return fmt.Errorf("%w: %w", fleet.ErrNotDelivered, reply.Err)
	case is(stdio.ErrReplyTooLarge):
		return fleet.ErrReplyTooLarge
	case is(stdio.ErrNoBuffer):
		return fmt.Errorf("%w: %w", fleet.ErrOverloaded, reply.Err)
	case is(stdio.ErrBadReply):
		return fmt.Errorf("%w: %w", fleet.ErrBadReply, reply.Err)
	default:
		return fmt.Errorf("%w: %w", fleet.ErrReplicaLost, reply.Err)
	}
}
