package desired

import (
	"fmt"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Foreign tells why a command cannot be one of the log that s comes from: the
// leader's state was put back from a backup or from one survivor, and s is
// still of the time before. What they have in common ends there, and the log
// alone does not show it.
func (s *State) Foreign(c Command) error {
	if s == nil || c.Lead == nil || c.Lead.Incarnation == 0 || s.Incarnation == 0 || c.Lead.Incarnation == s.Incarnation {
		return nil
	}
	return fmt.Errorf("the leader's state is of incarnation %d of the cluster, this one of %d", c.Lead.Incarnation, s.Incarnation)
}

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
