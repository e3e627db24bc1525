package rpc

import (
	"fmt"
	"strconv"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetpb"
)

// batchBytes bounds one message, so that the first of many answers does not wait
// until the last is copied.
const batchBytes = 64 << 10

// takenKey is the trailer with which a worker that stops ends a stream. It says how
// many calls of the stream the worker took, so that the others, which were still
// on their way, are known to be not delivered.
const takenKey = "mcpfleet-calls-taken"

// maxNotes and maxNotesSize bound the notifications of one call that wait to be
// sent.
const (
	maxNotes     = 32
	maxNotesSize = 256 << 10
)

// maxNumbered and maxNumberedSize do so for a call with a stream, which the worker keeps
// as well.
const (
	maxNumbered     = 1000
	maxNumberedSize = 4 << 20
)

// Calls implements the service. One goroutine reads commands, and this one sends
// events. The worker's goroutines only queue events.
func (s *Server) Calls(stream grpc.BidiStreamingServer[fleetpb.CallsRequest, fleetpb.CallsResponse]) error {
	s.calling.RLock()
	defer s.calling.RUnlock()
	c := &callServer{
		worker: s.worker, results: s.results, live: make(map[uint64]*liveCall), held: make(map[uint64]string),
		wake: make(chan struct{}, 1),
	}
	read := make(chan error, 1)
	s.readers.Go(func() { read <- c.read(stream) }) // ends with the stream
	defer c.close()

	stopping := s.stopping
	var batch []queuedEvent
	for {
		var idle bool
		if batch, idle = c.take(batch[:0]); len(batch) > 0 {
			if err := send(stream, batch); err != nil {
				return err
			}
			continue
		}
		if idle && stopping == nil {
			taken, ok := c.closeIfIdle()
			if !ok {
				continue
			}
			stream.SetTrailer(metadata.Pairs(takenKey, strconv.FormatUint(taken, 10)))
			return status.Error(codes.Unavailable, "worker is stopping")
		}
		select {
		case <-c.wake:
		case err := <-read:
			return err
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		case <-stopping:
			stopping = nil
		}
	}
}

// send sends the events as one message and frees them.
func send(stream grpc.ServerStream, batch []queuedEvent) error {
	msg := make(parts, 0, 2*len(batch))
	for i := range batch {
		msg = appendEvent(msg, batch[i].id, &batch[i].CallEvent, batch[i].large)
	}
	err := stream.SendMsg(msg)
	for i := range batch {
		batch[i].release()
		batch[i] = queuedEvent{}
	}
	return err
}

// callServer is the worker's side of one Calls stream.
type callServer struct {
	worker  Worker
	results *results
	wake    chan struct{} // the queue has changed

	mu     sync.Mutex
	live   map[uint64]*liveCall // until their last event
	held   map[uint64]string    // tokens of results that wait to be fetched
	queue  []queuedEvent
	taken  uint64 // calls passed to the worker
	closed bool
}

type liveCall struct {
	trace            fleet.Trace
	cancel           func(timeout bool) // nil until the worker has returned it
	cancelled        bool
	timeout          bool
	progressIsQueued bool   // one at a time: a chatty server fills no memory
	notes            []note // one event in the queue stands for all of them
	notesSize        int
	numbered         int // notifications of a call with a stream that are queued
	numberedSize     int
}

// addNumbered reports whether a notification of a call with a stream may be queued.
// Otherwise its number shows that it is missing.
func (c *liveCall) addNumbered(e *fleet.CallEvent) bool {
	if c.numbered > 0 && (c.numbered == maxNumbered || c.numberedSize+len(e.Params) > maxNumberedSize) {
		return false
	}
	c.numbered++
	c.numberedSize += len(e.Params)
	return true
}

// addNote keeps a notification until it is sent. At the bound of one call, the
// newest replaces the last one.
func (c *liveCall) addNote(n note) {
	last := len(c.notes) - 1
	switch {
	case n.size() > maxNotesSize:
		return
	case last >= 0 && (len(c.notes) == maxNotes || c.notesSize+n.size() > maxNotesSize):
		c.notesSize += n.size() - c.notes[last].size()
		c.notes[last] = n
	default:
		c.notesSize += n.size()
		c.notes = append(c.notes, n)
	}
}

// appendNotes moves the notifications to batch, in place of the event that
// stands for them.
func (c *liveCall) appendNotes(batch []queuedEvent, e *queuedEvent) []queuedEvent {
	for _, n := range c.notes {
		e.Method, e.Params = n.method, n.params
		batch = append(batch, *e)
	}
	c.notes, c.notesSize = nil, 0
	return batch
}

type queuedEvent struct {
	fleet.CallEvent
	id    uint64
	call  *liveCall
	large *fleetpb.Large // instead of the result
}

func (e *queuedEvent) release() {
	if e.Free != nil {
		e.Free()
	}
}

// read executes commands until the stream ends.
func (c *callServer) read(stream grpc.ServerStream) error {
	var cmds commands
	for {
		if err := stream.RecvMsg(&cmds); err != nil {
			return err
		}
		for i := range cmds {
			if cmd := &cmds[i]; cmd.cancel {
				c.cancel(cmd.id, cmd.timeout)
			} else if err := c.start(cmd.id, cmd.req); err != nil {
				return err
			}
			cmds[i] = command{}
		}
	}
}

