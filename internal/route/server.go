package route

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/schedule"
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

// server holds the slots and the queue of one server.
type server struct {
	name    fleet.ServerName
	zone    string
	rnd     func(n int) int
	metrics *serverMetrics
	wanted  func() // is told when the server comes to be wanted

	maxRequest atomic.Int64 // in bytes; 0: no bound

	mu         sync.Mutex
	limits     Server // as last updated; its Replicas are nil
	removed    bool
	view       uint64 // grows when replicas come or go
	replicas   []*replica
	candidates []schedule.Candidate // of replicas, same order
	mixed      bool                 // replicas list different tools
	uneven     bool                 // some replica may be worse than others
	watching   bool                 // a timer will look for silent replicas
	queue      queue
	lastSeq    uint64        // of waiters
	held       time.Duration // how long a slot is held, on a sliding average
	apart      isolation
	deaths     map[fleet.ReplicaID]*death // of which it is not known yet how they came
	blame      blame
}

// replica is one replica in the view. A replica that leaves the view and comes
// back is another one.
type replica struct {
	id      fleet.ReplicaID
	zone    string
	backend Backend

	// Guarded by the server's mutex.
	index     int // in replicas; -1 when it has left the view
	ongoing   int // slots held by calls from here
	others    int // by calls from elsewhere, as far as known
	reported  int // the last Ongoing in the view
	skipUntil time.Time
	silence
	tools *Tools // nil: not known
	death *death // calls were inside when it died
}

func (r *replica) skipped(now time.Time) bool { return now.Before(r.skipUntil) }

