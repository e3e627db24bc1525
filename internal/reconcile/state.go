package reconcile

import (
	"errors"
	"log/slog"
	"maps"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// state is what the loop carries from one pass to the next. Only the loop's
// goroutine uses it and its parts. It is not stored, and each tenure begins with a
// new one: what matters of it comes back with the workers' reports.
type state struct {
	log      *slog.Logger
	jitter   func() float64
	replicas *tracker
	attempts *attempts
	fences   *fences
	refusals *startRefusals
	*history
}

// history is what outlives a tenure, because no report contains it.
type history struct {
	restarts map[fleet.ServerName]int
	deployed map[fleet.ServerName]bool // has served in full, or did when first seen
	nodes    *nodeWatch
	complete bool // all nodes have reported once
}

func newHistory() *history {
	return &history{
		restarts: make(map[fleet.ServerName]int),
		deployed: make(map[fleet.ServerName]bool),
		nodes:    newNodeWatch(),
	}
}

func newState(log *slog.Logger, jitter func() float64, record func(Event), leads bool, h *history) *state {
	a := newAttempts(log, jitter, h)
	return &state{
		log: log, jitter: jitter, history: h, attempts: a,
		replicas: newTracker(log, record, leads, a),
		fences:   newFences(log, jitter, leads),
		refusals: newStartRefusals(),
	}
}

// observe takes in what the workers report. It returns when the state next
// changes with time alone; zero means never.
func (st *state) observe(s *observe.Snapshot, intents map[fleet.NodeID]fleet.NodeIntent, now time.Time) (wake time.Time) {
	if st.attempts.recalling {
		st.attempts.recall(s)
		st.replicas.forgetHealth()
	} else {
		st.attempts.observeEnds(s.Ended, st.replicas.has, st.replicas.leads, now)
	}
	for _, u := range st.replicas.sorted() {
		if s.Replicas[u.id] == nil {
			st.replicas.observeMissing(u, s, st.refusals.isDraining(s.Nodes[u.node]), now)
		}
	}
	for _, r := range s.Sorted() {
		node := s.Nodes[r.Node]
		st.replicas.observeReplica(r, node, st.fences.upToDate(node.Member.Life), now)
	}
	for _, u := range st.replicas.units {
		st.observeNodeOf(u, s, intents, now)
		if !u.expired {
			wake = earlier(wake, intents[u.node].DrainUntil)
		}
		if u.ready() && !u.unhealthy {
			wake = earlier(wake, st.attempts.recordReady(u, now))
		}
	}
	st.fences.observe(s.Nodes)
	return wake
}

// observeNodeOf brings a unit up to date with the condition of its node.
func (st *state) observeNodeOf(u *unit, s *observe.Snapshot, intents map[fleet.NodeID]fleet.NodeIntent, now time.Time) {
	n, intent := s.Nodes[u.node], intents[u.node]
	u.reachable, u.since = n.Connected, n.Since
	u.ending = st.refusals.isDraining(n)
	u.leaves = u.ending || !intent.DrainUntil.IsZero()
	u.expired = !intent.DrainUntil.IsZero() && !now.Before(intent.DrainUntil)
}

// recordAnswer takes in a worker's answer to an order. Answers to orders that
// are no longer wanted are ignored.
func (st *state) recordAnswer(a answer, now time.Time) {
	if a.id == "" {
		st.fences.recordAnswer(a, now)
		return
	}
	u, o := st.replicas.units[a.id], a.order
	if u == nil || u.start != o && u.stop != o && u.activate != o {
		return
	}
	o.inFlight = false
	isStart := o == u.start
	switch {
	case a.err == nil, !isStart && errors.Is(a.err, fleet.ErrUnknownReplica):
		o.confirm(a.version)
	case isRefusal(a.err):
		st.fences.recordRefusal(u.life, u.node, a.err)
		if isStart {
			st.replicas.remove(u.id)
		}
	case isStart && errors.Is(a.err, fleet.ErrDraining):
		st.refusals.recordDraining(u.life)
		st.replicas.remove(u.id)
		st.log.Info("draining node refused a replica", "node", u.node, "replica", u.id)
	case isStart && errors.Is(a.err, fleet.ErrNotRecorded):
		st.refusals.recordUnfit(u.life, a.err.Error(), now)
		st.replicas.remove(u.id)
		st.log.Warn("node refused a replica, placing it elsewhere", "node", u.node, "replica", u.id, "err", a.err)
	default:
		st.log.Debug("order unanswered", "node", a.node, "replica", a.id, "try", o.tries, "err", a.err)
		o.retryLater(a.err, now, st.jitter)
	}
}

// forget drops what no server and no worker needs after a pass.
func (st *state) forget(servers []want, plans []decision, s *observe.Snapshot) {
	st.attempts.forget(servers, plans, st.replicas.revisions())
	lives := make(map[fleet.LifeID]bool)
	for _, n := range s.Nodes {
		lives[n.Member.Life] = true
	}
	st.fences.forget(lives)
	st.refusals.forget(lives)
}

// servers lines up what is desired with what there is: first the desired, by
// name, then what must go.
func (st *state) servers(desired []fleet.Server) []want {
	byServer := make(map[fleet.ServerName][]*unit)
	for _, u := range st.replicas.sorted() {
		byServer[u.server] = append(byServer[u.server], u)
	}
	out := make([]want, 0, len(desired))
	for i := range desired {
		d := &desired[i]
		st.attempts.observeGeneration(d)
		w := want{name: d.Name, desired: d, units: byServer[d.Name], back: *st.attempts.of(d.Name, d.Revision)}
		if d.Stable != 0 && d.Stable != d.Revision {
			w.stable = *st.attempts.of(d.Name, d.Stable)
		}
		if d.OnCall() {
			w.back.holdOff()
		}
		out = append(out, w)
		delete(byServer, d.Name)
	}
	for _, name := range sortedKeys(byServer) {
		out = append(out, want{name: name, units: byServer[name]})
	}
	return out
}

// room returns what placement may use: the workers by name, less what runs on
// them.
func (st *state) room(s *observe.Snapshot, intents map[fleet.NodeID]fleet.NodeIntent, now time.Time) *room {
	nodes := make([]node, 0, len(s.Nodes))
	for _, name := range sortedKeys(s.Nodes) {
		n, intent := s.Nodes[name], intents[name]
		nodes = append(nodes, node{
			ID: name, Zone: n.Info.Zone, Labels: n.Info.Labels, Runtimes: n.Info.Runtimes, Capacity: n.Info.Capacity,
			Connected: n.Connected && st.fences.acceptsStarts(n.Member.Life, now),
			Draining:  st.refusals.isDraining(n) || now.Before(intent.DrainUntil),
			Cordoned:  intent.Cordoned || !intent.DrainUntil.IsZero(),
			Gone:      n.Lost,
			Unfit:     st.refusals.unfitReason(n, now),
		})
	}
	rm := newRoom(nodes, st.replicas.sorted())
	rm.restartsUntil = st.nodes.restartsUntil()
	return rm
}

// copied returns a state for simulated plans: nothing in it is recorded, or waits
// for an answer.
func (st *state) copied() *state {
	c := newState(st.log, noJitter, func(Event) {}, true, newHistory())
	c.refusals = st.refusals.clone()
	c.nodes.left = maps.Clone(st.nodes.left)
	for life, f := range st.fences.byLife {
		c.fences.byLife[life] = &fence{order: order{acked: f.acked, first: f.first}, refused: f.refused}
	}
	for _, u := range st.replicas.units {
		cu := *u
		cu.start = nil
		c.replicas.add(&cu)
	}
	return c
}
