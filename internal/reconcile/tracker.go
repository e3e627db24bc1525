package reconcile

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// startPatience is how long a node that reports may leave a start unanswered.
// Then the start is called off, and another replica takes its place.
const startPatience = 30 * time.Second

// tracker follows each replica from its start, or from the first report of it,
// to its end. It records events, and reports to attempts how the start went.
type tracker struct {
	log      *slog.Logger
	record   func(Event)
	leads    bool
	attempts *attempts
	units    map[fleet.ReplicaID]*unit // changed by add and remove

	byID    []*unit // as of the last call of sorted
	added   []*unit // since then
	removed int     // since then, of those in byID and added
}

func newTracker(log *slog.Logger, record func(Event), leads bool, a *attempts) *tracker {
	return &tracker{log: log, record: record, leads: leads, attempts: a, units: make(map[fleet.ReplicaID]*unit)}
}

func (t *tracker) add(u *unit) {
	t.units[u.id] = u
	t.added = append(t.added, u)
}

func (t *tracker) remove(id fleet.ReplicaID) {
	if u := t.units[id]; u != nil {
		u.removed = true
		t.removed++
		delete(t.units, id)
	}
}

func (t *tracker) has(id fleet.ReplicaID) bool { return t.units[id] != nil }

// sorted returns the units by id. The list is shared: do not edit it.
func (t *tracker) sorted() []*unit {
	if len(t.added) == 0 && t.removed == 0 {
		return t.byID
	}
	slices.SortFunc(t.added, func(a, b *unit) int { return cmp.Compare(a.id, b.id) })
	old, added := t.byID, t.added
	out := make([]*unit, 0, len(t.units))
	for len(old)+len(added) > 0 {
		from := &old
		if len(old) == 0 || len(added) > 0 && added[0].id < old[0].id {
			from = &added
		}
		if u := (*from)[0]; !u.removed {
			out = append(out, u)
		}
		*from = (*from)[1:]
	}
	t.byID, t.added, t.removed = out, nil, 0
	return out
}

// byServer returns the units of each server by id. The lists are shared: do not edit
// them.
func (t *tracker) byServer() map[fleet.ServerName][]*unit {
	out := make(map[fleet.ServerName][]*unit)
	for units := t.sorted(); len(units) > 0; {
		n := 1 // most of a server's units come one after the other
		for n < len(units) && units[n].server == units[0].server {
			n++
		}
		name := units[0].server
		if before := out[name]; before == nil {
			out[name] = units[:n:n]
		} else {
			out[name] = append(before, units[:n]...)
		}
		units = units[n:]
	}
	return out
}

// revisions returns the revisions that the units are of.
func (t *tracker) revisions() map[revision]bool {
	out := make(map[revision]bool)
	var last revision
	for _, u := range t.sorted() {
		if k := (revision{u.server, u.rev}); k != last { // most come one after the other
			out[k], last = true, k
		}
	}
	return out
}

// start begins a planned start under its new id.
func (t *tracker) start(id fleet.ReplicaID, srv *fleet.Server, a action, life fleet.LifeID, now time.Time) {
	u := &unit{
		id: id, server: srv.Name, rev: a.rev, gen: srv.Generation, node: a.node, life: life, phase: fleet.PhasePending,
		resources: a.template.Resources, template: templateFor(srv, a.template), reachable: true, startedAt: now,
		start: &order{reason: a.reason}, spare: a.spare, raw: a.raw,
	}
	if a.rev == srv.Revision {
		u.era = srv.Era
	}
	t.add(u)
	if u.spare {
		t.attempts.recordSpareStart(u.server, u.rev)
	} else {
		u.rested = t.attempts.recordStart(u.server, u.rev)
	}
	t.record(u.event(fleet.EventReplicaStarted, fmt.Sprintf("replica %s starts on node %s: %s", id, a.node, a.reason)))
}