// want is what a call asks of the replica that it is sent to.
type want struct {
	tool    string
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

// attempt is one slot held for one call.
type attempt struct {
	server   *server
	replica  *replica
	deadline *deadline
	view     uint64
	since    time.Time

	// Guarded by the server's mutex.
	over     bool
	returned bool    // of one that ran alone: its outcome is known
	before   silence // the replica's, when the call was over

	suspect *suspect // if the call has the replica to itself; not changed after acquire
}

func newServer(name fleet.ServerName, r *Router) *server {
	return &server{name: name, zone: r.zone, rnd: r.rnd, metrics: r.metrics.server(name), wanted: r.wanted}
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
	s.maxRequest.Store(v.MaxRequestBytes)
	s.limits = *v
	s.limits.Replicas = nil
	s.learn(v.Ends)
	s.limits.CallTimeout = cmp.Or(v.CallTimeout, fleet.DefaultCallTimeout)
	s.limits.MaxCallDuration = cmp.Or(v.MaxCallDuration, fleet.DefaultMaxCallDuration)
	s.replicas = make([]*replica, 0, len(v.Replicas))
	for i := range v.Replicas {
		in := &v.Replicas[i]
		r := before[in.ID]
		switch {
		case r == nil || r.backend != in.Backend:
			r = &replica{id: in.ID, backend: in.Backend, others: in.Ongoing, tools: in.Tools}
			changed = true
		case r.reported != in.Ongoing:
			// News; else replies have told more since.
			r.others = max(0, in.Ongoing-r.ongoing)
		}
		changed = changed || r.tools != in.Tools
		r.zone, r.reported, r.tools, r.index = in.Zone, in.Ongoing, in.Tools, len(s.replicas)
		s.replicas = append(s.replicas, r)
	}
	s.candidates = slices.Grow(s.candidates[:0], len(s.replicas))[:len(s.replicas)]
	for _, r := range s.replicas {
		if changed {
			r.skipUntil = time.Time{}
		}
		s.rank(r)
	}
	if r := s.apart.replica; r != nil && r.index < 0 {
		s.endIsolation()
	}
	if changed {
		s.view++
		s.mixed = false
		for _, r := range s.replicas {
			s.mixed = s.mixed || r.tools != s.replicas[0].tools
		}
		s.uneven = s.mixed || slices.ContainsFunc(s.replicas, func(r *replica) bool { return r.hush != answers })
		for _, q := range []*queue{&s.queue, &s.apart.queue} {
			for w := q.first; w != nil; w = w.next {
				w.avoid = nil
			}
		}
	}
	s.drain()
	s.tellWanted()
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
	switch {
	case r == s.apart.replica:
		c.Load, c.Limit = 1, 1 // full, to all but the suspect that it is kept for
	case s.limits.MaxOngoing > 0:
		c.Limit = s.limits.MaxOngoing + r.others
	}
	s.candidates[r.index] = c
}

// acquire gets a slot for a call, waiting in the queue if it must: most calls
// at its end, one that reached no server before at its front. It returns early
// when ctx ends.
func (s *server) acquire(ctx context.Context, c *want) (*attempt, error) {
	s.mu.Lock()
	retry, avoid := c.last.by != nil, s.refused(c.last)
	if err := s.down(); err != nil {
		s.mu.Unlock()
		return nil, err
	}
	if c.suspect == nil && (c.front || s.queue.length == 0) {
		if r := s.pick(avoid, c.tool); r != nil {
			a := s.take(r)
			s.mu.Unlock()
			return a, nil
		}
	}
	if c.suspect == nil && !retry && s.queue.length >= s.limits.MaxQueued {
		err := s.overloaded()
		s.mu.Unlock()
		return nil, err
	}
	w := &waiter{ready: make(chan struct{}), avoid: avoid, tool: c.tool, suspect: c.suspect}
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
	if a := last.undelivered; a != nil && r.since.After(a.before.since) && a.before.hush != answers {
		r.silence = a.before // its worker answered, not the replica itself
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

// isWanted reports whether calls wait while replicas rest.
func (s *server) isWanted() bool {
	return s.limits.Resting && !s.removed && s.queue.length+s.apart.queue.length > 0
}

func (s *server) tellWanted() {
	if s.isWanted() {
		s.wanted()
	}
}

// drain gives free slots to those that wait, in order. One that avoids a
// replica, or needs a tool, lets others pass.
func (s *server) drain() {
	if s.queue.length == 0 && s.apart.queue.length == 0 && s.apart.replica == nil {
		return
	}
	if err := s.down(); err != nil {
		for w := s.apart.queue.first; w != nil; w = s.apart.queue.first {
			s.dequeueSuspect(w)
			w.err = err
			close(w.ready)
		}
		for w := s.queue.first; w != nil; w = s.queue.first {
			s.queue.remove(w)
			w.err = err
			close(w.ready)
		}
		return
	}
	s.drainQueue()
	if s.isolate() {
		s.drainQueue()
	}
}

func (s *server) drainQueue() {
	for w := s.queue.first; w != nil; {
		next := w.next
		if r := s.pick(w.avoid, w.tool); r != nil {
			s.queue.remove(w)
			w.attempt = s.take(r)
			close(w.ready)
		} else if w.avoid == nil && !s.mixed {
			return
		}
		w = next
	}
}

func (s *server) take(r *replica) *attempt {
	now := time.Now()
	if r.ongoing == 0 {
		r.silence = silence{since: now}
	}
	r.ongoing++
	s.rank(r)
	if r.ongoing >= silentCalls && !s.watching {
		s.watch()
	}
	return &attempt{server: s, replica: r, view: s.view, since: now}
}

// pick returns the replica for the next call, or nil when there is no slot.
func (s *server) pick(avoid *replica, tool string) *replica {
	if !s.uneven && avoid == nil {
		if i := schedule.Pick(s.candidates, s.zone, s.rnd); i >= 0 {
			return s.replicas[i]
		}
		return nil
	}
	return s.pickAround(avoid, tool)
}

// pickAround passes over replicas that do not list the tool, refuse calls, or
// answer nothing, and for a call that was refused prefers another worker: its
// other replicas are likely lost too. Replicas that are only silent are used
// when the others are full: they may be just slow. Those that refuse or are
// deaf are tried if they are all there is, but not by a call that was just
// refused: when a whole worker stops it would use up its tries on all its
// replicas before the news comes.
func (s *server) pickAround(avoid *replica, tool string) *replica {
	now := time.Now()
	var good, elsewhere, quiet, rest []*replica
	uneven := s.mixed || avoid != nil
	for _, r := range s.replicas {
		bad := r.skipped(now) || r.hush == deaf
		uneven = uneven || bad || r.hush != answers
		switch {
		case r == avoid || !s.offers(r, tool):
		case bad:
			rest = append(rest, r)
		case r.hush == silent:
			quiet = append(quiet, r)
		default:
			good = append(good, r)
			if avoid != nil && r.backend != avoid.backend {
				elsewhere = append(elsewhere, r)
			}
		}
	}
	s.uneven = uneven
	for _, some := range [][]*replica{elsewhere, good, quiet} {
		if r := s.pickAmong(some); r != nil {
			return r
		}
	}
	if len(good)+len(quiet) > 0 || avoid != nil {
		return nil
	}
	return s.pickAmong(rest)
}

func (s *server) pickAmong(replicas []*replica) *replica {
	if len(replicas) == 0 {
		return nil
	}
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
	now := time.Now()
	r.ongoing--
	s.held += (now.Sub(a.since) - s.held) / 8
	if ongoing >= 0 {
		r.others = max(0, ongoing-r.ongoing)
		a.before = r.silence
		r.heard(now)
	}
	isolated := a.returned && s.apart.attempt == a
	if isolated {
		s.endIsolation()
	}
	if r.index >= 0 {
		s.rank(r)
	}
	if r.index >= 0 || isolated {
		s.drain()
	}
}

// progress is a sign of life, and moves the call's deadline.
func (a *attempt) progress() {
	a.deadline.progress()
	s, r := a.server, a.replica
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.heard(time.Now()) && r.index >= 0 {
		s.drain()
	}
}

// timedOut holds a call's timeout against a replica that answers nothing.
func (a *attempt) timedOut() {
	s := a.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if !a.over && !a.replica.since.After(a.since) {
		a.replica.timeouts++
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
