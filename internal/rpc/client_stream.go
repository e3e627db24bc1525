package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// maxSpare is how many streams are kept for calls with large arguments.
const maxSpare = 4

// callStream is the controller's side of one Calls stream. The goroutine of run
// opens it and sends the queue, and another one receives.
type callStream struct {
	// putBack keeps or ends a stream whose only call is over. It is nil for the
	// streams that calls share.
	putBack func(*callStream)
	cancel  context.CancelCauseFunc
	wake    chan struct{} // the queue has changed
	broken  atomic.Bool   // takes no more calls

	mu      sync.Mutex
	cs      grpc.ClientStream // nil until open
	calls   map[uint64]*pending
	queue   []queuedCommand
	sending bool   // somebody is in cs.SendMsg
	sent    uint64 // bytes handed to gRPC
	acked   uint64 // of those, the bytes that have certainly arrived
	handed  uint64 // calls handed to gRPC
	taken   uint64 // of those, the calls that the worker may have taken
	ended   bool
	cause   error
}

// pending is a call that waits for its events.
type pending struct {
	id    uint64
	hooks fleet.CallHooks
	buf   parts         // the command, until it is sent
	done  chan outcome  // capacity 1: one outcome, unless the call was abandoned
	state deliveryState // guarded by the stream's mutex, as are mark and nth
	mark  uint64        // where in the stream the command ended
	nth   uint64        // of the stream's calls
}

type deliveryState uint8

const (
	queued    deliveryState = iota // certainly not delivered
	handed                         // perhaps delivered
	abandoned                      // cancelled: the slot is still held, but no caller waits
)

// outcome is how a call ended.
type outcome struct {
	event
	err      error // instead of a reply
	reusable bool  // nothing else refers to the pending
}

func newPending() *pending { return &pending{done: make(chan outcome, 1)} }

// newStream starts a stream; it opens in the background.
func (c *Client) newStream(putBack func(*callStream)) (*callStream, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	s := &callStream{putBack: putBack, cancel: cancel, wake: make(chan struct{}, 1), calls: make(map[uint64]*pending), taken: math.MaxUint64}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		cancel(nil)
		return nil, errClosed
	}
	c.open[s] = struct{}{}
	c.running.Go(func() {
		s.run(ctx, c)
		c.forget(s)
	})
	return s, nil
}

// ownStream returns a stream for one call with large arguments.
func (c *Client) ownStream() (*callStream, error) {
	c.mu.Lock()
	for n := len(c.spare); n > 0; n = len(c.spare) {
		s := c.spare[n-1]
		c.spare = c.spare[:n-1]
		if !s.broken.Load() {
			c.mu.Unlock()
			return s, nil
		}
	}
	c.mu.Unlock()
	return c.newStream(c.keepStream)
}

// keepStream keeps a stream, whose call is over, for the next call with large
// arguments, or ends it.
func (c *Client) keepStream(s *callStream) {
	c.mu.Lock()
	keep := len(c.spare) < maxSpare && !c.closing && !s.broken.Load()
	if keep {
		c.spare = append(c.spare, s)
	}
	c.mu.Unlock()
	if !keep {
		s.end(nil)
	}
}

// callOver is called once for each call, when nothing more of it will come or
// be sent on its stream.
func (s *callStream) callOver() {
	if s.putBack != nil {
		s.putBack(s)
	}
}

// stream returns the stream of the lane for a command of so many bytes, a new one
// if the old one is broken. Few calls use few lanes, and so share messages and
// wake-ups. Longer arguments use the last lane, out of the way of short ones.
func (c *Client) stream(size int) (*callStream, error) {
	used := min(int(c.calls.Load())/callsPerLane+1, len(c.lanes))
	i := int(c.turn.Add(1) % uint32(used))
	if size > directBytes {
		i = len(c.lanes) - 1
	}
	l := &c.lanes[i]
	if s := l.cur.Load(); s != nil && !s.broken.Load() {
		return s, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.cur.Load(); s != nil && !s.broken.Load() {
		return s, nil
	}
	s, err := c.newStream(nil)
	if err == nil {
		l.cur.Store(s)
	}
	return s, err
}

// run opens the stream, sends the queue, and returns when all is over.
func (s *callStream) run(ctx context.Context, c *Client) {
	cs, err := c.pb.Calls(ctx)
	if err != nil {
		s.end(fromStatus(ctx, "connect to worker "+c.addr, err))
		return
	}
	s.mu.Lock()
	s.cs = cs
	s.mu.Unlock()
	var receiver sync.WaitGroup
	receiver.Go(func() {
		err := s.receive(cs)
		s.recordTaken(cs.Trailer())
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("worker %s ended the stream", c.addr)
		} else {
			err = fromStatus(ctx, "worker "+c.addr, err)
		}
		s.end(err)
	})
	var ids []uint64
	for {
		for ids = ids[:0]; s.send(batchBytes, &ids); ids = ids[:0] {
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			receiver.Wait()
			return
		}
	}
}

