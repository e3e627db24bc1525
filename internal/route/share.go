package route

// Canary bounds the share of a server's calls that its new revision gets.
//
// The share is kept exactly, not on average: with 5 percent every twentieth call
// goes to the new revision. What it misses, because its replicas are busy, is not
// made up for later. The new revision gets more than its share only of calls that
// no other replica could take at all, and of the calls of its sessions.
//
// A call that a replica of the new revision did not answer, and that may be
// repeated, goes to another revision if there is any.
type Canary struct {
	Percent float64 // of the calls of this router
}

// side is a part of a server's replicas.
type side uint8

const (
	anySide side = iota
	oldSide
	newSide // the replicas of the canary
)

func (s side) has(r *replica) bool { return s == anySide || r.canary == (s == newSide) }

// shared counts the calls of a server with a canary. The server's mutex guards it.
type shared struct {
	canary *Canary // nil: there is none
	calls  uint64  // that got a slot
	fresh  uint64  // of those, on the new side
}

// update takes the canary of a new view. A new share begins to count at 0.
func (s *shared) update(c *Canary) {
	if c == nil || s.canary == nil || *c != *s.canary {
		s.calls, s.fresh = 0, 0
	}
	s.canary = c
}

func (s *shared) on() bool { return s.canary != nil }

// due reports whether the next call belongs to the new side: with it, the side has
// no more than its share.
func (s *shared) due() bool { return s.fresh < s.allowed(s.calls+1) }

// allowed returns how many of some calls may be on the new side.
func (s *shared) allowed(calls uint64) uint64 {
	const rounding = 1e-9
	return uint64(float64(calls)*s.canary.Percent/100 + rounding)
}

// count counts a call that got a slot. The new side misses one call at most.
func (s *shared) count(fresh bool) {
	if s.canary == nil {
		return
	}
	s.calls++
	if fresh {
		s.fresh++
	}
	if allowed := s.allowed(s.calls); allowed > 0 {
		s.fresh = max(s.fresh, allowed-1)
	}
}

// pickShared returns the replica for the next call of a server with a canary, or nil
// if there is no slot that it may have. It needs s.mu held.
func (s *server) pickShared(avoid *replica, tool string, old bool) *replica {
	if s.shared.due() && !old {
		if r := s.pickAround(avoid, tool, newSide); r != nil {
			return r
		}
	}
	if s.offeredBy(oldSide, avoid, tool) {
		return s.pickAround(avoid, tool, oldSide)
	}
	return s.pickAround(avoid, tool, newSide)
}

// offeredBy reports whether a call of the tool may go to any replica of the side, now
// or later. It needs s.mu held.
func (s *server) offeredBy(of side, avoid *replica, tool string) bool {
	for _, r := range s.replicas {
		if r != avoid && of.has(r) && s.offers(r, tool) {
			return true
		}
	}
	return false
}
