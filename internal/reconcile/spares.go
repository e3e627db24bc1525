package reconcile

import (
	"fmt"
	"slices"
	"time"
)

// isSpare reports whether the replica is started ahead of need, and not ordered to
// take calls yet.
func (u *unit) isSpare() bool { return u.spare && u.activate == nil }

// spareReady reports whether the replica could take calls as soon as it is
// activated.
func (u *unit) spareReady() bool {
	return u.isSpare() && u.ready() && u.reachable && !u.unhealthy && u.stop == nil
}

// takeSpares activates up to n spares of a list, and returns how many. The
// activated ones are added to the given group.
func (d *decision) takeSpares(n int, spares, group *[]*unit, rm *room, reason string) (taken int) {
	for ; taken < n; taken++ {
		u := bestSpare(*spares, rm)
		if u == nil {
			break
		}
		d.actions = append(d.actions, action{activate: u, rev: u.rev, reason: reason})
		*spares, *group = without(*spares, u), append(slices.Clip(*group), u)
		rm.countSpare(u)
	}
	return taken
}

// bestSpare returns the ready spare on the node with the fewest replicas of the
// server, or nil if no spare is ready on a node that it may stay on.
func bestSpare(spares []*unit, rm *room) (best *unit) {
	for _, u := range spares {
		if u.spareReady() && !u.raw && !u.leaves && (best == nil || rm.spreadOf(u.node) < rm.spreadOf(best.node)) {
			best = u
		}
	}
	return best
}

// upholdSpares starts the spares that are missing, and stops those that are too
// many or of no use. It comes last: spares take only room that no replica of any
// server needs now.
func (d *decision) upholdSpares(now time.Time, w *want, g *groups, rm *room) {
	s := w.desired
	end := func(u *unit, reason string) { d.end(u, g, reason) }
	staying := slices.Concat(g.fresh, g.away)
	rm.countFor(slices.Concat(staying, g.old(), g.stopping, g.spares, g.outdatedSpares), staying)
	for i := range d.actions {
		if id := d.actions[i].node; id != "" {
			rm.Count(id, true, true)
		}
	}
	// Until a rollout has ended, the old revision may still need its spares, and the
	// new one has not shown that it works.
	settled := s.StableTemplate == nil
	for _, u := range slices.Clone(g.outdatedSpares) {
		switch {
		case settled || u.rev != s.Stable:
			end(u, "a spare that is of no use: "+leavingReason(w, u))
		case u.leaves:
			end(u, fmt.Sprintf("a spare that is of no use: node %s is draining", u.node))
		case u.unhealthy:
			end(u, "a spare that is of no use: unhealthy")
		}
	}
	for len(g.spares) > s.Spec.Warm {
		end(leastUseful(g.spares, rm), "one spare more than wanted")
	}
	missing := s.Spec.Warm - len(g.spares)
	if missing <= 0 || !settled || d.unplaced != "" {
		return
	}
	if rm.noSpares != "" { // the start would take calls at once, and be one too many
		d.unplacedSpares = fmt.Sprintf("the worker of node %s is of an older version, which has no spares: update it", rm.noSpares)
		return
	}
	if w.back.failing {
		if d.need > 0 || probes(w) {
			return // one start shows whether the revision starts again
		}
		missing = 1
	}
	if now.Before(w.back.notBefore) {
		d.wakeAt(w.back.notBefore)
		return
	}
	if !w.back.everReady {
		missing = min(missing, startsUnproven-count(w.units, func(u *unit) bool { return !u.ready() && !u.stopping() }))
	}
	req := request(&s.Spec.Template, &s.Spec)
	req.Avoid = w.back.avoids(slices.Concat(staying, g.spares))
	for range missing {
		id, no := rm.Place(req)
		if id == "" {
			d.unplacedSpares = no
			return
		}
		d.actions = append(d.actions, action{node: id, rev: s.Revision, template: req.Template, spare: true, reason: "a warm spare"})
	}
}

// probes reports whether a replica starts that shows whether its revision starts, or has
// just started.
func probes(w *want) bool {
	return slices.ContainsFunc(w.units, func(u *unit) bool {
		return !u.stopping() && u.rev == w.desired.Revision && (!u.ready() || u.startedAt.After(w.back.bumpedAt))
	})
}
