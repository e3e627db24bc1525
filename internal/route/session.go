package route

import (
	"fmt"
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// maxSessions bounds the sessions of one server that are pinned to a replica.
const maxSessions = 10_000

// Pin sends the session's calls to the replica from now on. A session that was
// not pinned is pinned to the replica that gets its first call. When that
// replica leaves the view its calls fail with fleet.ErrSessionLost, until the
// session is unpinned or pinned elsewhere.
func (r *Router) Pin(name fleet.ServerName, id fleet.SessionID, replica fleet.ReplicaID) error {
	s := (*r.servers.Load())[name]
	if s == nil {
		return fmt.Errorf("%w %q", fleet.ErrUnknownServer, name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[id] == "" {
		if err := s.checkSession(id); err != nil {
			return err
		}
	}
	s.pin(id, replica)
	s.failLostSessions()
	s.drain()
	return nil
}

// Unpin forgets the session. Whoever opened it calls this when it ends, also
// when its replica is gone.
func (r *Router) Unpin(name fleet.ServerName, id fleet.SessionID) {
	s := (*r.servers.Load())[name]
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, id)
	s.drain() // its calls that wait may go anywhere now
}

// The functions below need s.mu held. The empty session is no session.

func (s *server) pin(id fleet.SessionID, replica fleet.ReplicaID) {
	if s.sessions == nil {
		s.sessions = make(map[fleet.SessionID]fleet.ReplicaID)
	}
	s.sessions[id] = replica
}

// pinFirst pins a session whose first call got this slot.
func (s *server) pinFirst(id fleet.SessionID, a *attempt) {
	if id == "" || s.sessions[id] != "" {
		return
	}
	s.pin(id, a.replica.id)
	a.pinned = id
}

// unpinFirst undoes it, since the call did not reach the replica.
func (s *server) unpinFirst(a *attempt) {
	if a.pinned != "" && s.sessions[a.pinned] == a.replica.id {
		delete(s.sessions, a.pinned)
	}
}

// checkSession returns the error of a call of the session that cannot be sent:
// its replica is gone, or too many sessions are pinned to pin it as well.
func (s *server) checkSession(id fleet.SessionID) error {
	if id == "" {
		return nil
	}
	replica, pinned := s.sessions[id]
	switch {
	case !pinned && len(s.sessions) >= maxSessions:
		return fmt.Errorf("server %q: %w: it has %d sessions", s.name, fleet.ErrOverloaded, len(s.sessions))
	case pinned && s.find(replica) == nil:
		return fmt.Errorf("server %q, replica %s: %w", s.name, replica, fleet.ErrSessionLost)
	}
	return nil
}

// failLostSessions ends the calls that wait for a replica that is gone.
func (s *server) failLostSessions() {
	if len(s.sessions) == 0 {
		return
	}
	for w := s.queue.first; w != nil; {
		next := w.next
		if s.sessions[w.session] != "" {
			if err := s.checkSession(w.session); err != nil {
				s.queue.remove(w)
				w.err = err
				close(w.ready)
			}
		}
		w = next
	}
}

// pickPinned returns the replica that a session is pinned to, or nil when it has
// no free slot or is to be avoided.
func (s *server) pickPinned(id fleet.ReplicaID, avoid *replica) *replica {
	r := s.find(id)
	if r == nil || r == avoid {
		return nil
	}
	return s.pickAmong([]*replica{r})
}

// find returns the replica if it is in the view.
func (s *server) find(id fleet.ReplicaID) *replica {
	i := slices.IndexFunc(s.replicas, func(r *replica) bool { return r.id == id })
	if i < 0 {
		return nil
	}
	return s.replicas[i]
}
