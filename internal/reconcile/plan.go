package reconcile

import (
	"fmt"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/schedule"
)

// want is one server as the plan sees it: what is desired, what there is, and how
// starting it has gone.
type want struct {
	name    fleet.ServerName
	desired *fleet.Server // nil: not wanted any more
	units   []*unit
	waiting int     // sessions that wait for a spare
	back    backoff // of the desired revision
	stable  backoff // of the stable one
}

// action is one start, stop or activation of a spare, and why.
type action struct {
	stop     *unit          // to stop
	activate *unit          // a spare that is to take calls
	node     fleet.NodeID   // else start one here
	rev      fleet.Revision // to start
	template *fleet.Template
	spare    bool  // it takes no calls yet
	raw      bool  // it is for a session
	moves    *unit // whose place it takes on another node
	reason   string
}

// decision is the plan for one server.
type decision struct {
	actions    []action
	need       int       // missing replicas, whether or not they may start now
	needStable int       // of the stable revision
	unplaced   string    // why there is no node for a replica that may start
	unroomed   int       // how many replicas no node has room for
	wake       time.Time // when the decision may change with time alone; zero: never
	// unplacedSpares is why there is no node for a spare.
	unplacedSpares string
}

// plan decides what to do now for each server, in their order. They share the
// room, and plan changes nothing but that. Spares come after the replicas of all
// servers.
func plan(now time.Time, servers []want, rm *room) []decision {
	out := make([]decision, len(servers))
	withSpares := make(map[int]groups)
	for i := range servers {
		w := &servers[i]
		if w.desired != nil && w.desired.Spec.PerSession() {
			out[i].planSessions(now, w, rm)
			continue
		}
		g := group(w)
		out[i] = planServer(now, w, &g, rm)
		if len(g.spares)+len(g.outdatedSpares) > 0 || w.desired != nil && !w.desired.Target.Stopped() && w.desired.Spec.Warm > 0 {
			withSpares[i] = g
		}
	}
	for i := range servers {
		if g, ok := withSpares[i]; ok {
			out[i].upholdSpares(now, &servers[i], &g, rm)
		}
	}
	return out
}

// end adds a stop.
func (d *decision) end(u *unit, g *groups, reason string) {
	d.actions = append(d.actions, action{stop: u, reason: reason})
	g.stop(u)
}

// planServer decides about a server's replicas that take calls. It leaves g as it
// is with the stops and activations.
func planServer(now time.Time, w *want, g *groups, rm *room) (d decision) {
	end := func(u *unit, reason string) { d.end(u, g, reason) }
	endAll := func(reason string) decision {
		for _, u := range w.units {
			if !u.stopping() {
				end(u, reason)
			}
		}
		return d
	}
	switch {
	case w.desired == nil:
		return endAll("the server was removed")
	case w.desired.Target.Stopped():
		return endAll(w.desired.Target.StopReason())
	case w.desired.Target.Idle() && !proves(w.desired):
		if w.back.notBefore.After(now) {
			d.wakeAt(w.back.notBefore) // calls may try to start it again from then on
		}
		for _, u := range slices.Concat(g.fresh, g.away, g.leaving, g.stable) {
			end(u, idleReason(w.desired))
		}
		return d
	}
	target := w.desired.Target.Replicas

	for _, u := range slices.Clone(g.leaving) {
		switch {
		case u.expired:
			end(u, leavingReason(w, u))
		case !u.ready():
			end(u, leavingReason(w, u)+" and it does not serve")
		case u.ending:
			may, wake := rm.mayAppear(now, w.desired)
			if !may {
				end(u, fmt.Sprintf("node %s is stopping, and no other node could ever take the replica", u.node))
			}
			d.wakeAt(wake)
		}
	}
	ready := 0 // fresh ones that may take the place of old ones
	minReady := w.desired.Spec.UpdatePolicy().MinReady
	for _, u := range g.fresh {
		yes, wake := available(u, minReady, now)
		if yes {
			ready++
		}
		if w.desired.Rolling() || len(g.old()) > 0 {
			d.wakeAt(wake)
		}
	}
	aim := aimsOf(w.desired, g, ready)
	if aim.kept == 0 && target > 0 && lastStays(w, g, rm, ready) {
		aim.kept = 1
	}
	for len(g.fresh) > aim.fresh {
		end(leastUseful(g.fresh, rm), surplus(len(g.fresh), aim.fresh))
	}
	// A stand-in for replicas that cannot be reached is no surplus before it
	// serves.
	for n := len(g.fresh) + len(g.away); g.anyServes() && len(g.away) > 0 && n > aim.fresh; n-- {
		end(leastUseful(slices.Concat(g.fresh, g.away), rm), surplus(n, aim.fresh))
	}
	d.endOld(w, g, rm, aim, end)
	d.need = max(0, aim.fresh-len(g.fresh)-len(g.away))
	noneServes, wake := g.noneServes(now)
	d.wakeAt(wake)
	if noneServes && len(g.away) > 0 && target > 0 {
		// One stands in until the others can be reached again, or are lost.
		d.need = max(d.need, 1-len(g.fresh))
	}
	d.start(now, w, g, rm, aim, end)
	return d
}

