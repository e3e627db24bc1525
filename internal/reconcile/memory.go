package reconcile

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// memory is what the reconciler carries from one pass to the next: orders that
// no report has confirmed yet, replicas seen, and how starts have gone. It is
// not stored, and a leader begins with a fresh one: what matters of it comes
// back with the workers' reports.
type memory struct {
	log    *slog.Logger
	jitter func() float64
	record func(Event)
	leads  bool // else it only looks on

	units    map[fleet.ReplicaID]*unit // changed by put and drop
	sorted   []*unit                   // by id; nil: to be made anew
	backoffs map[revision]*backoff
	gens     map[fleet.ServerName]uint64
	past     past
	*history
	fences  map[fleet.LifeID]*fence // of a leader
	drained map[fleet.LifeID]bool   // has said so in answer to an order
	unfit   map[fleet.LifeID]unfit  // has refused a start
}

// history is what outlives a tenure, since no report tells it.
type history struct {
	restarts map[fleet.ServerName]int
	deployed map[fleet.ServerName]bool // has served in full, or did when first seen
	nodes    map[fleet.NodeID]nodeSeen
	left     map[fleet.NodeID]time.Time // when workers left that had stopped in order
	complete bool                       // the picture has been complete once
}

func newHistory() *history {
	return &history{
		restarts: make(map[fleet.ServerName]int),
		deployed: make(map[fleet.ServerName]bool),
		nodes:    make(map[fleet.NodeID]nodeSeen),
		left:     make(map[fleet.NodeID]time.Time),
	}
}