// abandon gives a call up whose caller has stopped waiting. It reports true if the
// outcome has come meanwhile. Otherwise there will be no outcome, and Released
// follows or has been called.
func (s *callStream) abandon(p *pending, timeout bool) (resolved bool) {
	s.mu.Lock()
	if s.calls[p.id] != p {
		s.mu.Unlock()
		return true
	}
	if p.state == queued {
		delete(s.calls, p.id)
		s.unqueue(p.id)
		s.mu.Unlock()
		if p.hooks.Released != nil {
			p.hooks.Released(-1)
		}
		s.callOver()
		return false
	}
	p.state = abandoned
	s.queue = append(s.queue, queuedCommand{0, encodeCancel(p.id, timeout)})
	s.mu.Unlock()
	s.notify()
	return false
}

// discard tells the worker that a large result will not be fetched.
func (s *callStream) discard(id uint64) {
	s.mu.Lock()
	if !s.ended {
		s.queue = append(s.queue, queuedCommand{0, encodeCancel(id, false)})
	}
	s.mu.Unlock()
	s.notify()
}

func (s *callStream) receive(cs grpc.ClientStream) error {
	var batch events
	for {
		if err := cs.RecvMsg(&batch); err != nil {
			return err
		}
		for i := range batch {
			s.handle(&batch[i])
			batch[i] = event{}
		}
	}
}

// recordTaken records how many calls a worker took that has stopped in order.
func (s *callStream) recordTaken(trailer metadata.MD) {
	for _, v := range trailer.Get(takenKey) {
		if n, err := strconv.ParseUint(v, 10, 64); err == nil {
			s.mu.Lock()
			s.taken = n
			s.mu.Unlock()
		}
	}
}

// handle processes one event. It calls hooks without the lock.
func (s *callStream) handle(e *event) {
	s.mu.Lock()
	p := s.calls[e.id]
	if p == nil {
		s.mu.Unlock()
		return
	}
	if p.mark > s.acked {
		s.acked = p.mark
	}
	// Unless this is the last event, Fail may end the call as soon as the lock is
	// free, and p may be reused.
	hooks := p.hooks
	waited := p.state != abandoned
	last := e.kind == fleet.CallReleased || e.kind == fleet.CallReply && !e.holding
	switch {
	case last:
		delete(s.calls, e.id)
	case e.kind == fleet.CallReply:
		p.state = abandoned // the worker cancelled it: Released follows
	}
	s.mu.Unlock()

	switch e.kind {
	case fleet.CallProgress:
		if waited && hooks.Progress != nil {
			hooks.Progress()
		}
		return
	case fleet.CallNotification, fleet.CallAsk, fleet.CallResumed:
		if waited {
			e.pass(&hooks)
		}
		return
	}
	if last && hooks.Released != nil {
		hooks.Released(e.ongoing)
	}
	large := e.large != nil
	if waited {
		out := outcome{event: *e, reusable: last}
		if e.kind == fleet.CallReleased {
			out.err = fmt.Errorf("%w: its slot was released without a reply", fleet.ErrReplicaLost)
		}
		p.done <- out // the last use of p, which may be reused now
	}
	if last && !(waited && large) { // else the caller fetches the result first
		s.callOver()
	}
}

// pass calls the hooks for a message.
func (e *event) pass(hooks *fleet.CallHooks) {
	if hooks.Waiting != nil && e.kind != fleet.CallNotification {
		hooks.Waiting(e.kind == fleet.CallAsk)
	}
	switch {
	case e.note == nil:
	case hooks.Message != nil:
		m := fleet.Message{Seq: e.seq, Kind: fleet.MessageNotification, Method: e.note.method, ID: e.note.id, Params: e.note.params}
		if e.kind == fleet.CallAsk {
			m.Kind = fleet.MessageRequest
		}
		hooks.Message(m)
	case hooks.Notification != nil && e.kind == fleet.CallNotification:
		hooks.Notification(e.note.method, e.note.params)
	}
}

// end ends the stream. Calls on it fail with the given cause, once no goroutine is
// sending any more: only then is it known which calls were handed over.
func (s *callStream) end(cause error) {
	s.broken.Store(true)
	s.cancel(cause)
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return
	}
	s.ended, s.cause = true, cause
	if s.sending {
		s.mu.Unlock() // sentAll finishes; the cancelled context makes it soon
		return
	}
	s.finish()
}

// finish fails all remaining calls. s.mu is held, and finish unlocks it.
func (s *callStream) finish() {
	calls, queue, taken, cause := s.calls, s.queue, s.taken, s.cause
	s.calls, s.queue = make(map[uint64]*pending), nil
	s.mu.Unlock()
	for _, q := range queue {
		q.buf.free()
	}
	if cause == nil {
		cause = errClosed
	}
	why := cause.Error() // format, don't wrap: callers must not match the cause
	for _, p := range calls {
		state := p.state // the stream has ended, so nothing else changes it
		if state == handed && p.nth > taken {
			state = queued
		}
		if p.hooks.Released != nil {
			p.hooks.Released(-1)
		}
		switch state {
		case queued:
			p.done <- outcome{err: fmt.Errorf("%w: %s", fleet.ErrNotDelivered, why), reusable: true}
		case handed:
			p.done <- outcome{err: fmt.Errorf("%w: %s", fleet.ErrWorkerLost, why), reusable: true}
		}
	}
}

// notify wakes run.
func (s *callStream) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
