package route

import (
	"context"
	"fmt"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// PerSession reports whether each session of the server has a replica to itself, and
// returns the server's call timeout.
func (r *Router) PerSession(name fleet.ServerName) (timeout time.Duration, yes bool) {
	s := (*r.servers.Load())[name]
	if s == nil {
		return 0, false
	}
	if timeout = time.Duration(s.perSession.Load()); timeout == 0 {
		return 0, false
	}
	return timeout, true
}

// AwaitSession waits until calls of the session go to the replica. It fails with
// fleet.ErrUnknownServer, or when ctx ends.
func (r *Router) AwaitSession(ctx context.Context, name fleet.ServerName, session fleet.SessionID, id fleet.ReplicaID) error {
	look, cancel := r.views.Subscribe()
	defer cancel()
	for {
		s := (*r.servers.Load())[name]
		if s == nil {
			return fmt.Errorf("%w %q", fleet.ErrUnknownServer, name)
		}
		s.mu.Lock()
		own := s.sessions[session]
		s.mu.Unlock()
		if own != nil && own.id == id {
			return nil
		}
		select {
		case <-look:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// The functions below need s.mu held. The empty session is no session.

// takeSessions finds out which replicas belong to sessions.
func (s *server) takeSessions() {
	s.sessions = nil
	for _, r := range s.replicas {
		if r.session == "" {
			continue
		}
		if s.sessions == nil {
			s.sessions = make(map[fleet.SessionID]*replica)
		}
		s.sessions[r.session] = r // the view has one for each
	}
}

// checkSession returns the error of a call of a session without a replica.
func (s *server) checkSession(id fleet.SessionID) error {
	if id != "" && s.sessions[id] == nil {
		return fmt.Errorf("server %q: %w", s.name, fleet.ErrSessionLost)
	}
	return nil
}

// failLostSessions ends the calls that wait for a replica that is gone.
func (s *server) failLostSessions() {
	for w := s.queue.first; w != nil; {
		next := w.next
		if err := s.checkSession(w.session); err != nil {
			s.queue.remove(w)
			w.err = err
			close(w.ready)
		}
		w = next
	}
}

// pickOwned returns the replica of a session, or nil when it has no free slot or is to be
// avoided.
func (s *server) pickOwned(id fleet.SessionID, avoid *replica) *replica {
	r := s.sessions[id]
	if r == nil || r == avoid || s.limits.MaxOngoing > 0 && r.ongoing >= s.limits.MaxOngoing {
		return nil
	}
	return r
}
