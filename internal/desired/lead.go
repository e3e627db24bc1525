package desired

import (
	"fmt"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// lead begins a tenure; the first one founds the cluster.
func (d *draft) lead(c *LeadCommand) error {
	if d.next.Cluster == "" {
		if c.Cluster == "" {
			return fmt.Errorf("%w: the cluster to found has no id", fleet.ErrInvalid)
		}
		d.next.Cluster = c.Cluster
		d.next.Incarnation = max(1, d.next.Incarnation)
		d.next.Expect = max(1, c.Expect)
	}
	d.next.Lead = Lead{Controller: c.Controller, Name: c.Name, Term: fleet.Epoch(d.term), Index: d.index}
	d.seen()
	return nil
}
