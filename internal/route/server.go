package route

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/schedule"
)

const (
	// A replica that refused a call is passed over for so long, unless the
	// view changes earlier: mostly it is on its way out, and the news of that
	// travel.
	suspectFor = time.Second
	// A call that only its last replica could take waits so long for the view
	// to change before it tries that one again.
	tryAgainAfter = 100 * time.Millisecond
)

// server holds the slots and the queue of one server.
type server struct {
	name    fleet.ServerName
	zone    string
	rnd     func(n int) int
	metrics *serverMetrics

	mu         sync.Mutex
	limits     Server // as last updated; its Replicas are nil
	removed    bool
	view       uint64 // grows when replicas come or go
	replicas   []*replica
	candidates []schedule.Candidate // of replicas, same order
	suspects   bool                 // some replica may be one
	queue      queue
	held       time.Duration // how long a slot is held, on a sliding average
}

// replica is one replica in the view. A replica that leaves the view and comes
// back is another one.
type replica struct {
	id      fleet.ReplicaID
	zone    string
	backend Backend

	// Guarded by the server's mutex.
	index        int // in replicas; -1 when it has left the view
	ongoing      int // slots held by calls from here
	others       int // by calls from elsewhere, as far as known
	reported     int // the last Ongoing in the view
	suspectUntil time.Time
}

func (r *replica) suspect(now time.Time) bool { return now.Before(r.suspectUntil) }

// refusal is why a call is tried again: a replica did not take it, in a view.
type refusal struct {
	by   *replica // nil: the call is new
	view uint64
}

// attempt is one slot held for one call.
type attempt struct {
	server  *server
	replica *replica
	view    uint64
	since   time.Time
	over    bool // guarded by the server's mutex
}

func newServer(name fleet.ServerName, r *Router) *server {
	return &server{name: name, zone: r.zone, rnd: r.rnd, metrics: r.metrics.server(name)}
}

// update takes a new view.
func (s *server) update(v *Server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := make(map[fleet.ReplicaID]*replica, len(s.replicas))
	for _, r := range s.replicas {
		before[r.id] = r
		r.index = -1
	}
	changed := len(s.replicas) != len(v.Replicas)
	s.limits = *v
	s.limits.Replicas = nil
	s.limits.CallTimeout = cmp.Or(v.CallTimeout, fleet.DefaultCallTimeout)
	s.limits.MaxCallDuration = cmp.Or(v.MaxCallDuration, fleet.DefaultMaxCallDuration)
	s.replicas = make([]*replica, 0, len(v.Replicas))
	for i := range v.Replicas {
		in := &v.Replicas[i]
		r := before[in.ID]
		switch {
		case r == nil || r.backend != in.Backend:
			r = &replica{id: in.ID, backend: in.Backend, others: in.Ongoing}
			changed = true
		case r.reported != in.Ongoing:
			// News; else replies have told more since.
			r.others = max(0, in.Ongoing-r.ongoing)
		}
		r.zone, r.reported, r.index = in.Zone, in.Ongoing, len(s.replicas)
		s.replicas = append(s.replicas, r)
	}
	s.candidates = slices.Grow(s.candidates[:0], len(s.replicas))[:len(s.replicas)]
	for _, r := range s.replicas {
		if changed {
			r.suspectUntil = time.Time{}
		}
		s.rank(r)
	}
	if changed {
		s.view++
		s.suspects = false
		for w := s.queue.first; w != nil; w = w.next {
			w.avoid = nil
		}
	}
	s.drain()
}

// remove ends the server: what waits fails.
func (s *server) remove() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removed = true
	for _, r := range s.replicas {
		r.index = -1
	}
	s.replicas, s.candidates = nil, nil
	s.drain()
}

// rank brings a replica's candidate up to date. Only own calls count against
// the limit, so load from elsewhere lifts it as well.
func (s *server) rank(r *replica) {
	c := schedule.Candidate{Load: r.ongoing + r.others, Zone: r.zone}
	if s.limits.MaxOngoing > 0 {
		c.Limit = s.limits.MaxOngoing + r.others
	}
	s.candidates[r.index] = c
}

