package route

import (
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/schedule"
)

// replica is a replica in the view. One that leaves the view and comes back gets
// a new value.
type replica struct {
	id      fleet.ReplicaID
	zone    string
	backend Backend

	// Guarded by the server's mutex.
	index     int // in replicas; -1 when it has left the view
	ongoing   int // slots held by calls from here
	asking    int // of them, those whose calls wait for their clients
	idle      int // of them, those whose calls are not at the server now
	others    int // by calls from elsewhere, as far as known
	reported  int // the last Ongoing in the view
	skipUntil time.Time
	silence
	tools  *Tools // nil: not known
	canary bool   // see Canary
	death  *death // if it died with calls inside
	// session is whose calls it takes; "": those of all.
	session fleet.SessionID
}

func (r *replica) skipped(now time.Time) bool { return now.Before(r.skipUntil) }

// The functions below need s.mu held.

// rank updates the replica's candidate. Only our own calls count against the
// limit, so it grows with the load from elsewhere.
func (s *server) rank(r *replica) {
	c := schedule.Candidate{Load: r.ongoing - r.idle + r.others, Zone: r.zone}
	switch {
	case r.session != "":
		c.Load, c.Limit = 1, 1 // full for all but its session
	case r == s.isolation.replica:
		c.Load, c.Limit = 1, 1 // full for all but the suspect that it is reserved for
	case s.limits.MaxOngoing > 0:
		c.Limit = s.limits.MaxOngoing + r.others
	}
	s.candidates[r.index] = c
}

// pick returns the replica for the next call, or nil when there is no slot. old means
// that the call goes to no replica of the canary if there is any other.
func (s *server) pick(avoid *replica, tool string, session fleet.SessionID, old bool) *replica {
	if session != "" {
		return s.pickOwned(session, avoid)
	}
	if s.shared.on() {
		return s.pickShared(avoid, tool, old)
	}
	if !s.uneven && avoid == nil {
		if i := schedule.Pick(s.candidates, s.zone, s.rnd); i >= 0 {
			return s.replicas[i]
		}
		return nil
	}
	return s.pickAround(avoid, tool, anySide)
}

// pickAround picks among the replicas of a side, which are not all equally good. It
// never picks one that does not list the tool, or the one to avoid. It prefers, in
// order:
//
//   - for a call that was refused, another worker, since the other replicas of
//     the same worker are probably lost too;
//   - replicas that answer and accept calls;
//   - silent replicas, which may just be slow;
//   - replicas that refused a call lately or are deaf. A call that was just
//     refused does not try these: when a whole worker stops, it would use up its
//     tries on that worker's replicas before the report of the stop arrives.
func (s *server) pickAround(avoid *replica, tool string, of side) *replica {
	now := time.Now()
	var good, elsewhere, quiet, rest []*replica
	uneven := s.mixed || avoid != nil
	for _, r := range s.replicas {
		bad := r.skipped(now) || r.level == deaf
		uneven = uneven || bad || r.level != answers
		switch {
		case r == avoid || !of.has(r) || !s.offers(r, tool):
		case bad:
			rest = append(rest, r)
		case r.level == silent:
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
