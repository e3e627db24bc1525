package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// keepFrom is how long a call lasts at least for its messages to be kept after its end,
// unless there were messages before the reply or the controller wants it.
const keepFrom = 50 * time.Millisecond

// stream has the messages of one call to its client, or those of a session that belong to
// no call. They go to the call's caller, until it gives the call up or a reader comes, and
// to one reader at a time. A call without either is cancelled when the window has passed.
type stream struct {
	streams *streams
	id      fleet.StreamID
	owner   string
	window  time.Duration
	timeout time.Duration // of a call without a caller, from its last progress; 0: none
	limit   time.Duration // and from its beginning
	keep    bool
	once    bool // the session of the call's replica has only this call
	began   time.Time
	// ofSession is set for the stream of a session, which lasts until close.
	ofSession bool

	mu        sync.Mutex
	log       messageLog
	caller    func(fleet.CallEvent) // gets all events; nil when it has gone, and for a session
	left      func(fleet.CallEvent) // a caller that has gone gets the call's release
	cancel    func(timeout bool, reason string)
	answer    func(fleet.Answer) error // nil for a call whose client is not asked
	cancelled string                   // why the call is to be cancelled as soon as cancel is set; "" if it is not
	reader    *reader
	sent      uint64      // the last message that a reader was sent
	claimed   uint64      // no reader may claim this place or an earlier one
	unread    time.Time   // since when there has been neither a caller nor a reader
	progress  time.Time   // the call's last progress
	waiting   int         // requests that wait for an answer of the client
	alarm     *time.Timer // set while the call runs without its caller
	expired   bool        // cancelled because nobody has read it
	done      bool        // the call or the session has ended
	gone      bool        // the messages are not kept any more

	// Under streams.mu.
	size  int       // that was counted
	until time.Time // when a finished one is forgotten
	place *place    // among the finished ones
}

// reader is one ReadStream.
type reader struct {
	look  chan struct{} // the stream has changed
	taken chan struct{} // closed when another reader has come
}

func newStream(ss *streams, id fleet.StreamID, owner string, window time.Duration) *stream {
	now := time.Now()
	return &stream{
		streams: ss, id: id, owner: owner, window: cmp.Or(window, fleet.DefaultWindow), began: now, progress: now, unread: now,
	}
}

// asks sets who takes the client's answers.
func (st *stream) asks(answer func(fleet.Answer) error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.answer = answer
}

// begun sets how the call is cancelled, at once if that was wanted already.
func (st *stream) begun(cancel func(timeout bool, reason string)) {
	st.mu.Lock()
	st.cancel = cancel
	reason := st.cancelled
	st.mu.Unlock()
	if reason != "" {
		cancel(false, reason)
	}
}

// cancelCall cancels the call unless it has ended.
func (st *stream) cancelCall(timeout bool, reason string) {
	st.mu.Lock()
	st.cancelled = reason
	cancel := st.cancel
	if st.done {
		cancel = nil
	}
	st.mu.Unlock()
	if cancel != nil {
		cancel(timeout, reason)
	}
}

// event takes an event of the call, keeps what is a message, and passes it on.
func (st *stream) event(e fleet.CallEvent) { st.take(e) }

// take is event. It reports false for an event that comes too late.
func (st *stream) take(e fleet.CallEvent) bool {
	st.mu.Lock()
	if st.done && e.Kind != fleet.CallReleased {
		st.mu.Unlock()
		return false
	}
	var victims []*stream
	switch e.Kind {
	case fleet.CallNotification:
		e.Seq, victims = st.add(fleet.Message{Kind: fleet.MessageNotification, Method: e.Method, Params: e.Params})
	case fleet.CallAsk:
		st.waiting++
		e.Seq, victims = st.add(fleet.Message{Kind: fleet.MessageRequest, ID: e.ID, Method: e.Method, Params: e.Params})
	case fleet.CallResumed:
		st.waiting, st.progress = 0, time.Now()
	case fleet.CallProgress:
		st.progress = time.Now()
	case fleet.CallReply:
		e.Seq, victims = st.finish(fleet.Message{Kind: fleet.MessageReply, Result: e.Result, Error: e.Error, Err: e.Err})
	case fleet.CallReleased:
	}
	to := st.caller
	if to != nil && e.Kind == fleet.CallReply {
		st.caller, st.left = nil, to
	}
	if to == nil && e.Kind == fleet.CallReply && !e.Holding {
		if e.Free != nil {
			e.Free()
		}
		e = fleet.CallEvent{Kind: fleet.CallReleased, Ongoing: e.Ongoing}
	}
	if to == nil && e.Kind == fleet.CallReleased {
		to = st.left
	}
	st.mu.Unlock()
	if to != nil {
		to(e)
	}
	evict(victims)
	return true
}

// add keeps a message and wakes the reader. It needs the lock. The caller unlocks it and
// evicts the victims.
func (st *stream) add(m fleet.Message) (seq uint64, victims []*stream) {
	seq = st.log.add(m)
	victims, over := st.streams.resize(st, st.log.bytes)
	if over > 0 {
		st.log.shrink(over)
		st.streams.shrunk(st, st.log.bytes)
	}
	st.wake()
	return seq, victims
}

