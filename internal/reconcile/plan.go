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
	back    backoff // of the desired revision
	stable  backoff // of the stable one
}

// action is one start or stop, and why.
type action struct {
	stop     *unit          // to stop; nil: start one
	node     fleet.NodeID   // to start it on
	rev      fleet.Revision // to start
	template *fleet.Template
	reason   string
}

// decision is the plan for one server.
type decision struct {
	actions    []action
	need       int       // missing replicas, whether or not they may start now
	needStable int       // of the stable revision
	unplaced   string    // why there is no node for a replica that may start
	wake       time.Time // when the decision may change with time alone; zero: never
}

// plan decides what to do now for each server, in their order. They share the
// room, and plan changes nothing but that.
func plan(now time.Time, servers []want, rm *room) []decision {
	out := make([]decision, len(servers))
	for i := range servers {
		out[i] = planServer(now, &servers[i], rm)
	}
	return out
}

func planServer(now time.Time, w *want, rm *room) decision {
	g := group(w)
	var d decision
	end := func(u *unit, reason string) {
		d.actions = append(d.actions, action{stop: u, reason: reason})
		g.stop(u)
	}
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
	case w.desired.Target.Idle():
		if w.back.notBefore.After(now) {
			d.wakeAt(w.back.notBefore) // calls may try to start it again from then on
		}
		return endAll(idleReason(w.desired))
	}
	desired := w.desired.Target.Replicas

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
	for len(g.fresh) > desired {
		end(leastUseful(g.fresh, rm.nodes), surplus(len(g.fresh), desired))
	}
	// A stand-in for replicas that cannot be reached is no surplus before it
	// serves.
	for n := len(g.fresh) + len(g.away); g.anyServes() && len(g.away) > 0 && n > desired; n-- {
		end(leastUseful(slices.Concat(g.fresh, g.away), rm.nodes), surplus(n, desired))
	}
	serving := count(g.fresh, (*unit).serving)
	for _, u := range slices.Clone(g.stable) {
		if !u.ready() && serving+count(g.stable, (*unit).ready) >= desired {
			end(u, leavingReason(w, u)+" and it does not serve")
		}
	}
	// New before old: each fresh replica that serves lets an old one go.
	old := slices.DeleteFunc(g.old(), func(u *unit) bool { return !u.ready() })
	for spare := serving + len(old) - desired; spare > 0 && len(old) > 0; spare-- {
		u := leastUseful(old, rm.nodes)
		end(u, leavingReason(w, u))
		old = without(old, u)
	}
	d.need = max(0, desired-len(g.fresh)-len(g.away))
	noneServes, wake := g.noneServes(now)
	d.wakeAt(wake)
	if noneServes && len(g.away) > 0 {
		// One stands in until the others can be reached again, or are lost.
		d.need = max(d.need, 1-len(g.fresh))
	}
	d.start(now, w, &g, rm, end)
	return d
}

func surplus(n, desired int) string {
	return fmt.Sprintf("%d more than the %s wanted", n-desired, replicas(desired))
}

// start adds the starts that may be made now.
func (d *decision) start(now time.Time, w *want, g *groups, rm *room, end func(*unit, string)) {
	if d.need == 0 && w.desired.StableTemplate == nil {
		return
	}
	staying := slices.Concat(g.fresh, g.away)
	target := w.desired.Target.Replicas
	room := target + surge(target) - g.running()
	if len(g.fresh)+len(g.leaving)+len(g.stable) == 0 {
		room = max(room, 1) // only stopping ones are left, and they may take long
	}
	rm.countFor(slices.Concat(staying, g.old(), g.stopping), staying)
	reserved := d.upkeep(now, w, g)
	if w.back.everReady {
		reserved = 0
	}
	n := min(d.need, room-reserved)
	n = min(n, d.allowed(now, d.need, &w.back, staying))
	began := d.startNew(w, g, rm, n, end)
	d.startStable(now, w, g, rm, room-began)
}

// startNew adds up to n starts of the desired revision.
func (d *decision) startNew(w *want, g *groups, rm *room, n int, end func(*unit, string)) (began int) {
	req := request(&w.desired.Spec.Template, &w.desired.Spec)
	starting := count(g.fresh, func(u *unit) bool { return !u.ready() })
	why := startReason(w, g)
	for ; began < n; began++ {
		id, no := rm.place(req)
		if id != "" {
			d.actions = append(d.actions, action{node: id, rev: w.desired.Revision, template: req.Template, reason: why})
			continue
		}
		d.unplaced = no
		// Replicas that start or stop will free room, or show that none is needed.
		if began > 0 || starting > 0 || len(g.stopping) > 0 || w.back.failing {
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
// many of them failed. Their places are not for a revision that has never been
// READY.
func (d *decision) upkeep(now time.Time, w *want, g *groups) (failed int) {
	s := w.desired
	if s.StableTemplate == nil || s.Stable == s.Revision {
		return 0
	}
	up := count(g.fresh, (*unit).serving) + len(g.away) + len(g.stable)
	d.needStable = max(0, s.Target.Replicas-up)
	if noneServes, _ := g.noneServes(now); noneServes {
		d.needStable = max(d.needStable, 1-count(g.stable, func(u *unit) bool { return u.reachable }))
	}
	return min(d.needStable, w.stable.unreplaced)
}

// startStable adds starts of the stable revision. While the desired revision does
// not start, replicas of the stable one that died are replaced by the same, so that
// a broken revision never takes the place of one that works.
func (d *decision) startStable(now time.Time, w *want, g *groups, rm *room, room int) {
	s := w.desired
	n := d.needStable
	if broken := w.back.failing || d.unplaced != "" && len(g.stopping) == 0; !broken {
		n = min(n, w.stable.unreplaced) // the desired one may yet serve
	}
	if n = min(n, room); n <= 0 {
		return
	}
	if n = min(n, d.allowed(now, d.needStable, &w.stable, g.stable)); n <= 0 {
		return
	}
	for range n {
		id, _ := rm.place(request(s.StableTemplate, &s.Spec))
		if id == "" {
			return
		}
		d.actions = append(d.actions, action{node: id, rev: s.Stable, template: s.StableTemplate,
			reason: fmt.Sprintf("revision %d does not serve: revision %d is kept up", s.Revision, s.Stable)})
	}
}

// makeRoom returns the replica to stop before its replacement starts, where there
// is no room for both. It returns nil if no stop would help.
func makeRoom(g *groups, rm *room, req schedule.Request) *unit {
	for rest := g.old(); len(rest) > 0; {
		u := leastUseful(rest, rm.nodes)
		if rm.fitsWithout(u, req) {
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
