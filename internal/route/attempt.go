package route

import (
	"time"
)

// attempt is one slot held for one call.
type attempt struct {
	server   *server
	replica  *replica
	deadline *deadline
	view     uint64
	since    time.Time

	// Guarded by the server's mutex.
	over     bool
	returned bool    // if it ran alone: its outcome is known
	before   silence // of the replica, when the call was over
	asking   bool    // it waits for its client
	idle     bool    // it does not occupy its slot meanwhile

	yields  bool     // its slot is free while it waits for its client; constant after acquire
	suspect *suspect // if the call has the replica to itself; constant after acquire
}

// take gives a call a slot on the replica that was picked for it. It needs s.mu held.
func (s *server) take(r *replica) *attempt {
	s.shared.count(r.canary)
	return s.hold(r)
}

// hold gives a call a slot on a replica. It needs s.mu held.
func (s *server) hold(r *replica) *attempt {
	now := time.Now()
	if r.ongoing == 0 {
		r.silence = silence{since: now}
	}
	r.ongoing++
	if r.index >= 0 {
		s.rank(r)
	}
	if r.ongoing >= silentCalls && !s.watching {
		s.watch()
	}
	return &attempt{server: s, replica: r, view: s.view, since: now}
}

// released gives the slot back. ongoing is the replica's load according to its
// worker, -1 if unknown.
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
	a.setAsking(false)
	a.setIdle(false)
	s.held += (now.Sub(a.since) - s.held) / 8
	if ongoing >= 0 {
		r.others = max(0, ongoing-r.ongoing)
		a.before = r.silence
		r.recordAnswer(now)
	}
	isolated := a.returned && s.isolation.attempt == a
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

// progress counts as an answer, and moves the call's deadline.
func (a *attempt) progress() {
	a.deadline.progress()
	s, r := a.server, a.replica
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.recordAnswer(time.Now()) && r.index >= 0 {
		s.drain()
	}
}

// waits is called when the call begins to wait for its client, which the replica cannot
// help, and when it goes on. Either counts as an answer, and moves the call's deadline.
func (a *attempt) waits(waiting bool) {
	a.deadline.waits(waiting)
	s, r := a.server, a.replica
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.over {
		return
	}
	a.setAsking(waiting)
	a.setIdle(waiting && a.yields)
	if r.ongoing-r.asking >= silentCalls && !s.watching {
		s.watch()
	}
	spoke := r.recordAnswer(time.Now())
	if r.index < 0 {
		return
	}
	s.rank(r)
	if spoke || a.idle {
		s.drain()
	}
}

// setIdle needs s.mu held.
func (a *attempt) setIdle(idle bool) {
	if a.idle == idle {
		return
	}
	if a.idle = idle; idle {
		a.replica.idle++
	} else {
		a.replica.idle--
	}
}

// setAsking needs s.mu held.
func (a *attempt) setAsking(asking bool) {
	if a.asking == asking {
		return
	}
	if a.asking = asking; asking {
		a.replica.asking++
	} else {
		a.replica.asking--
	}
}

// timedOut counts a timeout of a replica that has not answered since the call
// began.
func (a *attempt) timedOut() {
	s := a.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if !a.over && !a.asking && !a.replica.since.After(a.since) {
		a.replica.timeouts++
	}
}
