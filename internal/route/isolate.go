package route

import (
	"fmt"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	// aloneWithin is how long a suspect waits for a replica to itself, while
	// there are any. After that it is sent like any other call.
	aloneWithin = 5 * time.Second
	// suspectRetry is how often a waiting suspect tries again without any event.
	suspectRetry = time.Second
	// A suspect that has run alone for clearedAfter times as long as it ran
	// before the replica died is cleared. The replica then takes other calls
	// again.
	clearedAfter       = 4
	minAlone, maxAlone = 250 * time.Millisecond, 2 * time.Second
	maxAloneGuilty     = 10 * time.Second
	maxGuiltyWaiting   = 16
	// After a death in isolation the next suspect waits for a moment. Guilty calls
	// wait longer: a client that sends one after the other would otherwise end
	// replicas faster than they start.
	pauseSuspects            = 250 * time.Millisecond
	pauseGuilty              = time.Second
	textRepeated, textGuilty = "it was repeated once, alone, and a second replica died with it",
		"equal calls have ended replicas before, so it is not repeated"
)

// suspect says why a call needs a replica to itself.
type suspect struct {
	key    callKey
	death  *death        // that the call was inside of; nil: the call is guilty
	began  time.Time     // when it was sent to the replica that died
	ran    time.Duration // how long it ran there
	giveUp time.Time     // when it stops waiting to be alone; zero: never
}

// isolation runs suspects one at a time, on a replica that takes no other call
// meanwhile. So a suspect can end no other replica and no other call. The
// server's mutex guards the fields.
type isolation struct {
	queue     queue    // suspects without a replica, in order of their turn
	guilty    int      // of those, guilty ones
	replica   *replica // reserved for a suspect; nil while none needs it
	attempt   *attempt // runs on it; nil while earlier calls still run there
	timer     *time.Timer
	lastDeath time.Time // of a reserved replica
}

// guiltySuspect returns a suspect if equal calls are guilty, else nil.
func (s *server) guiltySuspect(key callKey) *suspect {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.blame.guilty(key, time.Now()) {
		return nil
	}
	return &suspect{key: key}
}

// clearBlame clears the calls equal to one that was answered.
func (s *server) clearBlame(key callKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blame.clear(key) {
		s.drain()
	}
}

// returned ends the isolation of a call whose replica survived it, unless the
// replica still works on it. It is called when the outcome is known: earlier, the
// next suspect might get a replica that just died.
func (s *server) returned(a *attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.returned = true
	if a.over && s.isolation.attempt == a {
		s.endIsolation()
		s.drain()
	}
}

// The functions below need s.mu held.

// enqueueSuspect inserts the waiter in the order in which suspects run: first
// those of the earliest death, among these the call that was sent last, because
// most calls that end a replica do so at once. Guilty calls come last.
func (s *server) enqueueSuspect(w *waiter) error {
	q := &s.isolation.queue
	if w.suspect.death == nil {
		if s.isolation.guilty >= maxGuiltyWaiting {
			return fmt.Errorf("server %q: %w: %d calls that are known to end replicas are waiting", s.name, fleet.ErrOverloaded, s.isolation.guilty)
		}
		s.isolation.guilty++
		q.pushBack(w)
		return nil
	}
	var last *waiter // of the same death, or else of deaths
	for o := q.last; o != nil; o = o.prev {
		if o.suspect.death == nil {
			continue
		}
		if o.suspect.death == w.suspect.death && o.suspect.began.Before(w.suspect.began) {
			continue
		}
		last = o
		break
	}
	q.insertAfter(w, last)
	return nil
}

func (s *server) dequeueSuspect(w *waiter) {
	s.isolation.queue.remove(w)
	if w.suspect.death == nil {
		s.isolation.guilty--
	}
}

