package reconcile

import (
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// groups are a server's replicas, by what is to become of them.
type groups struct {
	fresh    []*unit // to stay
	away     []*unit // to stay, on nodes that cannot be reached for now
	stable   []*unit // of the stable revision: kept up until they are replaced
	leaving  []*unit // to go once replaced: older still, unhealthy, on a draining node, or moved
	stopping []*unit
	spares   []*unit // of the wanted revision, to stay
	// outdatedSpares are to go, but for those of the stable revision during a
	// rollout.
	outdatedSpares []*unit
}

func group(w *want) groups {
	var g groups
	for _, u := range w.units {
		d := w.desired
		switch {
		case u.stopping():
			g.stopping = append(g.stopping, u)
		case u.isSpare() && (d == nil || u.unhealthy || u.leaves || outdated(d, u)):
			g.outdatedSpares = append(g.outdatedSpares, u)
		case u.isSpare():
			g.spares = append(g.spares, u)
		case d == nil || u.unhealthy || u.leaves || u.moves(d):
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

// outdated reports whether a replica is of another revision than the wanted one,
// or of an earlier generation.
func outdated(d *fleet.Server, u *unit) bool {
	return u.rev != d.Revision || u.gen < d.Generation
}

func (g *groups) stop(u *unit) {
	g.fresh, g.away = without(g.fresh, u), without(g.away, u)
	g.stable, g.leaving = without(g.stable, u), without(g.leaving, u)
	g.spares, g.outdatedSpares = without(g.spares, u), without(g.outdatedSpares, u)
	g.stopping = append(g.stopping, u)
}

// old returns the replicas that go once they are replaced.
func (g *groups) old() []*unit { return slices.Concat(g.leaving, g.stable) }

// anyServes reports whether any replica serves.
func (g *groups) anyServes() bool {
	for _, list := range [][]*unit{g.fresh, g.stable, g.leaving} {
		if slices.ContainsFunc(list, (*unit).serving) {
			return true
		}
	}
	return false
}

// reconnectTime is how long a node may be unreachable before a server that has no
// other serving replica gets one. A stream that only broke is back sooner than a
// replica could start.
const reconnectTime = 500 * time.Millisecond

// noneServes reports whether no replica serves, and has not for longer than nodes
// take to reconnect. If it has not been that long, wake is when it will have been.
func (g *groups) noneServes(now time.Time) (yes bool, wake time.Time) {
	if g.anyServes() {
		return false, time.Time{}
	}
	for _, list := range [][]*unit{g.away, g.stable} {
		for _, u := range list {
			if over := u.since.Add(reconnectTime); !u.reachable && over.After(now) {
				wake = latest(wake, over)
			}
		}
	}
	return wake.IsZero(), wake
}

// running counts the replicas that limit how many more may start. Those on nodes
// that drain do not: their replacements must not wait. Nor do those that are known
// to drain, because their calls may take long.
func (g *groups) running() (n int) {
	for _, list := range [][]*unit{g.fresh, g.away, g.stable, g.leaving, g.stopping} {
		n += count(list, func(u *unit) bool { return !u.leaves && u.phase < fleet.PhaseDraining && !u.isSpare() })
	}
	return n
}

// without returns a copy of the list without u.
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
