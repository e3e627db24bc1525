package route

import (
	"context"
	"fmt"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	// A replica that refused a call is passed over for so long, unless the
	// view changes earlier: mostly it is on its way out, and the news of that
	// travel.
	skipFor = time.Second
	// A call that only its last replica could take waits so long for the view
	// to change before it tries that one again.
	tryAgainAfter = 100 * time.Millisecond
)

// want is what a call asks of the replica that it is sent to.
type want struct {
	tool    string
	session fleet.SessionID
	last    refusal
	front   bool     // it goes before those that wait
	suspect *suspect // it must have the replica to itself; nil for most
}

// refusal is why a call is tried again: a replica did not take it, in a view.
type refusal struct {
	by          *replica // nil: the call is new
	view        uint64
	undelivered *attempt // nil: it may have arrived
}

// acquire gets a slot for a call, waiting in the queue if it must: most calls
// at its end, one that reached no server before at its front. It returns early
// when ctx ends.
func (s *server) acquire(ctx context.Context, c *want) (*attempt, error) {
	s.mu.Lock()
	retry, avoid := c.last.by != nil, s.refused(c.last)
	err := s.checkSession(c.session)
	if err == nil {
		err = s.down()
	}
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	if c.suspect == nil && (c.front || s.queue.length == 0) {
		if r := s.pick(avoid, c.tool, c.session); r != nil {
			a := s.take(r)
			s.pinFirst(c.session, a)
			s.mu.Unlock()
			return a, nil
		}
	}
	if c.suspect == nil && !retry && s.isFull() {
		err := s.overloaded()
		s.mu.Unlock()
		return nil, err
	}
	w := &waiter{ready: make(chan struct{}), avoid: avoid, tool: c.tool, session: c.session, suspect: c.suspect}
	again := time.Duration(0) // when to look again though nothing was heard
	switch {
	case c.suspect != nil:
		again = lookForReplica
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
		s.drain() // those in front may all be avoiding the replica that is free
	}
	s.tellWanted()
	s.mu.Unlock()
	return s.wait(ctx, w, again)
}

// refused takes note of what a replica did to a call. It returns the replica
// to avoid, unless the view has changed since. It needs s.mu held.
func (s *server) refused(last refusal) (avoid *replica) {
	r := last.by
	if r == nil {
		return nil
	}
	if a := last.undelivered; a != nil {
		s.unpinFirst(a)
		if r.since.After(a.before.since) && a.before.hush != answers {
			r.silence = a.before // its worker answered, not the replica itself
		}
	}
	if last.view != s.view {
		return nil
	}
	r.skipUntil, s.uneven = time.Now().Add(skipFor), true
	return r
}

func (s *server) wait(ctx context.Context, w *waiter, again time.Duration) (*attempt, error) {
	var timer *time.Timer
	var look <-chan time.Time
	if again > 0 {
		timer = time.NewTimer(again)
		defer timer.Stop()
		look = timer.C
	}
	for {
		select {
		case <-w.ready:
			return w.attempt, w.err
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
				s.drain() // the replica that was kept for it is another's
			default:
				s.queue.remove(w)
			}
			s.mu.Unlock()
			if w.attempt != nil {
				w.attempt.released(-1) // the slot came at the same moment
			}
			return nil, context.Cause(ctx)
		}
	}
}

// isFull reports whether a call that gets no slot at once is refused.
func (s *server) isFull() bool { return s.queue.length >= s.limits.MaxQueued }

// overloadedError tells when to come back.
type overloadedError struct {
	error
	after time.Duration
}

func (e *overloadedError) Unwrap() error             { return e.error }
func (e *overloadedError) RetryAfter() time.Duration { return e.after }

// overloaded estimates when the queue, as it is, will have been worked off.
func (s *server) overloaded() error {
	slots := max(1, len(s.replicas)*max(1, s.limits.MaxOngoing))
	after := s.held * time.Duration(s.queue.length+1) / time.Duration(slots)
	return &overloadedError{
		error: fmt.Errorf("server %q: %w: %d calls are waiting", s.name, fleet.ErrOverloaded, s.queue.length),
		after: min(max(after, time.Second), time.Minute),
	}
}
