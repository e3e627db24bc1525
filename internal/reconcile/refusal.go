package reconcile

import (
	"maps"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// refusalTime is how long a worker that has refused a start gets no other. By
// then its report says why, or it is tried again.
const refusalTime = 5 * time.Second

// startRefusals remembers which workers have refused a start, until their
// reports say so, too. It also remembers which ones cannot start spares.
type startRefusals struct {
	draining map[fleet.LifeID]bool
	unfit    map[fleet.LifeID]unfitness
	noSpares map[fleet.LifeID]bool
}

// unfitness is why a worker starts no replicas, and for how long that counts.
type unfitness struct {
	reason string
	until  time.Time
}

func newStartRefusals() *startRefusals {
	return &startRefusals{
		draining: make(map[fleet.LifeID]bool), unfit: make(map[fleet.LifeID]unfitness), noSpares: make(map[fleet.LifeID]bool),
	}
}

func (r *startRefusals) clone() *startRefusals {
	return &startRefusals{draining: maps.Clone(r.draining), unfit: maps.Clone(r.unfit), noSpares: maps.Clone(r.noSpares)}
}

// recordDraining records that a worker is stopping.
func (r *startRefusals) recordDraining(life fleet.LifeID) { r.draining[life] = true }

// recordUnfit records that a worker cannot start replicas for now.
func (r *startRefusals) recordUnfit(life fleet.LifeID, reason string, now time.Time) {
	r.unfit[life] = unfitness{reason, now.Add(refusalTime)}
}

// recordNoSpares records that a worker has started an ordinary replica when it was told
// to start a spare: it is of an older version.
func (r *startRefusals) recordNoSpares(life fleet.LifeID) { r.noSpares[life] = true }

// isDraining reports whether a worker is stopping, by its report or its answer.
func (r *startRefusals) isDraining(n *observe.Node) bool {
	return n.Draining || r.draining[n.Member.Life]
}

// unfitReason returns why a worker starts no replicas, "" if it does.
func (r *startRefusals) unfitReason(n *observe.Node, now time.Time) string {
	if u := r.unfit[n.Member.Life]; n.Unfit == "" && now.Before(u.until) {
		return u.reason
	}
	return n.Unfit
}

// forget drops what lives that are not among these have said.
func (r *startRefusals) forget(lives map[fleet.LifeID]bool) {
	maps.DeleteFunc(r.draining, func(l fleet.LifeID, _ bool) bool { return !lives[l] })
	maps.DeleteFunc(r.noSpares, func(l fleet.LifeID, _ bool) bool { return !lives[l] })
	maps.DeleteFunc(r.unfit, func(l fleet.LifeID, _ unfitness) bool { return !lives[l] })
}
