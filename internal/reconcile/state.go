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
	views    nodeViews
	stay     map[fleet.ServerName]time.Time // until when servers are not rebalanced
	waiting  map[fleet.ServerName]int       // sessions that wait for a spare
	*history
}

// history is what outlives a tenure, because no report contains it.
type history struct {
	restarts map[fleet.ServerName]int
	deployed map[fleet.ServerName]bool // has served in full, or did when first seen
	settled  map[fleet.ServerName]bool // ServerStatus.Settled of the last pass
	nodes    *nodeWatch
	suspects suspicions
	arrivals *arrivals
	complete bool // all nodes have reported once
}

func newHistory() *history {
	return &history{
		restarts: make(map[fleet.ServerName]int),
		deployed: make(map[fleet.ServerName]bool),
		settled:  make(map[fleet.ServerName]bool),
		nodes:    newNodeWatch(),
		suspects: make(suspicions),
		arrivals: newArrivals(),
	}
}

func newState(log *slog.Logger, jitter func() float64, record func(Event), leads bool, h *history) *state {
	a := newAttempts(log, jitter, h)
	return &state{
		log: log, jitter: jitter, history: h, attempts: a,
		replicas: newTracker(log, record, leads, a),
		fences:   newFences(log, jitter, leads),
		refusals: newStartRefusals(),
		views:    nodeViews{byName: make(map[fleet.NodeID]*nodeView)},
		stay:     make(map[fleet.ServerName]time.Time),
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
	st.observeNodes(s, intents)
	reports := s.Sorted()
	for _, u := range st.replicas.sorted() { // both are sorted by id
		for len(reports) > 0 && reports[0].ID < u.id {
			reports = reports[1:]
		}
		if len(reports) == 0 || reports[0].ID != u.id {
			st.replicas.observeMissing(u, s, st.views.viewOf(u).ending, now)
		}
	}
	units := st.replicas.sorted()
	for _, r := range s.Sorted() {
		for len(units) > 0 && units[0].id < r.ID {
			units = units[1:]
		}
		var u *unit // nil: to be adopted
		var v *nodeView
		if len(units) > 0 && units[0].id == r.ID {
			u = units[0]
			v = st.views.viewOf(u)
		} else {
			v = st.views.of(r.Node)
		}
		if u != nil && !u.observed && u.isSpare() && !r.Spare {
			st.refusals.recordNoSpares(v.node.Member.Life)
		}
		st.replicas.observeReplica(u, r, &v.node, v.upToDate, now)
	}
	for _, u := range st.replicas.sorted() {
		st.observeNodeOf(u, now)
		if !u.expired {
			wake = earlier(wake, u.view.intent.DrainUntil)
		}
		if u.ready() && !u.unhealthy {
			wake = earlier(wake, st.attempts.recordReady(u, now))
		}
	}
	st.fences.observe(s.Nodes)
	return wake
}

// observeNodes brings the views of the nodes up to date.
func (st *state) observeNodes(s *observe.Snapshot, intents map[fleet.NodeID]fleet.NodeIntent) {
	st.views.update(s, intents, st.refusals.isDraining, st.fences.upToDate)
}

// observeNodeOf brings a unit up to date with the condition of its node.
func (st *state) observeNodeOf(u *unit, now time.Time) {
	v := st.views.viewOf(u)
	until := v.intent.DrainUntil
	u.reachable, u.since = v.node.Connected, v.node.Since
	u.ending = v.ending
	u.leaves = u.ending || !until.IsZero()
	u.expired = !until.IsZero() && !now.Before(until)
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
	byServer := st.replicas.byServer()
	out := make([]want, 0, len(desired))
	for i := range desired {
		d := &desired[i]
		st.attempts.observeGeneration(d)
		w := want{name: d.Name, desired: d, units: byServer[d.Name], waiting: st.waiting[d.Name], back: *st.attempts.of(d.Name, d.Revision)}
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

// observeSessions takes in the sessions that wait for a spare, or are about to get one.
func (st *state) observeSessions(s Sessions) {
	st.waiting = s.Waiting()
	for _, u := range st.replicas.sorted() {
		u.claimed = u.raw && s.Claimed(u.id)
	}
}

// room returns what placement may use: the workers by name, less what runs on
// them.
func (st *state) room(now time.Time) *room {
	st.views.countUnits(st.replicas.sorted())
	nodes := make([]node, 0, len(st.views.list))
	for _, v := range st.views.list {
		n := &v.node
		nodes = append(nodes, node{
			ID: v.name, Zone: n.Info.Zone, Labels: n.Info.Labels, Runtimes: n.Info.Runtimes, Capacity: n.Info.Capacity,
			Allocated: v.reserved, Replicas: v.units,
			Connected:  n.Connected && st.fences.acceptsStarts(n.Member.Life, now),
			Draining:   v.ending || now.Before(v.intent.DrainUntil),
			Cordoned:   v.intent.Cordoned || !v.intent.DrainUntil.IsZero(),
			Gone:       n.Lost,
			Unfit:      st.refusals.unfitReason(n, now),
			Suspect:    st.suspects.reason(v.name),
			NoSessions: !n.Info.Sessions,
		})
	}
	rm := newRoom(nodes, nil)
	rm.restartsUntil = st.nodes.restartsUntil()
	for _, v := range st.views.list {
		if st.refusals.noSpares[v.node.Member.Life] {
			rm.noSpares = v.name
			break
		}
	}
	return rm
}

// nodesInUse returns the nodes that may run replicas, those begun in this pass
// included.
func (st *state) nodesInUse() (out []fleet.NodeID) {
	st.views.countUnits(st.replicas.sorted())
	for id, v := range st.views.byName {
		if v.units > 0 {
			out = append(out, id)
		}
	}
	return out
}

// copied returns a state for simulated plans: nothing in it is recorded, or waits
// for an answer.
func (st *state) copied() *state {
	c := newState(st.log, noJitter, func(Event) {}, true, newHistory())
	c.refusals = st.refusals.clone()
	c.waiting = st.waiting
	c.nodes.left = maps.Clone(st.nodes.left)
	c.suspects = st.suspects.clone()
	for life, f := range st.fences.byLife {
		c.fences.byLife[life] = &fence{order: order{acked: f.acked, first: f.first}, refused: f.refused}
	}
	for _, u := range st.replicas.units {
		cu := *u
		cu.start, cu.view = nil, nil
		c.replicas.add(&cu)
	}
	return c
}
