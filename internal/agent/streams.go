package agent

import (
	"cmp"
	lists "container/list"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// maxStreamsBytes bounds the messages of all streams of the worker. Beyond it the streams
// that ended first go, and then old notifications.
const maxStreamsBytes = 64 << 20

// streamBytes is what a stream without messages counts.
const streamBytes = 512

// place is a stream's place among the finished ones.
type place = lists.Element

// streams has all streams of the worker, by id.
type streams struct {
	mu       sync.Mutex
	byID     map[fleet.StreamID]*stream
	ended    lists.List // of *stream, by the end of their window
	bytes    int        // of those that were counted
	sessions uint64     // how many streams of sessions there were
	stats    fleet.StreamStats
}

func newStreams() *streams { return &streams{byID: map[fleet.StreamID]*stream{}} }

// begin adds the stream of a call. A stream with the same id is of an earlier attempt of
// the same call: it is given up, and its numbers go on. once says that the session of the
// call's replica has only this call.
func (ss *streams) begin(req *fleet.CallRequest, once bool, events func(fleet.CallEvent)) *stream {
	st := newStream(ss, req.Stream.ID, req.Stream.Owner, req.Stream.Window)
	st.timeout, st.limit, st.keep, st.once, st.caller = req.Timeout, req.Limit, req.Stream.Keep, once, events
	if old := ss.put(st); old != nil {
		last := old.drop()
		st.mu.Lock()
		st.log.last = last
		st.mu.Unlock()
		old.cancelCall(false, "the call was sent again")
	}
	return st
}

// firstNumber returns where the numbers of a session's stream begin. They are beyond those
// of all earlier ones, because a session keeps the id of its stream when it moves to another
// replica of the worker.
func (ss *streams) firstNumber() uint64 {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.sessions++
	return (ss.sessions - 1) << 32
}

// put adds a stream, and returns the one that it replaces, or nil.
func (ss *streams) put(st *stream) (old *stream) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if old = ss.byID[st.id]; old != nil {
		ss.remove(old)
	}
	ss.byID[st.id] = st
	return old
}

// find returns the stream if it is the owner's.
func (ss *streams) find(id fleet.StreamID, owner string) (*stream, error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if st := ss.byID[id]; st != nil && st.owner == owner {
		return st, nil
	}
	return nil, unknownStream(id)
}

func unknownStream(id fleet.StreamID) error { return fmt.Errorf("%w %q", fleet.ErrUnknownStream, id) }

// resize counts a stream's bytes. victims were removed to make room, and are dropped by
// the caller without a lock. over is how much too much there still is.
func (ss *streams) resize(st *stream, bytes int) (victims []*stream, over int) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.byID[st.id] != st {
		return nil, 0
	}
	ss.count(st, bytes+streamBytes)
	for e := ss.ended.Front(); e != nil && ss.bytes > maxStreamsBytes; {
		next := e.Next()
		if victim := e.Value.(*stream); victim != st {
			ss.remove(victim)
			ss.stats.Evicted++
			victims = append(victims, victim)
		}
		e = next
	}
	return victims, max(0, ss.bytes-maxStreamsBytes)
}

// shrunk counts the bytes of a stream that has lost messages.
func (ss *streams) shrunk(st *stream, bytes int) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.byID[st.id] == st {
		ss.count(st, bytes+streamBytes)
	}
}

// count needs the lock.
func (ss *streams) count(st *stream, size int) {
	ss.bytes += size - st.size
	st.size = size
}

// finished begins the window of a stream whose call has ended, or begins it again.
func (ss *streams) finished(st *stream) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.byID[st.id] != st {
		return
	}
	st.until = time.Now().Add(st.window)
	if st.place != nil {
		ss.ended.Remove(st.place)
	}
	at := ss.ended.Back()
	for at != nil && at.Value.(*stream).until.After(st.until) {
		at = at.Prev()
	}
	if at == nil {
		st.place = ss.ended.PushFront(st)
	} else {
		st.place = ss.ended.InsertAfter(st, at)
	}
}

// forget removes a stream.
func (ss *streams) forget(st *stream) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.byID[st.id] == st {
		ss.remove(st)
	}
}

// remove needs the lock.
func (ss *streams) remove(st *stream) {
	ss.count(st, 0)
	delete(ss.byID, st.id)
	if st.place != nil {
		ss.ended.Remove(st.place)
		st.place = nil
	}
}

// tidy forgets finished streams whose window has passed.
func (ss *streams) tidy() {
	now := time.Now()
	var over []*stream
	ss.mu.Lock()
	for e := ss.ended.Front(); e != nil && !now.Before(e.Value.(*stream).until); e = ss.ended.Front() {
		st := e.Value.(*stream)
		ss.remove(st)
		over = append(over, st)
	}
	ss.mu.Unlock()
	evict(over)
}

// evict drops the messages of streams that were removed.
func evict(victims []*stream) {
	for _, st := range victims {
		st.drop()
	}
}

func (ss *streams) resumed() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.stats.Resumed++
}

// unattributed counts a message of a server's log that belongs to nobody for sure.
func (ss *streams) unattributed() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.stats.Unattributed++
}

// now returns the stats.
func (ss *streams) now() fleet.StreamStats {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	s := ss.stats
	s.Kept, s.Bytes = len(ss.byID), int64(ss.bytes)
	return s
}

// ReadStream passes the messages of a stream on: those that are kept, then new ones, until
// the reply, another reader, or the end of ctx or of the agent. send is first called
// without messages, when the stream was found.
func (a *Agent) ReadStream(ctx context.Context, r fleet.ReadRequest, send func([]fleet.Message) error) error {
	st, err := a.streams.find(r.Stream, r.Owner)
	if err != nil {
		return err
	}
	return st.read(ctx, r, a.stopped, func(ms []fleet.Message) error {
		if ms == nil {
			a.streams.resumed()
		}
		return send(ms)
	})
}

// CancelCall cancels the call of a stream. It does nothing if the call has ended. The
// server is told the reason; "" leaves the words to the agent.
func (a *Agent) CancelCall(id fleet.StreamID, owner, reason string) error {
	st, err := a.streams.find(id, owner)
	if err != nil {
		return err
	}
	st.cancelCall(false, cmp.Or(reason, "the client cancelled the call"))
	return nil
}

// Answer takes a client's answer to a request on the stream of a call that asks. It fails
// with fleet.ErrNotAsked if nobody waits for it.
func (a *Agent) Answer(answer fleet.Answer) error {
	st, err := a.streams.find(answer.Stream, answer.Owner)
	if err != nil {
		return fmt.Errorf("%w: %w", fleet.ErrNotAsked, err)
	}
	st.mu.Lock()
	take := st.answer
	st.mu.Unlock()
	if take == nil {
		return fleet.ErrNotAsked
	}
	return take(answer)
}