// acquire gets a slot for a call, waiting in the queue if it must: a new call
// at its end, one that was refused at its front. It returns early when ctx
// ends.
func (s *server) acquire(ctx context.Context, last refusal) (*attempt, error) {
	s.mu.Lock()
	retry, avoid := last.by != nil, last.by
	if retry {
		if last.view != s.view {
			avoid = nil
		} else {
			avoid.suspectUntil, s.suspects = time.Now().Add(suspectFor), true
		}
	}
	if err := s.down(); err != nil {
		s.mu.Unlock()
		return nil, err
	}
	if retry || s.queue.length == 0 {
		if r := s.pick(avoid); r != nil {
			a := s.take(r)
			s.mu.Unlock()
			return a, nil
		}
	}
	if !retry && s.queue.length >= s.limits.MaxQueued {
		err := s.overloaded()
		s.mu.Unlock()
		return nil, err
	}
	w := &waiter{ready: make(chan struct{}), avoid: avoid}
	again := time.Duration(0) // when to look again though nothing was heard
	switch {
	case avoid != nil:
		again = tryAgainAfter
	case s.suspects:
		again = suspectFor
	}
	if retry {
		s.queue.pushFront(w)
	} else {
		s.queue.pushBack(w)
		s.drain() // those in front may all be avoiding the replica that is free
	}
	s.mu.Unlock()
	return s.wait(ctx, w, again)
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
			timer.Reset(suspectFor)
		case <-ctx.Done():
			s.mu.Lock()
			if w.queued {
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

// The functions below need s.mu held.

// down says why waiting for a replica is of no use; nil if it is not so.
func (s *server) down() error {
	switch {
	case s.removed:
		return fmt.Errorf("server %q: %w: it was removed", s.name, fleet.ErrNoReplica)
	case s.limits.Stopped:
		return fmt.Errorf("server %q: %w: scale it up to call it", s.name, fleet.ErrStopped)
	case len(s.replicas) == 0 && s.limits.Down != "":
		return fmt.Errorf("server %q: %w: %s", s.name, fleet.ErrNoReplica, s.limits.Down)
	}
	return nil
}

// drain gives free slots to those that wait, in order. One that avoids a
// replica lets others pass to that one.
func (s *server) drain() {
	if s.queue.length == 0 {
		return
	}
	if err := s.down(); err != nil {
		for w := s.queue.first; w != nil; w = s.queue.first {
			s.queue.remove(w)
			w.err = err
			close(w.ready)
		}
		return
	}
	for w := s.queue.first; w != nil; {
		next := w.next
		if r := s.pick(w.avoid); r != nil {
			s.queue.remove(w)
			w.attempt = s.take(r)
			close(w.ready)
		} else if w.avoid == nil {
			return
		}
		w = next
	}
}

func (s *server) take(r *replica) *attempt {
	r.ongoing++
	s.rank(r)
	return &attempt{server: s, replica: r, view: s.view, since: time.Now()}
}

// pick returns the replica for the next call, or nil when there is no slot.
func (s *server) pick(avoid *replica) *replica {
	if !s.suspects && avoid == nil {
		if i := schedule.Pick(s.candidates, s.zone, s.rnd); i >= 0 {
			return s.replicas[i]
		}
		return nil
	}
	return s.pickAround(avoid)
}

// pickAround passes over replicas that refuse calls, and for a call that was
// refused prefers another worker: its other replicas are likely lost too. If
// suspects are all there is, they are tried, but not by a call that was just
// refused: when a whole worker stops it would use up its tries on all its
// replicas before the news comes.
func (s *server) pickAround(avoid *replica) *replica {
	now := time.Now()
	var good, elsewhere, rest []*replica
	for _, r := range s.replicas {
		switch {
		case r == avoid:
		case r.suspect(now):
			rest = append(rest, r)
		default:
			good = append(good, r)
			if avoid != nil && r.backend != avoid.backend {
				elsewhere = append(elsewhere, r)
			}
		}
	}
	s.suspects = len(rest) > 0 || avoid != nil
	if r := s.pickAmong(elsewhere); r != nil {
		return r
	}
	if len(good) > 0 || avoid != nil {
		return s.pickAmong(good)
	}
	return s.pickAmong(rest)
}

func (s *server) pickAmong(replicas []*replica) *replica {
	candidates := make([]schedule.Candidate, len(replicas))
	for i, r := range replicas {
		candidates[i] = s.candidates[r.index]
	}
	if i := schedule.Pick(candidates, s.zone, s.rnd); i >= 0 {
		return replicas[i]
	}
	return nil
}

// released gives the slot back and takes the worker's word for the replica's
// load: how many calls remain there, -1 if unknown.
func (a *attempt) released(ongoing int) {
	s, r := a.server, a.replica
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.over {
		return
	}
	a.over = true
	r.ongoing--
	s.held += (time.Since(a.since) - s.held) / 8
	if ongoing >= 0 {
		r.others = max(0, ongoing-r.ongoing)
	}
	if r.index >= 0 {
		s.rank(r)
		s.drain()
	}
}

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