// isolate gives the next suspect the reserved replica, once nothing else runs
// there. It reports whether slots for other calls may have become free.
func (s *server) isolate() (again bool) {
	now := time.Now()
	again = s.updateSuspects(now)
	if a := s.isolation.attempt; a != nil {
		if d := a.suspect.death; d == nil || !d.solved {
			return again
		}
		s.endIsolation()
		again = true
	}
	w := s.isolation.queue.first
	if w == nil || s.isolation.pausing(w, now) {
		return s.freeReplica() || again
	}
	if s.isolation.replica == nil && s.queue.first != nil && s.queue.first.seq < w.seq {
		return again // earlier calls go first, also to a replica that has just started
	}
	r := s.isolated(w, now)
	if r != s.isolation.replica {
		again = s.freeReplica() || again
		if s.isolation.replica = r; r != nil {
			s.rank(r)
		}
	}
	if r == nil || r.ongoing > 0 {
		return again
	}
	s.dequeueSuspect(w)
	a := s.take(r)
	a.suspect = w.suspect
	s.isolation.attempt = a
	w.attempt = a
	close(w.ready)
	limit := maxAloneGuilty
	if w.suspect.death != nil {
		limit = min(max(clearedAfter*w.suspect.ran, minAlone), maxAlone)
	}
	s.isolation.timer = time.AfterFunc(limit, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.isolation.attempt == a {
			s.endIsolation()
			s.drain()
		}
	})
	return again
}

// pausing reports whether it is too early for the suspect's turn.
func (i *isolation) pausing(w *waiter, now time.Time) bool {
	pause := pauseSuspects
	if w.suspect.death == nil {
		pause = pauseGuilty
	}
	return now.Sub(i.lastDeath) < pause
}

// updateSuspects dequeues the suspects whose case has changed since they were
// queued. It reports whether any of them now waits for an ordinary slot.
func (s *server) updateSuspects(now time.Time) (moved bool) {
	var innocent []*waiter
	usable := slices.ContainsFunc(s.replicas, func(r *replica) bool { return !r.skipped(now) })
	for w := s.isolation.queue.first; w != nil; {
		next := w.next
		guilty := s.blame.guilty(w.suspect.key, now)
		if !usable && w.suspect.death != nil {
			w.suspect.giveUp = now.Add(aloneWithin) // there is no replica to share either
		}
		switch known := w.suspect.death == nil; {
		case !known && guilty: // an equal call became guilty meanwhile
			s.dequeueSuspect(w)
			s.metrics.refused.Inc()
			w.err = fmt.Errorf("server %q: %w; %s", s.name, fleet.ErrReplicaLost, textGuilty)
			close(w.ready)
		case known && !guilty, !known && w.suspect.death.solved, !known && !now.Before(w.suspect.giveUp):
			s.dequeueSuspect(w)
			innocent = append(innocent, w)
		}
		w = next
	}
	for _, w := range innocent {
		w.suspect = nil
		s.queue.insertInOrder(w)
	}
	return len(innocent) > 0
}

// isolated picks the replica to reserve for a suspect: an idle one, else the one
// that is reserved already, else the least loaded. It is one of a canary only if
// there is no other.
func (s *server) isolated(w *waiter, now time.Time) *replica {
	var best *replica
	load := func(r *replica) int {
		switch {
		case r.ongoing+r.others == 0:
			return -2
		case r == s.isolation.replica:
			return -1
		}
		return r.ongoing + r.others
	}
	for _, r := range s.replicas {
		if r == w.avoid || r.session != "" || r.skipped(now) || r.level != answers || !s.offers(r, w.tool) {
			continue
		}
		switch {
		case best == nil, best.canary && !r.canary:
			best = r
		case r.canary == best.canary && load(r) < load(best):
			best = r
		}
	}
	return best
}

// endIsolation gives the replica back to other calls.
func (s *server) endIsolation() {
	s.isolation.attempt = nil
	if s.isolation.timer != nil {
		s.isolation.timer.Stop()
	}
	s.freeReplica()
}

func (s *server) freeReplica() (freed bool) {
	r := s.isolation.replica
	s.isolation.replica = nil
	if r == nil || r.index < 0 {
		return false
	}
	s.rank(r)
	return true
}