// lastStays reports whether one old replica stays although none need be kept. It does
// while new ones fail, or only start, and where none could start in its place.
func lastStays(w *want, g *groups, rm *room, available int) bool {
	switch {
	case w.back.failing:
		return true
	case available > 0:
		return false
	case len(g.fresh) > 0:
		return true
	}
	staying := slices.Concat(g.fresh, g.away)
	rm.countFor(slices.Concat(staying, g.old(), g.stopping, g.spares, g.outdatedSpares), staying)
	req := request(&w.desired.Spec.Template, &w.desired.Spec)
	return rm.Peek(req) == "" && makeRoom(g, rm, req) == nil
}

// endOld stops the old replicas that are not needed any more.
func (d *decision) endOld(w *want, g *groups, rm *room, aim aims, end func(*unit, string)) {
	target := w.desired.Target.Replicas
	serving := count(g.fresh, (*unit).serving)
	for _, u := range slices.Clone(g.stable) {
		// While none serves, one may start beside others that cannot be reached.
		if !u.ready() && count(g.stable, (*unit).ready) >= aim.kept && g.anyServes() {
			end(u, leavingReason(w, u)+" and it does not serve")
		}
	}
	old := slices.DeleteFunc(g.old(), func(u *unit) bool { return !u.ready() })
	// New before old. What only moves is replaced as soon as another one serves.
	// What is of another revision stays until another one has served for long enough.
	for keep := target - serving; !aim.steady && len(old) > max(0, keep); {
		i := slices.IndexFunc(old, func(u *unit) bool { return !outdated(w.desired, u) })
		if i < 0 {
			break
		}
		u := leastUseful(slices.DeleteFunc(slices.Clone(old), func(u *unit) bool { return outdated(w.desired, u) }), rm)
		end(u, leavingReason(w, u))
		old = without(old, u)
	}
	// What moves stays until its place is taken, also where fewer would be enough.
	old = slices.DeleteFunc(old, func(u *unit) bool { return u.moves(w.desired) })
	for len(old) > aim.kept {
		u := leastUseful(firstToGo(w.desired, g, old), rm)
		end(u, leavingReason(w, u))
		old = without(old, u)
	}
}

// firstToGo returns the old replicas that go before the others: first what is left of
// a revision that is neither wanted nor stable, which may take no calls, and then all
// but those of the stable revision. While that is kept up, one of it that stops would
// be started again.
func firstToGo(d *fleet.Server, g *groups, old []*unit) []*unit {
	left := slices.DeleteFunc(slices.Clone(old), func(u *unit) bool { return u.rev == d.Revision || u.rev == d.Stable })
	if len(left) > 0 {
		return left
	}
	left = slices.DeleteFunc(slices.Clone(old), func(u *unit) bool { return slices.Contains(g.stable, u) })
	if len(left) > 0 {
		return left
	}
	return old
}

func surplus(n, wanted int) string {
	return fmt.Sprintf("%d more than the %s wanted", n-wanted, replicas(wanted))
}

// start adds the starts that may be made now.
func (d *decision) start(now time.Time, w *want, g *groups, rm *room, aim aims, end func(*unit, string)) {
	if d.need == 0 && w.desired.StableTemplate == nil {
		return
	}
	staying := slices.Concat(g.fresh, g.away)
	room := w.desired.Target.Replicas + aim.surge - g.running()
	if len(g.fresh)+len(g.leaving)+len(g.stable) == 0 {
		room = max(room, 1) // only stopping ones are left, and they may take long
	}
	rm.countFor(slices.Concat(staying, g.old(), g.stopping, g.spares, g.outdatedSpares), staying)
	reserved := d.upkeep(now, w, g, aim)
	if w.back.everReady {
		reserved = 0
	}
	most := min(d.need, room-reserved)
	began := d.takeSpares(most, &g.spares, &g.fresh, rm, startReason(w, g))
	n := min(most-began, d.allowed(now, d.need-began, &w.back, staying))
	began += d.startNew(w, g, rm, n, end, aim)
	if d.unplaced != "" {
		// The others are as large. Those that stop make room for as many.
		d.unroomed = max(0, most-began-len(g.stopping))
	}
	d.startStable(now, w, g, rm, room-began, aim)
}

// startNew adds up to n starts of the desired revision.
func (d *decision) startNew(w *want, g *groups, rm *room, n int, end func(*unit, string), aim aims) (began int) {
	req := request(&w.desired.Spec.Template, &w.desired.Spec)
	req.Avoid = w.back.avoids(slices.Concat(g.fresh, g.away, g.spares))
	starting := count(g.fresh, func(u *unit) bool { return !u.ready() })
	why := startReason(w, g)
	for ; began < n; began++ {
		id, no := rm.Place(req)
		if id != "" {
			d.actions = append(d.actions, action{node: id, rev: w.desired.Revision, template: req.Template, reason: why})
			continue
		}
		d.unplaced = no
		// Replicas that start or stop will free room, or show that none is needed.
		if began > 0 || starting > 0 || len(g.stopping) > 0 || w.back.failing || aim.steady {
			break
		}
		if u := makeRoom(g, rm, req); u != nil {
			end(u, leavingReason(w, u)+"; stopped first for want of room: "+no)
		}
		break
	}
	return began
}