// templateFor returns a template as workers get it: they do not know how long calls of
// a server may take.
func templateFor(srv *fleet.Server, t *fleet.Template) *fleet.Template {
	drain := srv.Spec.DrainTime(t)
	if drain == t.DrainTimeout {
		return t
	}
	out := *t
	out.DrainTimeout = drain
	return &out
}

// activate orders a spare to take calls.
func (t *tracker) activate(u *unit, reason string) {
	u.activate = &order{reason: reason}
	u.rested = t.attempts.recordStart(u.server, u.rev)
	t.record(u.event(fleet.EventReplicaActivated, fmt.Sprintf("replica %s on node %s, a warm spare, takes calls: %s", u.id, u.node, reason)))
}

// observeReplica takes in a report of a replica that has not ended. u is nil if it is
// not known here. upToDate says that its node had reported everything by the last
// pass: what ends was not stopped by an earlier leader. Followers never know that, but
// workers say it, unless they are of an older version.
func (t *tracker) observeReplica(u *unit, r *fleet.Replica, node *observe.Node, upToDate bool, now time.Time) {
	adopted := u == nil
	if adopted {
		u = t.adopt(r, now)
	}
	beganToEnd := !adopted && u.phase < fleet.PhaseDraining && r.Phase == fleet.PhaseDraining
	u.life, u.resources, u.phase = node.Member.Life, r.Resources, r.Phase
	u.observed, u.start = true, nil                // the report answers the start
	if !t.leads && u.spare && !r.Spare && !r.Raw { // the leader has activated it
		u.rested = t.attempts.recordStart(u.server, u.rev)
	}
	u.spare, u.ongoing = r.Spare, r.Load.Ongoing
	u.raw, u.session = r.Raw, r.Session
	if !r.Spare {
		u.activate = nil
	} else if u.activate.shownBy(node.Version) {
		u.activate.repeat(now.Add(orderRetryMax)) // the answer and the report disagree
	}
	t.observeReady(u, r, adopted, now)
	t.observeHealth(u, r)
	t.attempts.explainFailure(u, r)
	// What ends a session's replica is between the two. The next start need not wait.
	if beganToEnd && u.stop == nil && !node.Draining && (upToDate || r.Failing) && r.Session == "" {
		t.attempts.recordFailing(u, r, now)
	}
	if u.stop.shownBy(node.Version) && r.Phase < fleet.PhaseDraining {
		u.stop.repeat(now.Add(orderRetryMax)) // the answer and the report disagree
	}
}

// adopt begins to follow a replica that this controller did not start, or has
// forgotten.
func (t *tracker) adopt(r *fleet.Replica, now time.Time) *unit {
	u := &unit{id: r.ID, server: r.Server, rev: r.Revision, gen: r.Generation, node: r.Node, startedAt: now}
	if r.CreatedAt.Before(now) && !r.CreatedAt.IsZero() {
		u.startedAt = r.CreatedAt
	}
	t.add(u)
	if r.Phase == fleet.PhaseReady {
		t.attempts.deployed[r.Server] = true
	}
	if t.leads {
		t.log.Info("replica adopted", "server", r.Server, "replica", r.ID, "node", r.Node, "phase", r.Phase)
	} else if !t.attempts.recalling {
		u.rested = t.attempts.recordForeignStart(r)
	}
	return u
}

func (t *tracker) observeReady(u *unit, r *fleet.Replica, adopted bool, now time.Time) {
	if !u.readyAt.IsZero() || r.Phase != fleet.PhaseReady {
		return
	}
	u.readyAt = now
	if adopted && r.ReadyAt.Before(now) {
		u.readyAt = r.ReadyAt // it has proven itself before
	}
	if !adopted || !t.attempts.recalling {
		t.record(u.event(fleet.EventReplicaReady, ready(u, r)))
	}
}

// ready describes a replica that became READY, and how long its start took, if its worker
// says that.
func ready(u *unit, r *fleet.Replica) string {
	what := fmt.Sprintf("replica %s is ready on node %s", u.id, u.node)
	if r.ColdStart.Total() == 0 {
		return what
	}
	return fmt.Sprintf("%s after %s (%s)", what, r.ColdStart.Total().Round(time.Millisecond), r.ColdStart)
}

