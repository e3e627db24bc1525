package route

import "time"

const (
	// A replica is silent when at least silentCalls calls wait for it, and not for
	// their clients, and it has answered nothing for silentFor, or for several times
	// what calls take, at most maxSilentFor.
	silentCalls    = 2
	silentFor      = time.Second
	silentFactor   = 3
	maxSilentFor   = 10 * time.Second
	watchForSilent = silentFor / 2
)

// silenceLevel says how unresponsive a replica is while calls wait for it.
type silenceLevel uint8

const (
	answers silenceLevel = iota
	silent               // gets new calls only when the others are full
	deaf                 // calls have timed out too: gets new calls only when there is no other
)

// silence describes a replica's last answer. Any answer counts: a reply, progress
// or a pong.
type silence struct {
	since    time.Time    // of the last answer, or of the first call after it was idle
	timeouts int          // calls that timed out since
	level    silenceLevel // when it was last updated
}

// recordAnswer records that the replica answered, and reports whether its level
// changed.
func (r *replica) recordAnswer(now time.Time) (changed bool) {
	changed = r.level != answers
	r.silence = silence{since: now}
	return changed
}

// watch updates the replicas' silence periodically while calls wait for any of
// them. It needs s.mu held.
func (s *server) watch() {
	s.watching = true
	time.AfterFunc(watchForSilent, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.watching = false
		if s.updateSilence(time.Now()) && !s.removed {
			s.watch()
		}
	})
}

// updateSilence updates the level of all replicas. It reports whether several
// calls wait for any of them. It needs s.mu held.
func (s *server) updateSilence(now time.Time) (waiting bool) {
	limit := min(max(silentFor, silentFactor*s.held), maxSilentFor)
	for _, r := range s.replicas {
		h := answers
		if r.ongoing-r.asking >= silentCalls {
			waiting = true
			if now.Sub(r.since) >= limit {
				h = silent
				if r.timeouts >= silentCalls {
					h = deaf
				}
			}
		}
		r.level = h
		s.uneven = s.uneven || h != answers
	}
	return waiting
}

// silent returns how many replicas do not answer.
func (s *server) silent() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.replicas {
		if r.level != answers {
			n++
		}
	}
	return n
}
