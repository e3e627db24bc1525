package route

import (
	"context"
	"fmt"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	// skipFor is how long a replica that refused a call is passed over, unless
	// the view changes earlier. Usually it is stopping, and the report of that is
	// still on its way.
	skipFor = time.Second
	// tryAgainAfter is how long a call that only the replica that refused it could
	// take waits for the view to change before it tries that replica again.
	tryAgainAfter = 100 * time.Millisecond
	// queuedEvery is how often a call that waits hears of it.
	queuedEvery = time.Second
)

// want is what a call requires of its replica.
type want struct {
	tool    string
	session fleet.SessionID
	replica fleet.ReplicaID // the only one that it may go to, now; "": any
	blocks  bool            // its answer may well take as long as its task
	last    refusal
	old     bool                         // a replica of the canary has not answered it: see Canary
	front   bool                         // it goes to the front of the queue
	suspect *suspect                     // it needs the replica to itself; nil for most
	queued  func(before int, why string) // fleet.Call.Queued
}

// refusal says which replica did not take a call, and in which view.
type refusal struct {
	by          *replica // nil: the call is new
	view        uint64
	undelivered *attempt // nil: it may have arrived
}

// acquire gets a slot for a call, if need be from the queue. A new call waits at
// its end. One that was sent before and reached no server waits at its front.
// acquire returns early when ctx ends.
func (s *server) acquire(ctx context.Context, c *want) (*attempt, error) {
	s.mu.Lock()
	if c.replica != "" {
		a, err := s.takeTask(c)
		s.mu.Unlock()
		return a, err
	}
	retry, avoid := c.last.by != nil, s.refused(c.last)
	c.old = c.old || retry && c.last.by.canary
	err := s.checkSession(c.session)
	if err == nil {
		err = s.down()
	}
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	if c.suspect == nil && (c.front || s.queue.length == 0 || c.session != "") {
		if r := s.pick(avoid, c.tool, c.session, c.old); r != nil {
			a := s.take(r)
			s.mu.Unlock()
			return a, nil
		}
	}
	if c.suspect == nil && !retry && s.isFull() {
		err := s.overloaded()
		s.mu.Unlock()
		return nil, err
	}
	w := &waiter{ready: make(chan struct{}), avoid: avoid, tool: c.tool, session: c.session, old: c.old, suspect: c.suspect}
	again := time.Duration(0) // when to try again without any event
	switch {
	case c.suspect != nil:
		again = suspectRetry
	case avoid != nil:
		again = tryAgainAfter
	case s.uneven:
		again = skipFor
	}
	if !c.front {
		s.lastSeq++
		w.seq = s.lastSeq
	}
	switch {
	case c.suspect != nil:
		if err := s.enqueueSuspect(w); err != nil {
			s.mu.Unlock()
			return nil, err
		}
		s.drain()
	case c.front:
		s.queue.pushFront(w)
	default:
		s.queue.pushBack(w)
		s.drain() // all calls in front may be avoiding the free replica
	}
	s.postIfWanted()
	s.mu.Unlock()
	return s.wait(ctx, w, again, c.queued)
}

// refused records that a replica did not take a call. It returns the replica to
// avoid, or nil if the view has changed since. It needs s.mu held.
func (s *server) refused(last refusal) (avoid *replica) {
	r := last.by
	if r == nil {
		return nil
	}
	if a := last.undelivered; a != nil {
		if r.since.After(a.before.since) && a.before.level != answers {
			r.silence = a.before // its worker answered, not the replica itself
		}
	}
	if last.view != s.view {
		return nil
	}
	r.skipUntil, s.uneven = time.Now().Add(skipFor), true
	return r
}

func (s *server) wait(ctx context.Context, w *waiter, again time.Duration, queued func(before int, why string)) (*attempt, error) {
	var timer *time.Timer
	var look <-chan time.Time
	if again > 0 {
		timer = time.NewTimer(again)
		defer timer.Stop()
		look = timer.C
	}
	var second <-chan time.Time
	if queued != nil {
		ticker := time.NewTicker(queuedEvery)
		defer ticker.Stop()
		second = ticker.C
	}
	for {
		select {
		case <-w.ready:
			return w.attempt, w.err
		case <-second:
			s.mu.Lock()
			before, why := s.queue.before(w), s.limits.Pending
			if len(s.replicas) > 0 {
				why = ""
			}
			s.mu.Unlock()
			queued(before, why)
		case <-look:
			s.mu.Lock()
			w.avoid = nil
			s.drain()
			s.mu.Unlock()
			timer.Reset(skipFor)
		case <-ctx.Done():
			s.mu.Lock()
			switch {
			case !w.queued:
			case w.suspect != nil:
				s.dequeueSuspect(w)
				s.drain() // its replica may go to another
			default:
				s.queue.remove(w)
			}
			s.mu.Unlock()
			if w.attempt != nil {
				w.attempt.released(-1) // it got a slot at the same moment
			}
			return nil, context.Cause(ctx)
		}
	}
}

// isFull reports whether a call that gets no slot at once is refused.
func (s *server) isFull() bool { return s.queue.length+s.awaiting.length >= s.limits.MaxQueued }

// overloadedError is an ErrOverloaded that knows when to try again.
type overloadedError struct {
	error
	after time.Duration
}

func (e *overloadedError) Unwrap() error             { return e.error }
func (e *overloadedError) RetryAfter() time.Duration { return e.after }

// overloaded returns the error of a call that finds the queue full. It estimates
// when the queue, as it is now, will be empty.
func (s *server) overloaded() error {
	slots := max(1, len(s.replicas)*max(1, s.limits.MaxOngoing))
	waiting := s.queue.length + s.awaiting.length
	after := s.held * time.Duration(waiting+1) / time.Duration(slots)
	return &overloadedError{
		error: fmt.Errorf("server %q: %w: %d calls are waiting", s.name, fleet.ErrOverloaded, waiting),
		after: min(max(after, time.Second), time.Minute),
	}
}
