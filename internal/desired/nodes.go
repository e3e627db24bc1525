package desired

import (
	"fmt"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// SetNode changes what is intended for a node. It holds the verb, not the
// resulting intent: of two that race, the second must not undo the first.
type SetNode struct {
	Name       fleet.NodeID `json:"name"`
	Verb       NodeVerb     `json:"verb"`
	DrainUntil time.Time    `json:"drain_until,omitzero"` // with Drain
}

// NodeVerb is what operators do to nodes.
type NodeVerb string

// The verbs.
const (
	Cordon   NodeVerb = "cordon"   // place nothing new there; a drain goes on
	Drain    NodeVerb = "drain"    // cordon, and move its replicas away before a deadline
	Uncordon NodeVerb = "uncordon" // make it an ordinary node again
)

func (SetNode) Tag() string        { return "node" }
func (c SetNode) Subject() Subject { return Subject{Node: c.Name} }
func (c SetNode) String() string   { return string(c.Verb) + " " + c.Subject().String() }

func (c SetNode) apply(d *draft) error {
	if err := fleet.CheckNodeID(c.Name); err != nil {
		return fmt.Errorf("%w: %w", fleet.ErrInvalid, err)
	}
	had := d.next.Nodes[c.Name]
	var want fleet.NodeIntent
	var kind ChangeKind
	switch c.Verb {
	case Cordon:
		want, kind = fleet.NodeIntent{Cordoned: true, DrainUntil: had.DrainUntil}, Cordoned
	case Drain:
		if err := checkTime(c.DrainUntil); err != nil {
			return fmt.Errorf("%w: node %s: drain: %w", fleet.ErrInvalid, c.Name, err)
		}
		if c.DrainUntil.IsZero() {
			return fmt.Errorf("%w: node %s: a drain needs a deadline", fleet.ErrInvalid, c.Name)
		}
		want, kind = fleet.NodeIntent{Cordoned: true, DrainUntil: plainTime(c.DrainUntil)}, Draining
	case Uncordon:
		kind = Uncordoned
	default:
		return fmt.Errorf("%w: node %s: unknown verb %q", fleet.ErrInvalid, c.Name, c.Verb)
	}
	if had.Cordoned == want.Cordoned && had.DrainUntil.Equal(want.DrainUntil) {
		return nil
	}
	nodes := own(&d.next.Nodes, &d.ownNodes)
	if want.Cordoned {
		nodes[c.Name] = want
	} else {
		delete(nodes, c.Name)
	}
	d.changed(Change{Node: c.Name, Kind: kind})
	return nil
}

// SetKnown replaces the list of nodes that may be running replicas. It is the
// leader's memory, which readers do not see.
type SetKnown struct {
	Nodes []fleet.NodeID `json:"nodes"`
}

func (SetKnown) Tag() string      { return "known" }
func (SetKnown) Subject() Subject { return Subject{} }
func (SetKnown) String() string   { return "remember the nodes in use" }

// apply sorts the list, so that the state does not depend on the order in which
// it was gathered.
func (c SetKnown) apply(d *draft) error {
	nodes := slices.Compact(slices.Sorted(slices.Values(c.Nodes)))
	if !slices.Equal(nodes, d.next.Known) {
		d.next.Known = nodes
		d.touched = true
	}
	return nil
}
