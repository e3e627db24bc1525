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
	nodes   []node // by name
	index   map[fleet.NodeID]int
	workers int // connected and not draining
	// restartsUntil is until when a worker that has stopped may come back. Zero
	// means that none is expected.
	restartsUntil time.Time
}

func newRoom(nodes []node, units []*unit) *room {
	r := &room{nodes: slices.Clone(nodes), index: make(map[fleet.NodeID]int, len(nodes))}
	for i := range r.nodes {
		r.index[r.nodes[i].ID] = i
		if r.nodes[i].Connected {
			r.workers++
		}
	}
	for _, u := range units {
		r.take(u.node, u.resources, 1)
	}
	return r
}

// take reserves (n = 1) or frees (n = -1) a replica's resources on a node.
func (r *room) take(id fleet.NodeID, res fleet.Resources, n int) {
	i, ok := r.index[id]
	if !ok {
		return
	}
	r.nodes[i].Replicas += n
	if n > 0 {
		r.nodes[i].Allocated = r.nodes[i].Allocated.Add(res)
	} else {
		r.nodes[i].Allocated = r.nodes[i].Allocated.Sub(res)
	}
}

// countFor sets the nodes' counts to those of one server: its replicas that run
// there, and those of them that are to stay.
func (r *room) countFor(running, staying []*unit) {
	for i := range r.nodes {
		r.nodes[i].OfServer, r.nodes[i].Spread = 0, 0
	}
	for _, u := range running {
		if i, ok := r.index[u.node]; ok {
			r.nodes[i].OfServer++
		}
	}
	for _, u := range staying {
		if i, ok := r.index[u.node]; ok {
			r.nodes[i].Spread++
		}
	}
}

// place finds a node for one more replica of the counted server, and takes its room.
func (r *room) place(req schedule.Request) (fleet.NodeID, string) {
	id, why := schedule.Place(req, r.nodes)
	if id != "" {
		i := r.index[id]
		r.nodes[i].OfServer++
		r.nodes[i].Spread++
		r.take(id, req.Template.Resources, 1)
	}
	return id, why
}

// countSpare counts an activated spare, whose room is taken already, as a replica
// that is to stay.
func (r *room) countSpare(u *unit) {
	if i, ok := r.index[u.node]; ok {
		r.nodes[i].Spread++
	}
}

// spreadOf returns how many replicas of the counted server are to stay on a node.
func (r *room) spreadOf(id fleet.NodeID) int {
	if i, ok := r.index[id]; ok {
		return r.nodes[i].Spread
	}
	return 0
}

// mayAppear reports whether there may yet be room for a replica of a server on a
// node that is not being emptied. wake is when the answer may change with time
// alone.
func (r *room) mayAppear(now time.Time, s *fleet.Server) (may bool, wake time.Time) {
	if now.Before(r.restartsUntil) {
		return true, r.restartsUntil
	}
	if schedule.CouldPlace(request(&s.Spec.Template, &s.Spec), r.nodes) {
		return true, time.Time{}
	}
	return s.StableTemplate != nil && schedule.CouldPlace(request(s.StableTemplate, &s.Spec), r.nodes), time.Time{}
}

// fitsWithout reports whether a replica of the counted server would find a node if
// u were gone.
func (r *room) fitsWithout(u *unit, req schedule.Request) bool {
	i, ok := r.index[u.node]
	if !ok {
		return false
	}
	was := r.nodes[i]
	defer func() { r.nodes[i] = was }()
	r.take(u.node, u.resources, -1)
	r.nodes[i].OfServer--
	id, _ := schedule.Place(req, r.nodes)
	return id != ""
}

func request(t *fleet.Template, spec *fleet.Spec) schedule.Request {
	return schedule.Request{Template: t, MaxPerNode: spec.MaxReplicasPerNode}
}

func sortedKeys[K ~string, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
