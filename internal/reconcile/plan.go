package reconcile

import (
	"fmt"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// want is one server as the plan sees it: what is desired, what there is, and
// how starting it has gone.
type want struct {
	name    fleet.ServerName
	desired *fleet.Server // nil: not wanted any more
	units   []*unit
	back    backoff // of the desired revision
}

// action is one thing to do, and why.
type action struct {
	stop   *unit          // to stop; nil: start one
	node   fleet.NodeID   // to start it on
	rev    fleet.Revision // to start
	reason string
}

// decision is the plan for one server.
type decision struct {
	actions  []action
	need     int       // replicas missing, whether or not they may be started now
	unplaced string    // why a replica that may be started has no node
	wake     time.Time // when time alone may change the decision; zero: never
}

// plan decides what to do now for all servers, in their order, which are in
// the room together. It changes nothing but the room.
func plan(now time.Time, servers []want, rm *room) []decision {
	out := make([]decision, len(servers))
	for i := range servers {
		out[i] = planServer(now, &servers[i], rm)
	}
	return out
}

// groups are a server's replicas by what is to become of them.
type groups struct {
	fresh    []*unit // to stay
	leaving  []*unit // to go once replaced: old revision, unhealthy, on a draining node
	stopping []*unit // going
}

func group(w *want) groups {
	var g groups
	for _, u := range w.units {
		switch {
		case u.stopping():
			g.stopping = append(g.stopping, u)
		case w.desired == nil || u.rev != w.desired.Revision || u.unhealthy || u.leaves:
			g.leaving = append(g.leaving, u)
		default:
			g.fresh = append(g.fresh, u)
		}
	}
	return g
}

func (g *groups) stop(u *unit) {
	drop := func(list []*unit) []*unit {
		for i, x := range list {
			if x == u {
				return append(list[:i:i], list[i+1:]...)
			}
		}
		return list
	}
	g.fresh, g.leaving = drop(g.fresh), drop(g.leaving)
	g.stopping = append(g.stopping, u)
}

// running counts what takes room, but for what a draining node is about to end
// by itself.
func (g *groups) running() (n int) {
	for _, list := range [][]*unit{g.fresh, g.leaving, g.stopping} {
		n += count(list, func(u *unit) bool { return !u.leaves })
	}
	return n
}

func count(units []*unit, is func(*unit) bool) (n int) {
	for _, u := range units {
		if is(u) {
			n++
		}
	}
	return n
}

// surge is how many replicas more than desired a change may run.
func surge(desired int) int { return max(1, (desired+3)/4) }

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
	case w.desired.Spec.Replicas == 0:
		return endAll("scaled to zero")
	}
	desired := w.desired.Spec.Replicas

	for len(g.fresh) > desired {
		end(leastUseful(g.fresh, rm.nodes), fmt.Sprintf("%d more than the %s wanted", len(g.fresh)-desired, replicas(desired)))
	}
	for _, u := range append([]*unit(nil), g.leaving...) {
		if !u.ready() {
			end(u, leavingReason(w, u)+" and it does not serve")
		}
	}
	// Every fresh replica that serves lets one that leaves go: new before old.
	spare := count(g.fresh, (*unit).serving) + len(g.leaving) - desired
	for ; spare > 0 && len(g.leaving) > 0; spare-- {
		u := leastUseful(g.leaving, rm.nodes)
		end(u, leavingReason(w, u))
	}
	d.need = max(0, desired-len(g.fresh))
	d.start(now, w, &g, rm, end)
	return d
}

// start adds the starts that may be made now.
func (d *decision) start(now time.Time, w *want, g *groups, rm *room, end func(*unit, string)) {
	spec := &w.desired.Spec
	starting := count(g.fresh, func(u *unit) bool { return !u.ready() })
	room := spec.Replicas + surge(spec.Replicas) - g.running()
	if len(g.fresh)+len(g.leaving) == 0 {
		room = max(room, 1) // those that drain may take long, and nobody else serves
	}
	n := min(d.need, room)
	n = min(n, d.allowed(now, &w.back, g.fresh))
	if n <= 0 {
		return
	}
	running := append(append(append([]*unit(nil), g.fresh...), g.leaving...), g.stopping...)
	rm.view(running, g.fresh)
	why := startReason(w, g)
	for i := range n {
		id, no := rm.place(spec)
		if id != "" {
			d.actions = append(d.actions, action{node: id, rev: w.desired.Revision, reason: why})
			continue
		}
		d.unplaced = no
		// What is on its way will free room, or show that none is needed.
		if i > 0 || starting > 0 || len(g.stopping) > 0 || w.back.failing {
			return
		}
		if u := makeRoom(g, rm, spec); u != nil {
			end(u, leavingReason(w, u)+"; stopped first for want of room: "+no)
		}
		return
	}
}

// makeRoom returns the replica to stop before its replacement starts, where
// both do not fit. nil: it would not help.
func makeRoom(g *groups, rm *room, spec *fleet.Spec) *unit {
	rest := append([]*unit(nil), g.leaving...)
	for len(rest) > 0 {
		u := leastUseful(rest, rm.nodes)
		if rm.fitsWithout(u, spec) {
			return u
		}
		for i := range rest {
			if rest[i] == u {
				rest = append(rest[:i], rest[i+1:]...)
				break
			}
		}
	}
	return nil
}

// allowed is how many starts the back-off lets through now, beside the fresh
// replicas that there are.
func (d *decision) allowed(now time.Time, b *backoff, fresh []*unit) int {
	other := d.need - b.owed // do not replace failed ones: lost with a node, or new
	if !b.failing {
		n := d.need
		if b.owed > 0 && now.Before(b.notBefore) {
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
		other = 0 // nothing shows that the revision works
	}
	switch {
	case count(fresh, func(u *unit) bool { return since(u) || !u.ready() }) > 0:
		return other // a probe is out
	case now.Before(b.notBefore):
		d.wakeAt(b.notBefore)
		return other
	}
	return max(other, 1)
}

func (d *decision) wakeAt(t time.Time) {
	if d.wake.IsZero() || t.Before(d.wake) {
		d.wake = t
	}
}
