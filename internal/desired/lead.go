package desired

import (
	"fmt"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// BeginTenure makes a controller the leader. The first one founds the cluster.
type BeginTenure struct {
	Controller fleet.ControllerID `json:"controller"`
	Name       fleet.NodeID       `json:"name"`
	Cluster    fleet.ClusterID    `json:"cluster"` // fresh and random; used only to found the cluster
	Expect     int                `json:"expect"`  // used only to found the cluster
	// Incarnation is that of the leader's state; 0 before the cluster is founded.
	// A state of another incarnation does not belong to this log: see Foreign.
	Incarnation fleet.Incarnation `json:"incarnation,omitempty"`
}

func (BeginTenure) Tag() string      { return "lead" }
func (BeginTenure) Subject() Subject { return Subject{} }
func (c BeginTenure) String() string { return "begin the tenure of controller " + string(c.Name) }

func (c BeginTenure) apply(d *draft) error {
	if d.next.Cluster == "" {
		if c.Cluster == "" {
			return fmt.Errorf("%w: the cluster to found has no id", fleet.ErrInvalid)
		}
		d.next.Cluster = c.Cluster
		d.next.Incarnation = max(1, d.next.Incarnation)
		d.next.Expect = max(1, c.Expect)
	}
	d.next.Lead = Lead{Controller: c.Controller, Name: c.Name, Term: fleet.Epoch(d.term), Index: d.index}
	d.changed()
	return nil
}

// Foreign returns an error if a command cannot belong to the log that s was made
// from: the leader's state was restored from a backup or recovered from one
// survivor, and s is from before that. The log alone does not show it.
func (s *State) Foreign(c Command) error {
	lead, ok := c.(BeginTenure)
	if s == nil || !ok || lead.Incarnation == 0 || s.Incarnation == 0 || lead.Incarnation == s.Incarnation {
		return nil
	}
	return fmt.Errorf("the leader's state is of incarnation %d of the cluster, this one of %d", lead.Incarnation, s.Incarnation)
}
