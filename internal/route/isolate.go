package route

import (
	"fmt"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	// aloneWithin is how long a suspect waits for a replica of its own, while
	// there are any. After that it is sent like any other call: better that than
	// never.
	aloneWithin = 5 * time.Second
	// lookForReplica is how often a waiting suspect looks again though nothing
	// was heard.
	lookForReplica = time.Second
	// A suspect that outlives, alone, several times what it had lived before
	// the replica died is cleared: then the replica takes other calls again.
	clearedAfter       = 4
	minAlone, maxAlone = 250 * time.Millisecond, 2 * time.Second
	maxAloneGuilty     = 10 * time.Second
	maxGuiltyWaiting   = 16
	// After a death in isolation the next suspect waits for a moment, and calls
	// that are known to end replicas wait longer: else a client that sends them
	// one after the other would end replicas faster than they start.
	pauseSuspects                = 250 * time.Millisecond
	pauseGuilty                  = time.Second
	textRepeated, textTakenTwice = "it was repeated once, alone, and a second replica died with it",
		"equal calls have ended replicas before, so it is not repeated"
)

// suspect is why a call must have a replica to itself.
type suspect struct {
	key    callKey
	death  *death        // it was inside then; nil: it is known to end replicas
	began  time.Time     // when it was sent to the replica that died
	ran    time.Duration // how long it was there
	giveUp time.Time     // when it stops waiting to be alone; zero: never
}

// isolation sends suspects to one replica at a time, on which nothing else
// runs meanwhile: whatever they do, it ends no other replica and no other
// call. Its fields belong to the server's mutex.
type isolation struct {
	queue     queue    // suspects without a replica, in order of their turn
	guilty    int      // of those, known to end replicas
	replica   *replica // takes no other call; nil while no suspect needs it
	attempt   *attempt // runs on it; nil while other calls still end there
	timer     *time.Timer
	lastDeath time.Time // of a replica that was kept
}

// known returns a suspect if equal calls are known to end replicas.
func (s *server) known(key callKey) *suspect {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.blame.guilty(key, time.Now()) {
		return nil
	}
	return &suspect{key: key}
}

// acquit clears calls equal to one that was answered.
func (s *server) acquit(key callKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blame.clear(key) {
		s.drain()
	}
}

// returned ends the isolation of a call that ended in another way than with
// its replica, unless the replica still works on it. That waits until the
// outcome is known: else the next suspect might get a replica that just died.
func (s *server) returned(a *attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.returned = true
	if a.over && s.apart.attempt == a {
		s.endIsolation()
		s.drain()
	}
}

// The functions below need s.mu held.

// enqueueSuspect puts the waiter in its place: deaths in their order, within
// one the call first that was sent last, as most calls that end a replica do
// so at once; then calls that are known to.
func (s *server) enqueueSuspect(w *waiter) error {
	q := &s.apart.queue
	if w.suspect.death == nil {
		if s.apart.guilty >= maxGuiltyWaiting {
			return fmt.Errorf("server %q: %w: %d calls that are known to end replicas are waiting", s.name, fleet.ErrOverloaded, s.apart.guilty)
		}
		s.apart.guilty++
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
	s.apart.queue.remove(w)
	if w.suspect.death == nil {
		s.apart.guilty--
	}
}

// isolate gives the suspect whose turn it is the replica that is kept for
// suspects, once nothing else runs there. It reports whether other calls may
// have got room by it.
func (s *server) isolate() (again bool) {
	now := time.Now()
	again = s.reviewSuspects(now)
	if a := s.apart.attempt; a != nil {
		if d := a.suspect.death; d == nil || !d.solved {
			return again
		}
		s.endIsolation()
		again = true
	}
	w := s.apart.queue.first
	if w == nil || s.apart.pausing(w, now) {
		return s.freeReplica() || again
	}
	if s.apart.replica == nil && s.queue.first != nil && s.queue.first.seq < w.seq {
		return again // those that came before it go first, also to a replica that has just started
	}
	r := s.isolated(w, now)
	if r != s.apart.replica {
		again = s.freeReplica() || again
		if s.apart.replica = r; r != nil {
			s.rank(r)
		}
	}
	if r == nil || r.ongoing > 0 {
		return again
	}
	s.dequeueSuspect(w)
	a := s.take(r)
	a.suspect = w.suspect
	s.apart.attempt = a
	w.attempt = a
	close(w.ready)
	limit := maxAloneGuilty
	if w.suspect.death != nil {
		limit = min(max(clearedAfter*w.suspect.ran, minAlone), maxAlone)
	}
	s.apart.timer = time.AfterFunc(limit, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.apart.attempt == a {
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

// reviewSuspects takes those off the queue whose case has changed since they
// joined it. It reports whether there is another waiter for an ordinary slot.
func (s *server) reviewSuspects(now time.Time) (moved bool) {
	var innocent []*waiter
	usable := slices.ContainsFunc(s.replicas, func(r *replica) bool { return !r.skipped(now) })
	for w := s.apart.queue.first; w != nil; {
		next := w.next
		guilty := s.blame.guilty(w.suspect.key, now)
		if !usable && w.suspect.death != nil {
			w.suspect.giveUp = now.Add(aloneWithin) // there is nothing to share either
		}
		switch known := w.suspect.death == nil; {
		case !known && guilty: // an equal call was found out meanwhile
			s.dequeueSuspect(w)
			s.metrics.refused.Inc()
			w.err = fmt.Errorf("server %q: %w; %s", s.name, fleet.ErrReplicaLost, textTakenTwice)
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

// isolated chooses the replica to keep for a suspect: one that is idle, else
// the one that is kept already, else the least loaded.
func (s *server) isolated(w *waiter, now time.Time) *replica {
	var best *replica
	load := func(r *replica) int {
		switch {
		case r.ongoing+r.others == 0:
			return -2
		case r == s.apart.replica:
			return -1
		}
		return r.ongoing + r.others
	}
	for _, r := range s.replicas {
		if r == w.avoid || r.skipped(now) || r.hush != answers || !s.offers(r, w.tool) {
			continue
		}
		if best == nil || load(r) < load(best) {
			best = r
		}
	}
	return best
}

// endIsolation lets other calls use the replica again.
func (s *server) endIsolation() {
	s.apart.attempt = nil
	if s.apart.timer != nil {
		s.apart.timer.Stop()
	}
	s.freeReplica()
}

func (s *server) freeReplica() (freed bool) {
	r := s.apart.replica
	s.apart.replica = nil
	if r == nil || r.index < 0 {
		return false
	}
	s.rank(r)
	return true
}
