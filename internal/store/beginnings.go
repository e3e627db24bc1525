package store

import (
	"sync"
	"time"
)

const (
	// beginAfter is how long a tenure may take to begin before that is said.
	beginAfter = 6 * time.Second
	// beginRepeat is how often it is said again.
	beginRepeat = time.Minute
	// beginForget is when what failed before has nothing to do with it any more.
	beginForget = 30 * time.Second
)

// beginnings watches whether tenures begin. A leader whose first entry no
// majority stores leads in raft's eyes and can do nothing. Methods may be called
// at any time.
type beginnings struct {
	mu    sync.Mutex
	since time.Time // when the first one failed or had to wait since the last that began; zero: none did
	lead  uint64    // the entry with which the last one began, on any controller
	last  time.Time // when one last failed or had to wait
	term  uint64    // of that one
	err   error     // of the last that failed; nil: none did
	said  time.Time // when that was last said; zero: never
}

// beginReport is what there is to say of beginnings. The zero value: nothing.
type beginReport struct {
	failing bool          // none began for a while
	began   bool          // one began at last, and it had been said that none did
	after   time.Duration // since the first that failed
	term    uint64        // of the last that failed or waits
	err     error         // of the last that failed; nil: it still waits
}

// failed notes that a tenure could not begin in a term. Lead is the entry with
// which the last one began.
func (b *beginnings) failed(err error, term, lead uint64, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sign(term, lead, now)
	b.err = err
}

// sign notes that one failed or waits. The lock is held.
func (b *beginnings) sign(term, lead uint64, now time.Time) {
	if b.since.IsZero() || b.said.IsZero() && now.Sub(b.last) > beginForget {
		b.since, b.lead, b.err = now, lead, nil
	}
	b.last, b.term = now, term
}

// look returns what there is to say now. Waiting reports whether this
// controller leads in the term and its tenure has not begun.
func (b *beginnings) look(waiting bool, term, lead uint64, now time.Time) beginReport {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.since.IsZero() && lead != b.lead {
		var r beginReport
		if !b.said.IsZero() {
			r = beginReport{began: true, after: now.Sub(b.since)}
		}
		b.since, b.said = time.Time{}, time.Time{}
		return r
	}
	if waiting {
		b.sign(term, lead, now)
	}
	if b.since.IsZero() || now.Sub(b.last) > guardEvery || now.Sub(b.since) < beginAfter || !b.said.IsZero() && now.Sub(b.said) < beginRepeat {
		return beginReport{}
	}
	b.said = now
	return beginReport{failing: true, after: now.Sub(b.since), term: b.term, err: b.err}
}

// lookAtBeginnings logs that tenures do not begin, and that one did at last.
func (s *Store) lookAtBeginnings() {
	term, leads := s.leaderTerm()
	_, begun := s.tenure()
	lead := s.State().Lead
	switch r := s.beginnings.look(leads && !begun, term, lead.Index, time.Now()); {
	case r.failing:
		why := []any{"term", r.term, "for", r.after.Round(time.Second).String()}
		if r.err != nil {
			why = append(why, "err", r.err)
		}
		if p := s.peersProblem(r.term); p != "" {
			why = append(why, "peers", p)
		}
		s.log.Warn("elected leader, but its tenure cannot begin: nothing is written or reconciled", why...)
	case r.began:
		s.log.Info("a tenure began at last", "leader", lead.Controller, "term", uint64(lead.Term), "after", r.after.Round(time.Second).String())
	}
}
