package reconcile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Sessions are the sessions that the leader opens. Package sessions implements it.
type Sessions interface {
	// Waiting returns how many sessions of each server wait for a spare.
	Waiting() map[fleet.ServerName]int
	// Claimed reports whether a spare is being given to a session.
	Claimed(fleet.ReplicaID) bool
	// Subscribe posts a notice when Waiting may have changed; see notice.Board.
	Subscribe() (look <-chan struct{}, cancel func())
}

// noSessions are those of a controller that opens none.
type noSessions struct{}

func (noSessions) Waiting() map[fleet.ServerName]int    { return nil }
func (noSessions) Claimed(fleet.ReplicaID) bool         { return false }
func (noSessions) Subscribe() (<-chan struct{}, func()) { return nil, func() {} }

// owned reports whether the replica belongs to a session, or is being given to one.
func (u *unit) owned() bool { return u.session != "" || u.claimed }

// waitsForSession reports whether the replica could be given to a session now.
func (u *unit) waitsForSession() bool {
	return u.raw && u.spare && !u.owned() && u.ready() && u.reachable && !u.unhealthy && u.stop == nil
}

// owners are the replicas of a server whose sessions have replicas to themselves, by what
// is to become of them. Those that stop are in none but all.
type owners struct {
	owned  []*unit // by sessions
	spares []*unit // raw, of the wanted revision, to stay
	old    []*unit // raw spares of the stable revision, to go once they are replaced
	probes []*unit // of the wanted revision: they show what it offers, and take verify calls
	rest   []*unit // of no use
	others []*unit // of a revision with another mode, which take calls
}

func ownersOf(w *want) (o owners) {
	d := w.desired
	for _, u := range w.units {
		switch {
		case u.stopping():
		case u.owned():
			o.owned = append(o.owned, u)
		case u.raw && (u.unhealthy || u.leaves):
			o.rest = append(o.rest, u)
		case u.raw && !outdated(d, u):
			o.spares = append(o.spares, u)
		case u.raw && u.rev == cmp.Or(d.Stable, d.Revision):
			o.old = append(o.old, u)
		case u.raw || u.isSpare() || !outdated(d, u) && (u.unhealthy || u.leaves):
			o.rest = append(o.rest, u)
		case !outdated(d, u):
			o.probes = append(o.probes, u)
		default:
			o.others = append(o.others, u)
		}
	}
	return o
}

// open returns how many sessions have a replica, or are getting one. A session counts once,
// also if its lost replica is still reported beside the fresh one. So many sessions wait:
// if a node cannot be reached, some of these may be those of its replicas.
func (o *owners) open(waiting int) (n int) {
	reached, lost := make(map[fleet.SessionID]bool), make(map[fleet.SessionID]bool)
	for _, u := range o.owned {
		switch {
		case u.session == "":
			n++
		case u.reachable:
			reached[u.session] = true
		default:
			lost[u.session] = true
		}
	}
	maps.DeleteFunc(lost, func(id fleet.SessionID, _ bool) bool { return reached[id] })
	return n + len(reached) + max(0, len(lost)-waiting)
}

// begins reports whether sessions may begin at the wanted revision: it has shown what it
// offers, and its rollout waits for nobody.
func begins(d *fleet.Server) bool {
	return d.Offers && (d.StableTemplate == nil || rolloutCondition(d) == "")
}

// sparesWanted returns how many spares there are to be beside the open sessions.
func (w *want) sparesWanted(open int) int {
	s := &w.desired.Spec
	return max(0, min(max(s.Warm, w.waiting), s.MaxSessions-open))
}

