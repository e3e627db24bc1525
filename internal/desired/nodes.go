package desired

import (
	"fmt"
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func (d *draft) setNode(c *SetNode) error {
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
	d.seen(Change{Node: c.Name, Kind: kind})
	return nil
}

// setKnown keeps the list in order, so that it is the same however it was
// gathered. Readers do not see it: it is the leader's memory.
func (d *draft) setKnown(c *SetKnown) {
	nodes := slices.Compact(slices.Sorted(slices.Values(c.Nodes)))
	if slices.Equal(nodes, d.next.Known) {
		return
	}
	d.next.Known = nodes
	d.touched = true
}
