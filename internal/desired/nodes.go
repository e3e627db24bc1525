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
	want := c.Intent
	if err := checkTime(want.DrainUntil); err != nil {
		return fmt.Errorf("%w: node %s: drain: %w", fleet.ErrInvalid, c.Name, err)
	}
	want.DrainUntil = plainTime(want.DrainUntil)
	want.Cordoned = want.Cordoned || !want.DrainUntil.IsZero()

	had := d.next.Nodes[c.Name]
	moved := !had.DrainUntil.Equal(want.DrainUntil)
	if had.Cordoned == want.Cordoned && !moved {
		return nil
	}
	kind := Cordoned
	switch {
	case !want.Cordoned:
		kind = Uncordoned
	case !want.DrainUntil.IsZero():
		kind = Draining
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