// planSessions decides about a server whose sessions have replicas to themselves. A
// replica that belongs to a session is neither moved nor stopped, but when it fails, when
// it is of an old revision, or when its node is to be emptied. Then its session moves as
// if the replica were lost.
func (d *decision) planSessions(now time.Time, w *want, rm *room) {
	s, o := w.desired, ownersOf(w)
	end := func(u *unit, reason string) { d.actions = append(d.actions, action{stop: u, reason: reason}) }
	for _, u := range o.owned {
		if why := d.leaves(now, w, u); why != "" {
			end(u, why)
		}
	}
	for _, u := range o.rest {
		end(u, "a spare that is of no use: "+leavingReason(w, u))
	}
	rm.countFor(w.units, slices.Concat(o.owned, o.spares, o.probes))
	d.upholdProbe(now, w, &o, rm, end)

	open := o.open(w.waiting)
	wanted, ready := w.sparesWanted(open), count(o.spares, (*unit).waitsForSession)
	if !begins(s) {
		wanted = 0
	}
	for len(o.spares) > wanted {
		u := leastUseful(o.spares, rm)
		end(u, "one spare more than wanted")
		o.spares = without(o.spares, u)
	}
	// New before old, as far as there is room.
	keep := max(0, w.sparesWanted(open)-ready)
	for len(o.old) > keep {
		u := leastUseful(o.old, rm)
		end(u, leavingReason(w, u))
		o.old = without(o.old, u)
	}
	if begins(s) && ready >= min(wanted, 1) {
		for _, u := range o.others {
			end(u, leavingReason(w, u))
		}
	}
	n, rev, template := wanted-len(o.spares), s.Revision, &s.Spec.Template
	if !begins(s) && s.StableTemplate != nil && s.StableTemplate.PerSession() && s.StableOffers {
		n, rev, template = w.sparesWanted(open)-len(o.old), s.Stable, s.StableTemplate
	}
	all := open + len(o.spares) + len(o.old)
	if n > 0 && all >= s.Spec.MaxSessions && len(o.old) > 0 && rev == s.Revision {
		u := leastUseful(o.old, rm)
		end(u, leavingReason(w, u)+"; stopped first because of max_sessions")
		return
	}
	d.startSpares(now, w, rm, min(n, s.Spec.MaxSessions-all), rev, template)
}

// leaves returns why a replica that belongs to a session is stopped now, "" if it is not.
func (d *decision) leaves(now time.Time, w *want, u *unit) string {
	s := w.desired
	switch {
	case u.claimed && u.session == "":
		return "" // until it belongs to the session
	case u.unhealthy:
		return "unhealthy: its session gets a fresh replica"
	case u.ending:
		return fmt.Sprintf("node %s is stopping: the session moves", u.node)
	case u.expired:
		return leavingReason(w, u)
	case !u.leaves && (!outdated(s, u) || !begins(s)):
		u.outSince = time.Time{}
		return ""
	}
	if u.outSince.IsZero() {
		u.outSince = now
	}
	until := u.outSince.Add(s.Spec.SessionDrain())
	if now.Before(until) {
		d.wakeAt(until)
		return ""
	}
	return leavingReason(w, u) + ": the session moves"
}

// upholdProbe has a replica of the wanted revision that shows what it offers, as long as
// that is not known or the revision is being verified.
func (d *decision) upholdProbe(now time.Time, w *want, o *owners, rm *room, end func(*unit, string)) {
	s := w.desired
	need := !s.Offers || s.Unchecked()
	for i, u := range o.probes {
		switch {
		case !need:
			end(u, fmt.Sprintf("what revision %d offers is known", u.rev))
		case i > 0:
			end(u, "one probe more than wanted")
		}
	}
	if !need || len(o.probes) > 0 || s.Offers && s.Rollout != nil && (s.Rollout.Paused || s.Rollout.Held != "") {
		return
	}
	d.need = 1
	if now.Before(w.back.notBefore) {
		d.wakeAt(w.back.notBefore)
		return
	}
	req := request(&s.Spec.Template, &s.Spec)
	req.Avoid = w.back.avoids(w.units)
	id, no := rm.Place(req)
	if id == "" {
		d.unplaced, d.unroomed = no, 1
		return
	}
	d.actions = append(d.actions, action{
		node: id, rev: s.Revision, template: req.Template, reason: fmt.Sprintf("shows what revision %d offers", s.Revision),
	})
}

// startSpares starts up to n raw spares of a revision.
func (d *decision) startSpares(now time.Time, w *want, rm *room, n int, rev fleet.Revision, template *fleet.Template) {
	s, back := w.desired, &w.back
	if rev != s.Revision {
		back = &w.stable
	}
	if n <= 0 {
		return
	}
	d.need = max(d.need, min(n, w.waiting))
	starting := count(w.units, func(u *unit) bool { return u.raw && u.rev == rev && !u.ready() && !u.stopping() })
	if back.failing {
		if starting > 0 || probes(w) {
			return // one start shows whether the revision starts again
		}
		n = 1
	}
	if now.Before(back.notBefore) {
		d.wakeAt(back.notBefore)
		return
	}
	why := "a warm spare for a session"
	if w.waiting > s.Spec.Warm {
		why = fmt.Sprintf("%d sessions wait for a replica", w.waiting)
		if w.waiting == 1 {
			why = "a session waits for a replica"
		}
	}
	req := request(template, &s.Spec)
	req.Avoid = back.avoids(w.units)
	for i := range n {
		id, no := rm.Place(req)
		if id == "" {
			if d.unplacedSpares = no; w.waiting > 0 {
				d.unplaced, d.unroomed = no, min(n-i, w.waiting)
			}
			return
		}
		d.actions = append(d.actions, action{node: id, rev: rev, template: template, spare: true, raw: true, reason: why})
	}
}
