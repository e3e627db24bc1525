package route

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/schedule"
)

// server holds the slots and the queue of one server.
type server struct {
	name    fleet.ServerName
	zone    string
	rnd     func(n int) int
	metrics *serverMetrics
	wanted  func() // called when the server becomes wanted

	maxRequest atomic.Int64 // in bytes; 0: no bound
	perSession atomic.Int64 // the call timeout of a server with Server.PerSession; 0: it has not

	mu         sync.Mutex
	limits     Server // as last updated; its Replicas are nil
	removed    bool
	view       uint64 // grows when replicas come or go
	replicas   []*replica
	candidates []schedule.Candidate // of replicas, same order
	apart      []*replica           // see Server.Apart
	mixed      bool                 // replicas list different tools
	uneven     bool                 // some replica may be worse than others
	watching   bool                 // a timer will update the replicas' silence
	queue      queue
	awaiting   queue         // those that wait for any replica, and need no slot: see Await
	lastSeq    uint64        // of waiters
	held       time.Duration // how long a slot is held: a sliding average
	isolation  isolation
	deaths     map[fleet.ReplicaID]*death // whose cause is not known yet
	blame      blame
	sessions   map[fleet.SessionID]*replica // that have one to themselves
	shared     shared
}

func newServer(name fleet.ServerName, r *Router) *server {
	s := &server{name: name, zone: r.zone, rnd: r.rnd, metrics: r.metrics.server(name), wanted: r.postWanted}
	for _, q := range s.queues() {
		q.changed = r.queues.Post
	}
	return s
}

// queues returns all queues.
func (s *server) queues() [3]*queue {
	return [...]*queue{&s.queue, &s.isolation.queue, &s.awaiting}
}

// update takes a new view.
func (s *server) update(v *Server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := make(map[fleet.ReplicaID]*replica, len(s.replicas))
	for _, r := range s.replicas {
		before[r.id] = r
		r.index = -1
	}
	changed := len(s.replicas) != len(v.Replicas)
	s.shared.update(v.Canary)
	s.maxRequest.Store(v.MaxRequestBytes)
	s.limits = *v
	s.limits.Replicas, s.limits.Apart = nil, nil
	s.recordEnds(v.Ends)
	s.limits.CallTimeout = cmp.Or(v.CallTimeout, fleet.DefaultCallTimeout)
	s.perSession.Store(0)
	if v.PerSession {
		s.perSession.Store(int64(s.limits.CallTimeout))
	}
	s.limits.MaxCallDuration = cmp.Or(v.MaxCallDuration, fleet.DefaultMaxCallDuration)
	s.replicas = make([]*replica, 0, len(v.Replicas))
	for i := range v.Replicas {
		in := &v.Replicas[i]
		r := before[in.ID]
		switch {
		case r == nil || r.backend != in.Backend:
			r = &replica{id: in.ID, backend: in.Backend, others: in.Ongoing, tools: in.Tools}
			changed = true
		case r.reported != in.Ongoing:
			// A new report. An old one is older than what replies said since.
			r.others = max(0, in.Ongoing-r.ongoing)
		}
		changed = changed || r.tools != in.Tools
		changed = changed || r.session != in.Session
		r.zone, r.reported, r.tools, r.canary, r.session, r.index = in.Zone, in.Ongoing, in.Tools, in.Canary, in.Session, len(s.replicas)
		s.replicas = append(s.replicas, r)
	}
	s.takeApart(v.Apart, before)
	s.takeSessions()
	s.candidates = slices.Grow(s.candidates[:0], len(s.replicas))[:len(s.replicas)]
	for _, r := range s.replicas {
		if changed {
			r.skipUntil = time.Time{}
		}
		s.rank(r)
	}
	if r := s.isolation.replica; r != nil && r.index < 0 {
		s.endIsolation()
	}
	if changed {
		s.view++
		s.mixed = false
		for _, r := range s.replicas {
			s.mixed = s.mixed || r.tools != s.replicas[0].tools
		}
		s.uneven = s.mixed || slices.ContainsFunc(s.replicas, func(r *replica) bool { return r.level != answers })
		for _, q := range s.queues() {
			for w := q.first; w != nil; w = w.next {
				w.avoid = nil
			}
		}
	}
	s.failLostSessions()
	s.drain()
	s.postIfWanted()
}

// remove ends the server. Calls that wait fail.
func (s *server) remove() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removed = true
	for _, r := range s.replicas {
		r.index = -1
	}
	s.replicas, s.candidates, s.sessions, s.apart = nil, nil, nil, nil
	s.drain()
}

// The functions below need s.mu held.

// down returns why waiting for a replica is of no use, or nil.
func (s *server) down() error {
	switch {
	case s.removed:
		return fmt.Errorf("server %q: %w: it was removed", s.name, fleet.ErrNoReplica)
	case s.limits.Stopped:
		return fmt.Errorf("server %q: %w: scale it up to call it", s.name, fleet.ErrStopped)
	case len(s.replicas) == 0 && s.limits.Down != "":
		return fmt.Errorf("server %q: %w: %s", s.name, fleet.ErrNoReplica, s.limits.Down)
	}
	return nil
}

// pending returns why there are no replicas yet, for the end of a message.
func (s *server) pending() string {
	if len(s.replicas) > 0 || s.limits.Pending == "" {
		return ""
	}
	return ": " + s.limits.Pending
}

// waiting returns how many calls wait.
func (s *server) waiting() int { return s.queue.length + s.isolation.queue.length + s.awaiting.length }

// isWanted reports whether calls wait while replicas rest.
func (s *server) isWanted() bool { return s.limits.Resting && !s.removed && s.waiting() > 0 }

func (s *server) postIfWanted() {
	if s.isWanted() {
		s.wanted()
	}
}

// drain gives free slots to waiting calls, in order. A call that avoids replicas, needs
// a tool, or belongs to a session lets others pass.
func (s *server) drain() {
	if s.waiting() == 0 && s.isolation.replica == nil {
		return
	}
	if err := s.down(); err != nil {
		for w := s.isolation.queue.first; w != nil; w = s.isolation.queue.first {
			s.dequeueSuspect(w)
			w.err = err
			close(w.ready)
		}
		s.queue.end(err)
		s.awaiting.end(err)
		return
	}
	if len(s.replicas) > 0 {
		s.awaiting.end(nil)
	}
	s.drainQueue()
	if s.isolate() {
		s.drainQueue()
	}
}

func (s *server) drainQueue() {
	for w := s.queue.first; w != nil; {
		next := w.next
		if r := s.pick(w.avoid, w.tool, w.session, w.old); r != nil {
			s.queue.remove(w)
			w.attempt = s.take(r)
			close(w.ready)
		} else if w.avoid == nil && !w.old && !s.mixed && len(s.sessions) == 0 {
			return
		}
		w = next
	}
}
