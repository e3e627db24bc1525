package route

import "time"

const (
	// A replica is silent when at least silentCalls calls wait for it and it has
	// answered nothing for silentFor, or for several times what calls take, at
	// most maxSilentFor.
	silentCalls    = 2
	silentFor      = time.Second
	silentFactor   = 3
	maxSilentFor   = 10 * time.Second
	watchForSilent = silentFor / 2
)

// hush is how a replica keeps quiet while calls wait for it.
type hush uint8

const (
	answers hush = iota
	silent       // gets new calls only when the others are full
	deaf         // calls have timed out too: gets new calls only when there is no other
)

// silence is what is known of a replica's last answer. An answer of any kind
// counts: a reply, progress, a pong.
type silence struct {
	since    time.Time // of the last answer, or of the first call after it was idle
	timeouts int       // calls that timed out since
	hush     hush      // as of the last look
}

// heard records that the replica answered something.
func (r *replica) heard(now time.Time) (news bool) {
	news = r.hush != answers
	r.silence = silence{since: now}
	return news
}

// watch looks at the replicas' silence while calls wait for any of them. It
// needs s.mu held.
func (s *server) watch() {
	s.watching = true
	time.AfterFunc(watchForSilent, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.watching = false
		if s.lookForSilence(time.Now()) && !s.removed {
			s.watch()
		}
	})
}

// lookForSilence judges all replicas. It reports whether several calls wait
// for any of them. It needs s.mu held.
func (s *server) lookForSilence(now time.Time) (waiting bool) {
	limit := min(max(silentFor, silentFactor*s.held), maxSilentFor)
	for _, r := range s.replicas {
		h := answers
		if r.ongoing >= silentCalls {
			waiting = true
			if now.Sub(r.since) >= limit {
				h = silent
				if r.timeouts >= silentCalls {
					h = deaf
				}
			}
		}
		r.hush = h
		s.uneven = s.uneven || h != answers
	}
	return waiting
}

// silent counts the replicas that answer nothing.
func (s *server) silent() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.replicas {
		if r.hush != answers {
			n++
		}
	}
	return n
}