func newMemory(log *slog.Logger, jitter func() float64, h *history) *memory {
	return &memory{
		log: log, jitter: jitter, history: h, record: func(Event) {},
		units:    make(map[fleet.ReplicaID]*unit),
		backoffs: make(map[revision]*backoff),
		gens:     make(map[fleet.ServerName]uint64),
		past:     newPast(),
		fences:   make(map[fleet.LifeID]*fence),
		drained:  make(map[fleet.LifeID]bool),
		unfit:    make(map[fleet.LifeID]unfit),
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
// change what is thought of it; zero: never.
func (m *memory) absorb(s *observe.Snapshot, intents map[fleet.NodeID]fleet.NodeIntent, now time.Time) (wake time.Time) {
	if m.past.open {
		m.recall(s)
	} else {
		m.hear(s, now)
	}
	for _, u := range m.all() {
		if s.Replicas[u.id] == nil {
			m.miss(s, u, now)
		}
	}
	for _, r := range s.Sorted() {
		m.see(s, r, now)
	}
	for _, u := range m.units {
		m.stand(u, s.Nodes[u.node], intents[u.node], now)
		if !u.expired {
			wake = earlier(wake, intents[u.node].DrainUntil)
		}
		if !u.ready() || u.unhealthy {
			continue
		}
		b := m.backoff(u.server, u.rev)
		b.see(u.readyAt, now)
		if proven := u.readyAt.Add(b.proof()); b.failing && proven.After(now) {
			wake = earlier(wake, proven)
		}
	}
	m.heed(s)
	return wake
}

// stand notes what its node's condition means for a unit.
func (m *memory) stand(u *unit, n observe.Node, intent fleet.NodeIntent, now time.Time) {
	u.reachable, u.since = n.Connected, n.Since
	u.ending = n.Draining || m.drained[u.life]
	u.leaves = u.ending || !intent.DrainUntil.IsZero()
	u.expired = !intent.DrainUntil.IsZero() && !now.Before(intent.DrainUntil)
}

// see takes in a replica that is reported to run.
func (m *memory) see(s *observe.Snapshot, r *fleet.Replica, now time.Time) {
	node := s.Nodes[r.Node]
	u := m.units[r.ID]
	adopted := u == nil
	if adopted {
		u = m.adopt(r, now)
	}
	began := !adopted && u.phase < fleet.PhaseDraining && r.Phase == fleet.PhaseDraining // to drain
	u.life, u.resources, u.phase = node.Member.Life, r.Resources, r.Phase
	u.observed, u.start = true, nil // seen: the start needs no answer
	if u.readyAt.IsZero() && r.Phase == fleet.PhaseReady {
		u.readyAt = now
		if r.ReadyAt.Before(now) && adopted {
			u.readyAt = r.ReadyAt // adopted: it has proven itself before
		}
		if !adopted || !m.past.open {
			m.record(u.event(ReplicaReady, fmt.Sprintf("replica %s is ready on node %s", u.id, u.node)))
		}
	}
	if r.Unhealthy && !u.unhealthy && u.stop == nil {
		b := m.backoff(u.server, u.rev)
		b.owed++
		b.last = failureReason(r)
		m.log.Warn("replica unhealthy", "server", u.server, "replica", u.id, "node", u.node, "reason", r.Reason)
		m.record(u.event(ReplicaUnhealthy, b.last))
	}
	u.unhealthy = r.Unhealthy
	m.explain(u, r)
	if began && u.stop == nil && !node.Draining && m.heeds(u.life) {
		// Nobody stops it: it is ending by itself. The wait for the next start
		// begins now, however long the worker needs to clean up. Why it ended the
		// worker knows only then: until then an older failure tells more.
		b := m.backoff(u.server, u.rev)
		last := b.last
		m.fail(u, r, failure(u, r), now)
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

// adopt takes in a replica that this controller did not start, or has
// forgotten.
func (m *memory) adopt(r *fleet.Replica, now time.Time) *unit {
	u := &unit{id: r.ID, server: r.Server, rev: r.Revision, gen: r.Generation, node: r.Node, startedAt: now}
	if r.CreatedAt.Before(now) && !r.CreatedAt.IsZero() {
		u.startedAt = r.CreatedAt
	}
	m.put(u)
	m.deployed[r.Server] = m.deployed[r.Server] || r.Phase == fleet.PhaseReady
	if m.leads {
		m.log.Info("adopt replica", "server", r.Server, "replica", r.ID, "node", r.Node, "phase", r.Phase)
	} else if !m.past.open {
		u.rested = m.replaced(r)
	}
	return u
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
		kind := ReplicaFailed
		if u.stopping() {
			kind = ReplicaStopped
		}
		m.record(u.event(kind, fmt.Sprintf("replica %s was lost with node %s", u.id, u.node)))
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
	draining := m.drained[u.life] || node.Draining
	if u.failed == "" && (u.stop != nil || endedAsTold(u.phase, end, draining)) {
		m.log.Info("replica stopped", "server", u.server, "replica", u.id, "node", u.node)
		m.record(u.event(ReplicaStopped, stopped(u, end)))
		return
	}
	m.explain(u, end)
	m.record(u.event(ReplicaFailed, failure(u, end)))
	if m.past.open {
		return // it is among the ends that are recalled
	}
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
	m.fail(u, end, failure(u, end), now)
}

// stopped says that a replica ended as it was told to, and why.
func stopped(u *unit, end *fleet.Replica) string {
	s := fmt.Sprintf("replica %s on node %s stopped", u.id, u.node)
	switch {
	case end != nil && end.Reason != "":
		s += ": " + end.Reason
	case u.stop != nil:
		s += ": " + u.stop.reason
	}
	return s
}

// endedAsTold tells whether a replica that this controller did not stop ended
// for a reason that is no failure: its node or another controller stopped it.
func endedAsTold(last fleet.Phase, end *fleet.Replica, draining bool) bool {
	if end == nil {
		return last == fleet.PhaseDraining || draining
	}
	return end.Phase == fleet.PhaseStopped
}

// fail records that a replica failed; r is the last report of it, if there is
// any.
func (m *memory) fail(u *unit, r *fleet.Replica, why string, now time.Time) {
	u.failed = why
	b := m.backoff(u.server, u.rev)
	if u.readyAt.IsZero() && r != nil && r.WasReady() {
		u.readyAt = r.ReadyAt // it ended before it was seen to be READY
		if u.readyAt.After(now) {
			u.readyAt = now
		}
		b.everReady = true
	}
	e := ending{started: u.startedAt, ready: u.readyAt, at: now, why: why}
	if r != nil {
		e.served, e.exit = r.Load.Total > 0, r.Exit
	}
	before := *b
	b.fail(e, m.jitter)
	if e.exit == nil && !e.ready.IsZero() {
		before.failedAt = b.failedAt
		u.unexplained = &unexplained{ending: e, before: before}
	}
	m.log.Warn("replica failed", "server", u.server, "revision", u.rev, "replica", u.id, "node", u.node,
		"reason", why, "next_start_in", max(0, b.notBefore.Sub(now)).Round(time.Millisecond))
}

// unexplained is a failure that was told before it was known how the process
// ended.
type unexplained struct {
	ending
	before backoff // what there was before it, with its failedAt
}

// explain takes in how the process of a failed replica ended.
func (m *memory) explain(u *unit, r *fleet.Replica) {
	x := u.unexplained
	if x == nil || r == nil || r.Exit == nil {
		return
	}
	u.unexplained = nil
	x.exit, x.served = r.Exit, x.served || r.Load.Total > 0
	if b := m.backoff(u.server, u.rev); x.idle() {
		b.excuse(x.ending, &x.before, m.jitter)
	} else {
		b.accuse(x.ending, m.jitter)
	}
}

// wake starts what rests of a server at once.
func (m *memory) wake(name fleet.ServerName, now time.Time) {
	for k, b := range m.backoffs {
		if k.server == name {
			b.wake(now)
		}
	}
}

// begin remembers a planned start under its new id.
func (m *memory) begin(id fleet.ReplicaID, srv *fleet.Server, a action, life fleet.LifeID, now time.Time) *unit {
	u := &unit{
		id: id, server: srv.Name, rev: a.rev, gen: srv.Generation, node: a.node, life: life, phase: fleet.PhasePending,
		resources: a.template.Resources, template: a.template, reachable: true, startedAt: now,
		start: &order{reason: a.reason},
	}
	m.put(u)
	if b := m.backoff(u.server, u.rev); b.owed > 0 {
		u.rested = b.rests()
		b.owed--
		m.restarts[u.server]++
	}
	m.record(u.event(ReplicaStarted, fmt.Sprintf("replica %s starts on node %s: %s", id, a.node, a.reason)))
	return u
}

// settle drops what no server needs any more, after a pass.
func (m *memory) settle(servers []want, plans []decision, s *observe.Snapshot) {
	wanted := make(map[fleet.ServerName]*fleet.Server)
	for i, w := range servers {
		if w.desired == nil {
			continue
		}
		wanted[w.name] = w.desired
		// A failed replica that need not be replaced is owed to nobody.
		b := m.backoff(w.name, w.desired.Revision)
		b.owed = min(b.owed, plans[i].need)
		if st := w.desired.Stable; st != 0 && st != w.desired.Revision {
			b := m.backoff(w.name, st)
			b.owed = min(b.owed, plans[i].needStable)
		}
	}
	used := make(map[revision]bool)
	for _, u := range m.units {
		used[revision{u.server, u.rev}] = true
	}
	maps.DeleteFunc(m.backoffs, func(k revision, _ *backoff) bool {
		d := wanted[k.server]
		return !used[k] && (d == nil || d.Revision != k.rev && d.Stable != k.rev)
	})
	gone := func(name fleet.ServerName) bool { _, ok := wanted[name]; return !ok }
	maps.DeleteFunc(m.restarts, func(name fleet.ServerName, _ int) bool { return gone(name) })
	maps.DeleteFunc(m.deployed, func(name fleet.ServerName, _ bool) bool { return gone(name) })
	maps.DeleteFunc(m.gens, func(name fleet.ServerName, _ uint64) bool { return gone(name) })
	lives := make(map[fleet.LifeID]bool)
	for _, n := range s.Nodes {
		lives[n.Member.Life] = true
	}
	maps.DeleteFunc(m.fences, func(l fleet.LifeID, _ *fence) bool { return !lives[l] })
	maps.DeleteFunc(m.drained, func(l fleet.LifeID, _ bool) bool { return !lives[l] })
	maps.DeleteFunc(m.unfit, func(l fleet.LifeID, _ unfit) bool { return !lives[l] })
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
		if was, known := m.gens[d.Name]; known && was < d.Generation {
			// Restarted by hand: whatever failed before, it is tried at once.
			*m.backoff(d.Name, d.Revision) = backoff{}
		}
		m.gens[d.Name] = d.Generation
		w := want{name: d.Name, desired: d, units: byServer[d.Name], back: *m.backoff(d.Name, d.Revision)}
		if d.Stable != 0 && d.Stable != d.Revision {
			w.stable = *m.backoff(d.Name, d.Stable)
		}
		out = append(out, w)
		delete(byServer, d.Name)
	}
	for _, name := range sortedKeys(byServer) {
		out = append(out, want{name: name, units: byServer[name]})
	}
	return out
}

// rooms lists the workers as placement sees them, by name.
func (m *memory) rooms(s *observe.Snapshot, intents map[fleet.NodeID]fleet.NodeIntent, now time.Time) []node {
	out := make([]node, 0, len(s.Nodes))
	for _, name := range sortedKeys(s.Nodes) {
		n, intent := s.Nodes[name], intents[name]
		out = append(out, node{
			ID: name, Zone: n.Info.Zone, Labels: n.Info.Labels, Runtimes: n.Info.Runtimes, Capacity: n.Info.Capacity,
			Connected: n.Connected && m.obeys(n.Member.Life, now),
			Draining:  n.Draining || m.drained[n.Member.Life] || now.Before(intent.DrainUntil),
			Cordoned:  intent.Cordoned || !intent.DrainUntil.IsZero(),
			Gone:      n.Lost,
			Unfit:     m.unfitness(n, now),
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