func (t *tracker) observeHealth(u *unit, r *fleet.Replica) {
	if r.Unhealthy && !u.unhealthy && u.stop == nil {
		why := unhealthiness(r)
		t.attempts.recordUnhealthy(u, why)
		t.log.Warn("replica unhealthy", "server", u.server, "replica", u.id, "node", u.node, "reason", r.Reason)
		t.record(u.event(fleet.EventReplicaUnhealthy, why))
	}
	u.unhealthy = r.Unhealthy
}

// forgetHealth makes unhealthy replicas count again when they are next reported.
func (t *tracker) forgetHealth() {
	for _, u := range t.units {
		u.unhealthy = false
	}
}

// observeMissing decides about a replica that no report shows. It may have ended,
// its node may be lost, or its start is still on its way. draining says that its
// worker is stopping.
func (t *tracker) observeMissing(u *unit, s *observe.Snapshot, draining bool, now time.Time) {
	node, known := s.Nodes[u.node]
	if !known || node.Lost || node.Member.Life != u.life {
		t.lose(u)
		return
	}
	end := endOf(u.id, s.Ended[u.server])
	if !u.observed && end == nil && !u.start.shownBy(node.Version) && !u.stop.shownBy(node.Version) {
		return // on its way
	}
	t.remove(u.id)
	if u.failed == "" && (u.stop != nil || stoppedElsewhere(u.phase, end, draining)) {
		t.log.Info("replica stopped", "server", u.server, "replica", u.id, "node", u.node)
		t.record(u.event(fleet.EventReplicaStopped, stopped(u, end)))
		return
	}
	t.attempts.explainFailure(u, end)
	t.record(u.event(fleet.EventReplicaFailed, failure(u, end)))
	switch {
	case t.attempts.recalling: // it is among the ends that are recalled
	case u.session != "": // see observeReplica
	case u.failed != "":
		t.attempts.recordEnded(u, end)
	default:
		t.attempts.recordFailure(u, end, failure(u, end), now)
	}
}

// lose drops a replica whose node is lost, or has a new life.
func (t *tracker) lose(u *unit) {
	t.remove(u.id)
	t.log.Warn("replica lost with its node", "server", u.server, "replica", u.id, "node", u.node)
	kind := fleet.EventReplicaFailed
	if u.stopping() {
		kind = fleet.EventReplicaStopped
	}
	t.record(u.event(kind, fmt.Sprintf("replica %s was lost with node %s", u.id, u.node)))
}

func endOf(id fleet.ReplicaID, ended []*fleet.Replica) *fleet.Replica {
	i := slices.IndexFunc(ended, func(e *fleet.Replica) bool { return e.ID == id })
	if i < 0 {
		return nil
	}
	return ended[i]
}

// stoppedElsewhere reports whether a replica that this controller did not stop
// was stopped by its node or by another controller, and so has not failed.
func stoppedElsewhere(last fleet.Phase, end *fleet.Replica, draining bool) bool {
	if end == nil {
		return last == fleet.PhaseDraining || draining
	}
	return end.Phase == fleet.PhaseStopped
}

// abandonStart calls off a start that a reporting node does not answer.
func (t *tracker) abandonStart(u *unit, now time.Time) {
	o := u.start
	if o == nil || o.acked || u.stop != nil || o.err == nil || now.Sub(o.first) < startPatience {
		return
	}
	u.stop = &order{reason: "the start was not answered"}
	why := fmt.Sprintf("replica %s: node %s did not take the order: %v", u.id, u.node, o.err)
	t.attempts.recordFailure(u, nil, why, now)
}

// removeUnsent takes back starts that were never sent, but for those on these
// nodes.
func (t *tracker) removeUnsent(except []fleet.NodeID) {
	for _, u := range t.sorted() {
		if u.start != nil && u.start.tries == 0 && !slices.Contains(except, u.node) {
			t.remove(u.id)
		}
	}
}
