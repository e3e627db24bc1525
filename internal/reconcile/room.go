package reconcile

import (
	"maps"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/schedule"
)

type node = schedule.Node

// room is what the nodes have left while a plan is made. Each planned start takes
// its part at once.
type room struct {
	*schedule.Room
	workers int // connected and not draining
	// restartsUntil is until when a worker that has stopped may come back. Zero
	// means that none is expected.
	restartsUntil time.Time
	// noSpares is a node whose worker starts ordinary replicas instead of spares; "" if
	// there is none.
	noSpares fleet.NodeID
}

func newRoom(nodes []node, units []*unit) *room {
	r := &room{Room: schedule.NewRoom(slices.Clone(nodes))}
	for i := range nodes {
		if nodes[i].Connected {
			r.workers++
		}
	}
	for _, u := range units {
		r.Take(u.node, u.resources)
	}
	return r
}

// countFor sets the nodes' counts to those of one server: its replicas that run
// there, and those of them that are to stay.
func (r *room) countFor(running, staying []*unit) {
	r.ResetCounts()
	for _, u := range running {
		r.Count(u.node, true, false)
	}
	for _, u := range staying {
		r.Count(u.node, false, true)
	}
}

// countSpare counts an activated spare, whose room is taken already, as a replica
// that is to stay.
func (r *room) countSpare(u *unit) { r.Count(u.node, false, true) }

// spreadOf returns how many replicas of the counted server are to stay on a node.
func (r *room) spreadOf(id fleet.NodeID) int {
	if n := r.Node(id); n != nil {
		return n.Spread
	}
	return 0
}

// zoneOf returns the zone of a node, "" if the node is not known.
func (r *room) zoneOf(id fleet.NodeID) string {
	if n := r.Node(id); n != nil {
		return n.Zone
	}
	return ""
}

// mayAppear reports whether there may yet be room for a replica of a server on a
// node that is not being emptied. wake is when the answer may change with time
// alone.
func (r *room) mayAppear(now time.Time, s *fleet.Server) (may bool, wake time.Time) {
	if now.Before(r.restartsUntil) {
		return true, r.restartsUntil
	}
	if schedule.CouldPlace(request(&s.Spec.Template, &s.Spec), r.Nodes()) {
		return true, time.Time{}
	}
	return s.StableTemplate != nil && schedule.CouldPlace(request(s.StableTemplate, &s.Spec), r.Nodes()), time.Time{}
}

func request(t *fleet.Template, spec *fleet.Spec) schedule.Request {
	return schedule.Request{Template: t, MaxPerNode: spec.MaxReplicasPerNode}
}

func sortedKeys[K ~string, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
