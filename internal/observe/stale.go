package observe

import (
	"cmp"
	"maps"
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// touch marks a node as one that may differ from what the last snapshot shows. Every
// change of a node, its current life or its replicas touches it first. The next
// snapshot looks at those nodes only, so that one report costs little however many
// nodes there are. The caller holds mu.
func (o *Observer) touch(n *nodeState) {
	if !n.stale {
		n.stale = true
		o.stale = append(o.stale, n)
	}
}

// updateStale brings the stale nodes of a copy of the last snapshot up to date. It
// returns the replicas by id, given those of the last snapshot. The caller holds mu.
func (o *Observer) updateStale(s *Snapshot, sorted []*fleet.Replica) []*fleet.Replica {
	var changes []change
	for _, n := range o.stale {
		n.stale = false
		was := n.shown
		n.shown = nil
		switch now := o.nodes[n.name]; {
		case now == n && n.current != nil:
			s.Nodes[n.name] = n.show()
			n.shown = slices.SortedFunc(maps.Values(n.current.replicas), byID)
		case now == n || now == nil:
			delete(s.Nodes, n.name)
		}
		changes = appendChanges(changes, was, n.shown)
	}
	o.stale = o.stale[:0]
	slices.SortFunc(changes, change.compare)
	for _, c := range changes {
		if c.to == nil {
			delete(s.Replicas, c.id)
		} else {
			s.Replicas[c.id] = c.to
		}
	}
	return applyChanges(sorted, changes)
}

func byID(a, b *fleet.Replica) int { return cmp.Compare(a.ID, b.ID) }

// change is what has become of one replica.
type change struct {
	id fleet.ReplicaID
	to *fleet.Replica // nil: it is gone
}

// compare orders changes by id. That a replica is gone from one node comes before that
// another node has it.
func (c change) compare(d change) int {
	switch {
	case c.id != d.id:
		return cmp.Compare(c.id, d.id)
	case c.to == nil && d.to != nil:
		return -1
	case c.to != nil && d.to == nil:
		return 1
	}
	return 0
}

// appendChanges appends what makes one list of replicas, sorted by id, the other.
func appendChanges(changes []change, from, to []*fleet.Replica) []change {
	for len(from) > 0 || len(to) > 0 {
		switch {
		case len(to) == 0 || len(from) > 0 && from[0].ID < to[0].ID:
			changes = append(changes, change{id: from[0].ID})
			from = from[1:]
		case len(from) == 0 || to[0].ID < from[0].ID:
			changes = append(changes, change{to[0].ID, to[0]})
			to = to[1:]
		default:
			if from[0] != to[0] {
				changes = append(changes, change{to[0].ID, to[0]})
			}
			from, to = from[1:], to[1:]
		}
	}
	return changes
}

// applyChanges returns a copy of a list sorted by id with the changes, which are sorted
// by id, too. Of several with one id the last counts.
func applyChanges(sorted []*fleet.Replica, changes []change) []*fleet.Replica {
	out := make([]*fleet.Replica, 0, len(sorted)+len(changes))
	for i, c := range changes {
		if i+1 < len(changes) && changes[i+1].id == c.id {
			continue
		}
		at, found := slices.BinarySearchFunc(sorted, c.id, func(r *fleet.Replica, id fleet.ReplicaID) int { return cmp.Compare(r.ID, id) })
		out = append(out, sorted[:at]...)
		if c.to != nil {
			out = append(out, c.to)
		}
		if found {
			at++
		}
		sorted = sorted[at:]
	}
	return append(out, sorted...)
}
