package route

import (
	"fmt"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// maxTaskCalls bounds how many calls about tasks a replica gets from here on top of the
// others.
const maxTaskCalls = 256

// takeTask gives a call about a task a slot at the task's replica. It needs s.mu held.
func (s *server) takeTask(c *want) (*attempt, error) {
	r := s.find(c.replica)
	switch {
	case r == nil:
		return nil, fmt.Errorf("server %q, replica %s: %w", s.name, c.replica, fleet.ErrTaskLost)
	case r.backend == nil:
		return nil, fmt.Errorf("server %q: %w: the task's replica %s cannot be reached now", s.name, fleet.ErrNoReplica, r.id)
	case r.ongoing >= s.limits.MaxOngoing+maxTaskCalls:
		return nil, s.overloaded()
	}
	a := s.hold(r)
	a.setAsking(c.blocks) // so that nobody takes the replica for silent
	return a, nil
}

// find returns a replica by its id, nil if it is gone. It needs s.mu held.
func (s *server) find(id fleet.ReplicaID) *replica {
	for _, all := range [...][]*replica{s.replicas, s.apart} {
		for _, r := range all {
			if r.id == id {
				return r
			}
		}
	}
	return nil
}

// takeApart takes the replicas that are apart from those that take calls. before are those
// that took calls until now. It needs s.mu held.
func (s *server) takeApart(all []Replica, before map[fleet.ReplicaID]*replica) {
	if len(all) == 0 {
		s.apart = nil
		return
	}
	for _, r := range s.apart {
		before[r.id] = r
	}
	s.apart = nil
	for i := range all {
		in := &all[i]
		r := before[in.ID]
		if r == nil || r.backend != in.Backend {
			r = &replica{id: in.ID, backend: in.Backend, tools: in.Tools, index: -1}
		}
		s.apart = append(s.apart, r)
	}
}