func (c *callServer) start(id uint64, req fleet.CallRequest) error {
	call := &liveCall{trace: req.Trace}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil // the stream is ending, so the call is not delivered
	}
	if c.live[id] != nil {
		c.mu.Unlock()
		return status.Errorf(codes.InvalidArgument, "call id %d is in use", id)
	}
	c.live[id] = call
	c.taken++
	c.mu.Unlock()

	cancel := c.worker.Call(req, func(e fleet.CallEvent) { c.event(id, call, e) })

	c.mu.Lock()
	call.cancel = cancel
	cancelled, timeout := call.cancelled, call.timeout
	c.mu.Unlock()
	if cancelled { // meanwhile, by the end of the stream
		cancel(timeout)
	}
	return nil
}

// cancel cancels a call, or drops its large result, which will not be fetched.
func (c *callServer) cancel(id uint64, timeout bool) {
	c.mu.Lock()
	token, call := c.held[id], c.live[id]
	var cancel func(bool)
	if call != nil && !call.cancelled {
		call.cancelled, call.timeout = true, timeout
		cancel = call.cancel
	}
	c.mu.Unlock()
	if token != "" {
		c.results.drop(token)
	}
	if cancel != nil {
		cancel(timeout)
	}
}

// event queues an event of a call. It runs on the replica's reader, so it does not
// block.
func (c *callServer) event(id uint64, call *liveCall, e fleet.CallEvent) {
	q := queuedEvent{CallEvent: e, id: id, call: call}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		q.release()
		return
	}
	switch {
	case e.Kind == fleet.CallProgress:
		if call.progressIsQueued || call.cancelled {
			c.mu.Unlock()
			return
		}
		call.progressIsQueued = true
	case e.Kind == fleet.CallNotification && e.Seq > 0:
		if !call.addNumbered(&e) {
			c.mu.Unlock()
			return
		}
	case e.Kind == fleet.CallAsk, e.Kind == fleet.CallResumed:
	case e.Kind == fleet.CallNotification:
		queued := len(call.notes) > 0
		if !call.cancelled {
			call.addNote(note{method: e.Method, params: e.Params})
		}
		if queued || len(call.notes) == 0 {
			c.mu.Unlock()
			return
		}
	case !e.Holding:
		delete(c.live, id)
	}
	if n := max(len(e.Result), len(e.Error)); n > largeBytes && e.Err == nil {
		c.setAside(&q, n)
	}
	c.queue = append(c.queue, q)
	c.mu.Unlock()
	c.notify()
}

// setAside keeps a large reply for FetchResult. c.mu is held.
func (c *callServer) setAside(q *queuedEvent, size int) {
	data, free := q.Result, q.Free
	if data == nil {
		data = q.Error
	}
	q.Result, q.Free = nil, nil
	if q.call.cancelled { // no caller waits for it
		q.Error, q.Err = nil, fmt.Errorf("%w: the call was cancelled", fleet.ErrTimeout)
		if free != nil {
			free()
		}
		return
	}
	token := c.results.put(q.call.trace, data, free, func() {
		c.mu.Lock()
		delete(c.held, q.id)
		c.mu.Unlock()
		c.notify() // this may have been the last
	})
	c.held[q.id] = token
	q.large = &fleetpb.Large{Token: token, Size: int64(size), Error: q.Error != nil}
	q.Error = nil
}

// take moves the next events to be sent to batch. idle means that there were none,
// and that none will come before the next call.
func (c *callServer) take(batch []queuedEvent) (_ []queuedEvent, idle bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, size := 0, 0
	for n < len(c.queue) && size < batchBytes {
		e := &c.queue[n]
		n++
		switch e.Kind {
		case fleet.CallProgress:
			e.call.progressIsQueued = false
		case fleet.CallNotification:
			if e.Seq == 0 {
				size += e.call.notesSize
				batch = e.call.appendNotes(batch, e)
				continue
			}
			e.call.numbered--
			e.call.numberedSize -= len(e.Params)
		}
		size += len(e.Result) + len(e.Error) + len(e.Params) + 32
		batch = append(batch, *e)
	}
	left := copy(c.queue, c.queue[n:])
	clear(c.queue[left:])
	if c.queue = c.queue[:left]; left == 0 && cap(c.queue) > 1024 {
		c.queue = nil // there was a burst
	}
	return batch, n == 0 && c.isIdle()
}

// notify wakes Calls.
func (c *callServer) notify() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// isIdle reports whether there is neither a call, nor an event, nor a result that
// waits to be fetched. c.mu is held.
func (c *callServer) isIdle() bool { return len(c.live)+len(c.queue)+len(c.held) == 0 }

// closeIfIdle takes no more calls if it is idle, and reports whether it did. It
// returns how many calls were taken.
func (c *callServer) closeIfIdle() (taken uint64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = c.isIdle()
	return c.taken, c.closed
}

// close cancels the calls and frees the events that will not be sent.
func (c *callServer) close() {
	c.mu.Lock()
	c.closed = true
	queue := c.queue
	c.queue = nil
	var cancels []func(bool)
	for _, call := range c.live {
		if call.cancelled {
			continue
		}
		call.cancelled = true
		if call.cancel != nil {
			cancels = append(cancels, call.cancel)
		}
	}
	tokens := make([]string, 0, len(c.held))
	for _, t := range c.held {
		tokens = append(tokens, t)
	}
	c.mu.Unlock()
	for i := range queue {
		queue[i].release()
	}
	for _, t := range tokens {
		c.results.drop(t)
	}
	for _, cancel := range cancels {
		cancel(false)
	}
}
