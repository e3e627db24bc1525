package reconcile

import (
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// groups are a server's replicas by what is to become of them.
type groups struct {
	fresh    []*unit // to stay
	away     []*unit // to stay, on nodes that cannot be reached for the moment
	stable   []*unit // of the stable revision: to go once replaced, kept up until then
	leaving  []*unit // to go once replaced: older still, unhealthy, on a draining node
	stopping []*unit // going
}

func group(w *want) groups {
	var g groups
	for _, u := range w.units {
		d := w.desired
		switch {
		case u.stopping():
			g.stopping = append(g.stopping, u)
		case d == nil || u.unhealthy || u.leaves:
			g.leaving = append(g.leaving, u)
		case u.rev == d.Stable && d.StableTemplate != nil && u.rev != d.Revision:
			g.stable = append(g.stable, u)
		case outdated(d, u):
			g.leaving = append(g.leaving, u)
		case u.reachable:
			g.fresh = append(g.fresh, u)
		default:
			g.away = append(g.away, u)
		}
	}
	return g
}

// outdated tells whether a replica is not of the revision and generation
// wanted.
func outdated(d *fleet.Server, u *unit) bool {
	return u.rev != d.Revision || u.gen < d.Generation
}

func (g *groups) stop(u *unit) {
	g.fresh, g.away = without(g.fresh, u), without(g.away, u)
	g.stable, g.leaving = without(g.stable, u), without(g.leaving, u)
	g.stopping = append(g.stopping, u)
}

// old is what goes once it is replaced.
func (g *groups) old() []*unit { return slices.Concat(g.leaving, g.stable) }

// lit tells whether any replica serves.
func (g *groups) lit() bool {
	for _, list := range [][]*unit{g.fresh, g.stable, g.leaving} {
		if slices.ContainsFunc(list, (*unit).serving) {
			return true
		}
	}
	return false
}

// blip is how long a node may be out of reach before a server without any other
// replica that serves gets another one: a stream that only broke is back sooner
// than a replica could start.
const blip = 500 * time.Millisecond

// dark tells whether nothing serves, and not only for a blip; if only that,
// when it will have been more.
func (g *groups) dark(now time.Time) (dark bool, wake time.Time) {
	if g.lit() {
		return false, time.Time{}
	}
	for _, list := range [][]*unit{g.away, g.stable} {
		for _, u := range list {
			if over := u.since.Add(blip); u.ready() && !u.reachable && over.After(now) {
				wake = latest(wake, over)
			}
		}
	}
	return wake.IsZero(), wake
}

// running counts what takes room, but for what moves off a node that is to be
// emptied: that must not wait.
func (g *groups) running() (n int) {
	for _, list := range [][]*unit{g.fresh, g.away, g.stable, g.leaving, g.stopping} {
		n += count(list, func(u *unit) bool { return !u.leaves })
	}
	return n
}

// without returns the list without u; the list itself stays as it is.
func without(list []*unit, u *unit) []*unit {
	if i := slices.Index(list, u); i >= 0 {
		return slices.Concat(list[:i], list[i+1:])
	}
	return list
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
