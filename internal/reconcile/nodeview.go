package reconcile

import (
	"cmp"
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// nodeView is a node as the present pass sees it. Each unit has that of its node, so
// that a pass looks nodes up once, and not for each replica.
type nodeView struct {
	name     fleet.NodeID
	known    bool // the snapshot has the node; else the next two are zero
	node     observe.Node
	intent   fleet.NodeIntent
	ending   bool            // its worker is stopping
	upToDate bool            // by the last pass it had reported all that earlier leaders ordered
	units    int             // on it, whether or not they have been reported
	reserved fleet.Resources // by them
}

// usable reports whether the node takes replicas, apart from a moment without a
// connection.
func (v *nodeView) usable() bool {
	return v.known && !v.node.Lost && !v.ending && v.node.Unfit == "" && !v.intent.Cordoned && v.intent.DrainUntil.IsZero()
}

// nodeViews keeps the views from one pass to the next.
type nodeViews struct {
	byName map[fleet.NodeID]*nodeView
	// list has the known ones by name.
	list []*nodeView
}

// update brings the views up to date with a snapshot, apart from what the units
// reserve.
func (v *nodeViews) update(s *observe.Snapshot, intents map[fleet.NodeID]fleet.NodeIntent, ending func(*observe.Node) bool, upToDate func(fleet.LifeID) bool) {
	same := len(v.list) == len(s.Nodes)
	for name, n := range s.Nodes {
		x := v.of(name)
		same = same && x.known
		x.known, x.node, x.intent = true, n, intents[name]
		x.ending, x.upToDate = ending(&x.node), upToDate(n.Member.Life)
	}
	if same {
		return
	}
	v.list = v.list[:0]
	for name, x := range v.byName {
		if _, x.known = s.Nodes[name]; x.known {
			v.list = append(v.list, x)
			continue
		}
		if x.units == 0 {
			delete(v.byName, name)
		}
		x.node, x.intent, x.ending, x.upToDate = observe.Node{}, intents[name], false, false
	}
	slices.SortFunc(v.list, func(a, b *nodeView) int { return cmp.Compare(a.name, b.name) })
}

// of returns the view of a node, and makes it when first asked for.
func (v *nodeViews) of(name fleet.NodeID) *nodeView {
	x := v.byName[name]
	if x == nil {
		x = &nodeView{name: name}
		v.byName[name] = x
	}
	return x
}

// countUnits counts what runs or is about to, by node.
func (v *nodeViews) countUnits(units []*unit) {
	for _, x := range v.byName {
		x.units, x.reserved = 0, fleet.Resources{}
	}
	for _, u := range units {
		x := v.viewOf(u)
		x.units++
		x.reserved = x.reserved.Add(u.resources)
	}
}

// viewOf returns the view of a unit's node.
func (v *nodeViews) viewOf(u *unit) *nodeView {
	if u.view == nil {
		u.view = v.of(u.node)
	}
	return u.view
}
