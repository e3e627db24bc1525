package store

import (
	"sync"
	"time"
)

const (
	// beginAfter is how long a tenure may take to begin before that is logged.
	beginAfter = 6 * time.Second
	// beginRepeat is how often it is logged again.
	beginRepeat = time.Minute
	// beginForget is how long after a failure another one counts as unrelated.
	beginForget = 30 * time.Second
)

// beginnings notices when no tenure begins. A leader whose first entry no majority
// stores is the leader to raft, and can do nothing. Methods may be called at any
// time.
type beginnings struct {
	mu     sync.Mutex
	since  time.Time // of the first failure or wait after the last tenure that began; zero: there was none
	lead   uint64    // the entry with which the last tenure began, on any controller
	last   time.Time // of the last failure or wait
	term   uint64    // of that one
	err    error     // of the last failure; nil: there was none
	logged time.Time // when that was last logged; zero: never
}

// beginReport is what is to be logged about beginnings. The zero value is nothing.
type beginReport struct {
	failing bool          // no tenure began for a while
	began   bool          // a tenure began, after it was logged that none did
	after   time.Duration // since the first failure
	term    uint64        // of the last failure or wait
	err     error         // of the last failure; nil: it still waits
}

// failed records that a tenure could not begin in a term. lead is the entry with
// which the last tenure began.
func (b *beginnings) failed(err error, term, lead uint64, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.note(term, lead, now)
	b.err = err
}

// note records a failure or wait. The lock is held.
func (b *beginnings) note(term, lead uint64, now time.Time) {
	if b.since.IsZero() || b.logged.IsZero() && now.Sub(b.last) > beginForget {
		b.since, b.lead, b.err = now, lead, nil
	}
	b.last, b.term = now, term
}

// report returns what is to be logged now. waiting is true if this controller leads
// in the term and its tenure has not begun.
func (b *beginnings) report(waiting bool, term, lead uint64, now time.Time) beginReport {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.since.IsZero() && lead != b.lead {
		var r beginReport
		if !b.logged.IsZero() {
			r = beginReport{began: true, after: now.Sub(b.since)}
		}
		b.since, b.logged = time.Time{}, time.Time{}
		return r
	}
	if waiting {
		b.note(term, lead, now)
	}
	if b.since.IsZero() || now.Sub(b.last) > guardEvery || now.Sub(b.since) < beginAfter || !b.logged.IsZero() && now.Sub(b.logged) < beginRepeat {
		return beginReport{}
	}
	b.logged = now
	return beginReport{failing: true, after: now.Sub(b.since), term: b.term, err: b.err}
}

// logBeginnings logs that no tenure begins, and that one began after that.
func (s *Store) logBeginnings() {
	term, leads := s.leaderTerm()
	_, begun := s.tenure()
	lead := s.State().Lead
	switch r := s.beginnings.report(leads && !begun, term, lead.Index, time.Now()); {
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
		s.log.Info("tenure began after failures", "leader", lead.Controller, "term", uint64(lead.Term), "after", r.after.Round(time.Second).String())
	}
}