// upkeep sets how many replicas of the stable revision are missing, and returns how
// many places are theirs: a revision that has never been READY does not get those
// of failed ones, nor any while its image is pulled.
func (d *decision) upkeep(now time.Time, w *want, g *groups, aim aims) (failed int) {
	s := w.desired
	if s.StableTemplate == nil || s.Stable == s.Revision || s.StableTemplate.PerSession() {
		return 0
	}
	if aim.steady {
		d.needStable = max(0, aim.kept-len(g.stable))
		return d.needStable
	}
	up := count(g.fresh, (*unit).serving) + len(g.away) + len(g.stable)
	// No more than endOld keeps: it would stop the others again.
	d.needStable = max(0, min(s.Target.Replicas-up, aim.kept-len(g.stable)))
	if noneServes, _ := g.noneServes(now); noneServes && s.Target.Replicas > 0 {
		d.needStable = max(d.needStable, 1-count(g.stable, func(u *unit) bool { return u.reachable }))
	}
	if pulling(g) {
		return d.needStable
	}
	return min(d.needStable, w.stable.unreplaced)
}

// pulling reports whether all that there is of the new revision waits for its
// image.
func pulling(g *groups) bool {
	return len(g.fresh) > 0 && !slices.ContainsFunc(g.fresh, func(u *unit) bool { return u.phase != fleet.PhasePulling })
}

// startStable adds starts of the stable revision. While the desired revision does
// not start, replicas of the stable one that died are replaced by the same, so that
// a broken revision never takes the place of one that works. While its image is
// being pulled, the stable one grows with the target.
func (d *decision) startStable(now time.Time, w *want, g *groups, rm *room, room int, aim aims) {
	s := w.desired
	n := d.needStable
	broken := w.back.failing || d.unplaced != "" && len(g.stopping) == 0
	if !broken && !pulling(g) && !aim.steady {
		n = min(n, w.stable.unreplaced) // the desired one may yet serve
	}
	if n = min(n, room); n <= 0 {
		return
	}
	why := fmt.Sprintf("revision %d does not serve: revision %d is kept up", s.Revision, s.Stable)
	if aim.steady {
		why = fmt.Sprintf("revision %d is kept up: the rollout of revision %d is %s", s.Stable, s.Revision, rolloutCondition(s))
	}
	n -= d.takeSpares(n, &g.outdatedSpares, &g.stable, rm, why)
	if n = min(n, d.allowed(now, d.needStable, &w.stable, g.stable)); n <= 0 {
		return
	}
	req := request(s.StableTemplate, &s.Spec)
	req.Avoid = w.stable.avoids(slices.Concat(g.stable, g.outdatedSpares))
	for range n {
		id, _ := rm.Place(req)
		if id == "" {
			return
		}
		d.actions = append(d.actions, action{node: id, rev: s.Stable, template: s.StableTemplate, reason: why})
	}
}

// makeRoom returns the replica to stop before its replacement starts, where there
// is no room for both. It returns nil if no stop would help.
func makeRoom(g *groups, rm *room, req schedule.Request) *unit {
	for rest := g.old(); len(rest) > 0; {
		u := leastUseful(rest, rm)
		if rm.FitsWithout(u.node, u.resources, req) {
			return u
		}
		rest = without(rest, u)
	}
	return nil
}

// allowed returns how many of the needed starts the back-off lets through now,
// beside the replicas of the revision that there are.
func (d *decision) allowed(now time.Time, need int, b *backoff, fresh []*unit) int {
	other := need - b.unreplaced // starts that replace no failed replica: lost with a node, or new
	if !b.failing {
		n := need
		if b.unreplaced > 0 && now.Before(b.notBefore) {
			d.wakeAt(b.notBefore)
			n = other
		}
		if !b.everReady {
			n = min(n, startsUnproven-count(fresh, func(u *unit) bool { return !u.ready() }))
		}
		return n
	}
	since := func(u *unit) bool { return u.startedAt.After(b.bumpedAt) }
	if count(fresh, func(u *unit) bool { return u.serving() && !since(u) }) == 0 {
		other = 0 // no replica shows that the revision works
	}
	switch {
	case count(fresh, func(u *unit) bool { return since(u) || !u.ready() }) > 0:
		return other // a probe is running
	case now.Before(b.notBefore):
		d.wakeAt(b.notBefore)
		return other
	}
	return max(other, 1)
}

// wakeAt asks for another decision at t, unless t is zero.
func (d *decision) wakeAt(t time.Time) {
	if sooner(t, d.wake) {
		d.wake = t
	}
}
