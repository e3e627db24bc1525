package reconcile

import (
	"cmp"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// memory is what the reconciler carries from one pass to the next: orders that
// no report has confirmed yet, replicas seen, and how starts have gone. It is
// not stored: what matters of it comes back with the workers' reports.
type memory struct {
	log    *slog.Logger
	jitter func() float64

	units    map[fleet.ReplicaID]*unit // changed by put and drop
	sorted   []*unit                   // by id; nil: to be made anew
	backoffs map[revision]*backoff
	restarts map[fleet.ServerName]int
	deployed map[fleet.ServerName]bool // has served in full, or did when first seen
	fenced   map[fleet.LifeID]bool     // obeys a newer controller
	drained  map[fleet.LifeID]bool     // has said so in answer to an order
}

func newMemory(log *slog.Logger, jitter func() float64) *memory {
	return &memory{
		log: log, jitter: jitter,
		units:    make(map[fleet.ReplicaID]*unit),
		backoffs: make(map[revision]*backoff),
		restarts: make(map[fleet.ServerName]int),
		deployed: make(map[fleet.ServerName]bool),
		fenced:   make(map[fleet.LifeID]bool),
		drained:  make(map[fleet.LifeID]bool),
	}
}

func (m *memory) backoff(server fleet.ServerName, rev fleet.Revision) *backoff {
	k := revision{server, rev}
	b := m.backoffs[k]
	if b == nil {
		b = new(backoff)
		m.backoffs[k] = b
	}
	return b
}

// absorb takes in what the workers report. It returns when time alone may
// change how a failing revision is judged; zero: never.
func (m *memory) absorb(s *observe.Snapshot, now time.Time) (wake time.Time) {
	for _, r := range s.Sorted() {
		m.see(s, r, now)
	}
	for _, u := range m.all() {
		if s.Replicas[u.id] == nil {
			m.miss(s, u, now)
		}
	}
	for _, u := range m.units {
		n := s.Nodes[u.node]
		u.reachable = n.Connected
		u.leaves = n.Draining || m.drained[u.life]
		if !u.ready() || u.unhealthy {
			continue
		}
		b := m.backoff(u.server, u.rev)
		b.see(u.readyAt, now)
		if proven := u.readyAt.Add(b.proof()); b.failing && proven.After(now) && (wake.IsZero() || proven.Before(wake)) {
			wake = proven
		}
	}
	return wake
}

// see takes in a replica that is reported to run.
func (m *memory) see(s *observe.Snapshot, r *fleet.Replica, now time.Time) {
	node := s.Nodes[r.Node]
	u := m.units[r.ID]
	adopted := u == nil
	if adopted {
		u = &unit{id: r.ID, server: r.Server, rev: r.Revision, node: r.Node, startedAt: now}
		m.put(u)
		m.deployed[r.Server] = m.deployed[r.Server] || r.Phase == fleet.PhaseReady
		m.log.Info("adopt replica", "server", r.Server, "replica", r.ID, "node", r.Node, "phase", r.Phase)
	}
	u.life, u.resources, u.phase = node.Member.Life, r.Resources, r.Phase
	u.observed, u.start = true, nil // seen: the start needs no answer
	if u.readyAt.IsZero() && r.Phase == fleet.PhaseReady {
		u.readyAt = now
		if r.ReadyAt.Before(now) && adopted {
			u.readyAt = r.ReadyAt // adopted: it has proven itself before
		}
	}
	if r.Unhealthy && !u.unhealthy && u.stop == nil {
		b := m.backoff(u.server, u.rev)
		b.owed++
		b.last = failureReason(r)
		m.log.Warn("replica unhealthy", "server", u.server, "replica", u.id, "node", u.node, "reason", r.Reason)
	}
	u.unhealthy = r.Unhealthy
	if u.phase == fleet.PhaseDraining && !adopted && u.stop == nil && u.failed == "" && !node.Draining {
		// Nobody stops it: it is ending by itself. The wait for the next start
		// begins now, however long the worker needs to clean up. Why it ended the
		// worker knows only then: until then an older failure tells more.
		b := m.backoff(u.server, u.rev)
		last := b.last
		m.fail(u, failure(u, r), now)
		if last != "" {
			b.last = last
		} else {
			b.unstarted = false // is told together with the account of it
		}
	}
	if u.stop != nil && u.stop.acked && node.Version >= u.stop.version && r.Phase < fleet.PhaseDraining {
		u.stop.acked, u.stop.notBefore = false, now.Add(orderRetryMax) // the answer and the report disagree: say it again
	}
}

func failureReason(r *fleet.Replica) string {
	s := "replica " + string(r.ID) + " on node " + string(r.Node) + " is unhealthy"
	if r.Reason != "" {
		s += ": " + r.Reason
	}
	return s
}

// miss decides about a replica that no report shows.
func (m *memory) miss(s *observe.Snapshot, u *unit, now time.Time) {
	node, known := s.Nodes[u.node]
	if !known || node.Lost || node.Member.Life != u.life {
		m.drop(u.id)
		m.log.Warn("replica lost with its node", "server", u.server, "replica", u.id, "node", u.node)
		return
	}
	var end *fleet.Replica
	for _, e := range s.Ended[u.server] {
		if e.ID == u.id {
			end = e
		}
	}
	shown := func(o *order) bool { return o != nil && o.acked && node.Version >= o.version }
	if !u.observed && end == nil && !shown(u.start) && !shown(u.stop) {
		return // on its way
	}
	m.drop(u.id)
	if u.failed != "" {
		why := failure(u, end)
		b := m.backoff(u.server, u.rev)
		if end != nil {
			b.last = why
		}
		if u.readyAt.IsZero() && b.healthy.IsZero() {
			b.unstarted = true
		}
		m.log.Warn("failed replica is gone", "server", u.server, "replica", u.id, "node", u.node, "reason", why)
		return
	}
	if u.stop != nil || endedAsTold(u, end, u.leaves || node.Draining) {
		m.log.Info("replica stopped", "server", u.server, "replica", u.id, "node", u.node)
		return
	}
	m.fail(u, failure(u, end), now)
}

// endedAsTold tells whether a replica that this controller did not stop ended
// for a reason that is no failure: its node or an earlier controller stopped it.
func endedAsTold(u *unit, end *fleet.Replica, draining bool) bool {
	if end == nil {
		return u.phase == fleet.PhaseDraining || draining
	}
	told := end.Exit != nil && end.Exit.Requested
	return end.Phase == fleet.PhaseStopped && (told || draining || u.phase == fleet.PhaseDraining)
}

func (m *memory) fail(u *unit, why string, now time.Time) {
	u.failed = why
	b := m.backoff(u.server, u.rev)
	b.fail(u.startedAt, u.readyAt, now, why, m.jitter)
	m.log.Warn("replica failed", "server", u.server, "revision", u.rev, "replica", u.id, "node", u.node,
		"reason", why, "next_start_in", max(0, b.notBefore.Sub(now)).Round(time.Millisecond))
}

// begin remembers a planned start under its new id.
func (m *memory) begin(id fleet.ReplicaID, srv *fleet.Server, a action, life fleet.LifeID, now time.Time) *unit {
	u := &unit{
		id: id, server: srv.Name, rev: a.rev, node: a.node, life: life, phase: fleet.PhasePending,
		resources: srv.Spec.Resources, template: &srv.Spec.Template, reachable: true, startedAt: now,
		start: &order{reason: a.reason},
	}
	m.put(u)
	if b := m.backoff(u.server, u.rev); b.owed > 0 {
		b.owed--
		m.restarts[u.server]++
	}
	return u
}

// settle drops what no server needs any more, after a pass.
func (m *memory) settle(servers []want, plans []decision, s *observe.Snapshot) {
	wanted := make(map[fleet.ServerName]fleet.Revision)
	for i, w := range servers {
		if w.desired == nil {
			continue
		}
		wanted[w.name] = w.desired.Revision
		// A failed replica that need not be replaced is owed to nobody.
		b := m.backoff(w.name, w.desired.Revision)
		b.owed = min(b.owed, plans[i].need)
	}
	used := make(map[revision]bool)
	for _, u := range m.units {
		used[revision{u.server, u.rev}] = true
	}
	maps.DeleteFunc(m.backoffs, func(k revision, _ *backoff) bool { return wanted[k.server] != k.rev && !used[k] })
	gone := func(name fleet.ServerName) bool { _, ok := wanted[name]; return !ok }
	maps.DeleteFunc(m.restarts, func(name fleet.ServerName, _ int) bool { return gone(name) })
	maps.DeleteFunc(m.deployed, func(name fleet.ServerName, _ bool) bool { return gone(name) })
	lives := make(map[fleet.LifeID]bool)
	for _, n := range s.Nodes {
		lives[n.Member.Life] = true
	}
	dead := func(l fleet.LifeID, _ bool) bool { return !lives[l] }
	maps.DeleteFunc(m.fenced, dead)
	maps.DeleteFunc(m.drained, dead)
}

// servers lines up what is desired with what there is: first the desired, by
// name, then what must go.
func (m *memory) servers(desired []fleet.Server) []want {
	byServer := make(map[fleet.ServerName][]*unit)
	for _, u := range m.all() {
		byServer[u.server] = append(byServer[u.server], u)
	}
	out := make([]want, 0, len(desired))
	for i := range desired {
		d := &desired[i]
		out = append(out, want{name: d.Name, desired: d, units: byServer[d.Name], back: *m.backoff(d.Name, d.Revision)})
		delete(byServer, d.Name)
	}
	for _, name := range sortedKeys(byServer) {
		out = append(out, want{name: name, units: byServer[name]})
	}
	return out
}

// nodes lists the workers as placement sees them, by name.
func (m *memory) nodes(s *observe.Snapshot) []node {
	out := make([]node, 0, len(s.Nodes))
	for _, name := range sortedKeys(s.Nodes) {
		n := s.Nodes[name]
		out = append(out, node{
			ID: name, Zone: n.Info.Zone, Labels: n.Info.Labels, Runtime: n.Info.Runtime, Capacity: n.Info.Capacity,
			Connected: n.Connected && !m.fenced[n.Member.Life],
			Draining:  n.Draining || m.drained[n.Member.Life],
		})
	}
	return out
}

func (m *memory) put(u *unit) { m.units[u.id], m.sorted = u, nil }

func (m *memory) drop(id fleet.ReplicaID) {
	delete(m.units, id)
	m.sorted = nil
}

// all returns the units by id.
func (m *memory) all() []*unit {
	if m.sorted == nil {
		m.sorted = slices.SortedFunc(maps.Values(m.units), func(a, b *unit) int { return cmp.Compare(a.id, b.id) })
	}
	return m.sorted
}

// answered records what a worker said to an order, if the order still stands.
func (m *memory) answered(id fleet.ReplicaID, o *order, version uint64, err error, now time.Time) {
	u := m.units[id]
	if u == nil || u.start != o && u.stop != o {
		return
	}
	o.inFlight = false
	switch {
	case err == nil, o == u.stop && errors.Is(err, fleet.ErrUnknownReplica):
		o.acked, o.version, o.err = true, version, nil
	case errors.Is(err, fleet.ErrStaleEpoch), errors.Is(err, fleet.ErrForeignCluster):
		if !m.fenced[u.life] {
			m.log.Error("node obeys another controller: it gets no more orders from here", "node", u.node, "err", err)
		}
		m.fenced[u.life] = true
		if u.start == o {
			m.drop(id)
		}
	case o == u.start && errors.Is(err, fleet.ErrDraining):
		m.drained[u.life] = true
		m.drop(id)
		m.log.Info("node is draining and takes no replica", "node", u.node, "replica", id)
	default:
		o.err = err
		wait := min(orderRetryMin<<min(o.tries, 10), orderRetryMax)
		o.notBefore = now.Add(spread(wait, m.jitter))
		m.log.Debug("order unanswered", "node", u.node, "replica", id, "try", o.tries, "err", err)
	}
}
