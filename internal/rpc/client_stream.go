package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// directBytes is how much may be on its way, counted up to the last answer,
// for a caller to send its call itself instead of through the queue. gRPC's
// Send blocks only when 64 KiB of a stream have not been written yet, so such
// a send does not block; and it saves a goroutine's wake-up.
const directBytes = 32 << 10

// crowd is how many calls at once are enough for a caller to wait for the others
// that are about to send. With fewer, waiting gains no company.
const crowd = 8

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

type queuedCommand struct {
	id  uint64 // of the call; 0 for a cancel
	buf parts
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

// stream returns the next lane's stream, a new one if the old one is broken.
func (c *Client) stream() (*callStream, error) {
	l := &c.lanes[c.turn.Add(1)%uint32(len(c.lanes))]
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

// send sends the next message, made of what waits in the queue. It reports false
// when there is nothing to send, or somebody else sends.
func (s *callStream) send(limit int, ids *[]uint64) bool {
	s.mu.Lock()
	if s.sending || s.ended || len(s.queue) == 0 {
		s.mu.Unlock()
		return false
	}
	s.sending = true
	msg := s.take(limit, ids)
	s.mu.Unlock()
	s.sentAll(s.cs.SendMsg(msg), *ids...)
	return true
}

// take removes from the queue what goes into the next message, and adds the ids
// of its calls to ids. The caller sends: s.mu is held, and s.sending is set.
func (s *callStream) take(limit int, ids *[]uint64) (msg parts) {
	n, size := 0, 0
	for n < len(s.queue) && (n == 0 || size+s.queue[n].buf.size() <= limit) {
		q := s.queue[n]
		n++
		size += q.buf.size()
		msg = append(msg, q.buf...)
		if p := s.calls[q.id]; p != nil {
			s.handed++
			p.state, p.buf, p.mark, p.nth = handed, nil, s.sent+uint64(size), s.handed
			*ids = append(*ids, q.id)
		}
	}
	left := copy(s.queue, s.queue[n:])
	clear(s.queue[left:])
	s.queue = s.queue[:left]
	s.sent += uint64(size)
	return msg
}

// sentAll is called after every SendMsg. An error means that gRPC took none of
// it.
func (s *callStream) sentAll(err error, ids ...uint64) {
	s.mu.Lock()
	s.sending = false
	if err != nil {
		s.broken.Store(true) // the receiver learns why, and ends the stream
		for _, id := range ids {
			if p := s.calls[id]; p != nil && p.state == handed {
				p.state = queued
			}
		}
	}
	if s.ended {
		s.finish()
		return
	}
	more := len(s.queue) > 0
	s.mu.Unlock()
	if err == nil && more {
		s.notify()
	}
}

// submit sends a call, or queues it. It does not block, and reports false when
// the stream takes no more calls. If crowd is set, other callers are about to
// submit calls too: these get a moment to join the message.
func (s *callStream) submit(p *pending, crowd bool) bool {
	s.mu.Lock()
	if s.broken.Load() || s.ended {
		s.mu.Unlock()
		return false
	}
	s.calls[p.id] = p
	p.state = queued
	s.queue = append(s.queue, queuedCommand{p.id, p.buf})
	sending := s.sending
	if sending || s.cs == nil || len(s.queue) > 1 || s.sent-s.acked+uint64(p.buf.size()) > directBytes {
		s.mu.Unlock()
		if !sending { // else sentAll looks
			s.notify()
		}
		return true
	}
	s.sending = true
	if crowd {
		s.mu.Unlock()
		runtime.Gosched()
		s.mu.Lock()
	}
	var few [8]uint64
	ids := few[:0]
	msg := s.take(directBytes-int(s.sent-s.acked), &ids)
	s.mu.Unlock()
	s.sentAll(s.cs.SendMsg(msg), ids...)
	return true
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

// unqueue removes a call's command. s.mu is held.
func (s *callStream) unqueue(id uint64) {
	for i, q := range s.queue {
		if q.id == id {
			q.buf.free()
			s.queue = append(s.queue[:i], s.queue[i+1:]...)
			return
		}
	}
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
	case fleet.CallNotification:
		if waited && hooks.Notification != nil {
			hooks.Notification(e.note.method, e.note.params)
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