// finish adds the reply, if the stream is to be kept, or forgets the stream. It needs the
// lock, as add.
func (st *stream) finish(reply fleet.Message) (seq uint64, victims []*stream) {
	st.done = true
	if st.alarm != nil {
		st.alarm.Stop()
	}
	if !st.isKept(&reply) {
		st.gone = true
		st.streams.forget(st)
		st.wake()
		return st.log.number(), nil
	}
	seq, victims = st.add(reply)
	st.streams.finished(st)
	return seq, victims
}

// isKept reports whether the messages of a call that has just ended are kept. It needs
// the lock.
func (st *stream) isKept(reply *fleet.Message) bool {
	if st.expired || errors.Is(reply.Err, fleet.ErrNotDelivered) {
		return false
	}
	return st.keep || st.caller == nil || st.log.last > 0 || time.Since(st.began) >= keepFrom
}

// answered drops a request that has its answer. It returns true if it was the last that
// the call waited for.
func (st *stream) answered(id []byte) (last bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.log.removeRequest(id)
	st.streams.shrunk(st, st.log.bytes)
	st.waiting = max(0, st.waiting-1)
	return st.waiting == 0
}

// isReplaced reports whether another stream took the place of this one before it got its
// reply, because the call was sent again.
func (st *stream) isReplaced() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.gone
}

// giveUp is called when the caller gives up. The call runs on unless its deadline passed.
func (st *stream) giveUp(timeout bool) {
	if timeout {
		st.cancelCall(true, "the call timed out")
		return
	}
	st.mu.Lock()
	if st.caller == nil || st.done {
		st.mu.Unlock()
		return
	}
	st.caller, st.left = nil, st.caller
	st.abandoned()
}

// abandoned begins the time in which a call has neither a caller nor a reader. The client
// of a call in a session of its own can come back only for what the call asked. It needs
// the lock, and gives it up.
func (st *stream) abandoned() {
	st.unread = time.Now()
	stop := st.once && st.waiting == 0
	if stop {
		st.expired = true
	} else {
		st.arm()
	}
	st.mu.Unlock()
	if stop {
		st.cancelCall(false, callerLeft)
	}
}

// join makes a new reader the only one who gets the messages.
func (st *stream) join(after uint64, claim bool) (*reader, error) {
	st.mu.Lock()
	switch {
	case st.gone:
		st.mu.Unlock()
		return nil, unknownStream(st.id)
	case claim && after <= st.claimed:
		st.mu.Unlock()
		return nil, fmt.Errorf("stream %s, message %d: %w", st.id, after, fleet.ErrClaimed)
	case claim:
		st.claimed = after
	}
	rd := &reader{look: make(chan struct{}, 1), taken: make(chan struct{})}
	if st.reader != nil {
		close(st.reader.taken)
	}
	st.reader = rd
	caller := st.caller
	if caller != nil {
		st.caller, st.left = nil, caller
	}
	if !st.done {
		st.arm()
	}
	if caller != nil { // with the lock, so that the call's release comes after it
		caller(fleet.CallEvent{Kind: fleet.CallReply, Err: fleet.ErrStreamTaken, Holding: true})
	}
	st.mu.Unlock()
	return rd, nil
}

// quit is called when a reader has ended.
func (st *stream) quit(rd *reader) {
	st.mu.Lock()
	if st.reader != rd {
		st.mu.Unlock()
		return
	}
	st.reader = nil
	if !st.gone && !st.done {
		st.abandoned()
		return
	}
	st.unread = time.Now()
	if !st.gone {
		st.streams.finished(st)
	}
	st.mu.Unlock()
}

// read passes messages on until there are no more.
func (st *stream) read(ctx context.Context, r fleet.ReadRequest, stopped <-chan struct{}, send func([]fleet.Message) error) error {
	rd, err := st.join(r.After, r.Claim)
	if err != nil {
		return err
	}
	defer st.quit(rd)
	if err := send(nil); err != nil {
		return err
	}
	after := r.After
	if r.Unread {
		after = st.lastSent()
	}
	for {
		messages, over, err := st.since(rd, after)
		if err != nil {
			return err
		}
		if n := len(messages); n > 0 {
			if err := send(messages); err != nil {
				return err
			}
			after = messages[n-1].Seq
			st.sentTo(after)
		}
		if over {
			return nil
		}
		select {
		case <-rd.look:
		case <-rd.taken:
			return fleet.ErrStreamTaken
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-stopped:
			return fleet.ErrDraining
		}
	}
}

// since returns the messages after this one, and whether they are the last.
func (st *stream) since(rd *reader, after uint64) (messages []fleet.Message, over bool, err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case st.reader != rd:
		return nil, false, fleet.ErrStreamTaken
	case st.gone:
		return nil, false, unknownStream(st.id)
	}
	return st.log.after(after), st.done, nil
}

func (st *stream) lastSent() uint64 {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.sent
}

func (st *stream) sentTo(seq uint64) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.sent = max(st.sent, seq)
}

// wake wakes the reader. It needs the lock.
func (st *stream) wake() {
	if st.reader != nil {
		notify(st.reader.look)
	}
}

// close ends the stream of a session. Its reader still gets what there is.
func (st *stream) close() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.done = true
	st.streams.forget(st)
	st.wake()
}

// drop forgets the messages of a stream that was taken off streams, and returns the number
// of the last one.
func (st *stream) drop() uint64 {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.gone, st.log.messages, st.log.bytes = true, nil, 0
	st.wake()
	return st.log.last
}
