package desired

import (
	"fmt"
	"strconv"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// RolloutTime is how long a rollout may take before it counts as stuck.
const RolloutTime = 10 * time.Minute

// rollOut begins the rollout of the server's revision and generation.
func (d *draft) rollOut(sv *Server) {
	sv.Rollout = &Rollout{From: sv.Stable, To: sv.Revision, Started: d.now, Deadline: d.now.Add(RolloutTime)}
}

// EndRollout records that all wanted replicas are of this revision and
// generation, and serve. The leader writes it once per rollout. It is ignored
// when the server has another revision or generation by now.
type EndRollout struct {
	Name       fleet.ServerName `json:"name"`
	Revision   fleet.Revision   `json:"revision"`
	Generation uint64           `json:"generation"`
}

func (EndRollout) Tag() string        { return "rolled_out" }
func (c EndRollout) Subject() Subject { return Subject{Server: c.Name} }
func (c EndRollout) String() string   { return "end the rollout of " + c.Subject().String() }

func (c EndRollout) apply(d *draft) error {
	sv := d.next.Servers[c.Name]
	if sv == nil || sv.Revision != c.Revision || sv.Generation != c.Generation {
		return nil
	}
	if sv.Rollout == nil && sv.Stable == sv.Revision {
		return nil
	}
	next := *sv
	next.Rollout = nil
	next.Stable = next.Revision
	d.put(c.Name, &next, Change{Server: c.Name, Kind: RolledOut, Revision: next.Revision})
	return nil
}

// Scale sets a server's target. The ETag does not cover the target.
type Scale struct {
	Name     fleet.ServerName `json:"name"`
	Replicas int              `json:"replicas"`
	Match    Match            `json:"match,omitzero"`
}

func (Scale) Tag() string        { return "scale" }
func (c Scale) Subject() Subject { return Subject{Server: c.Name} }
func (c Scale) String() string   { return "scale " + c.Subject().String() }

func (c Scale) apply(d *draft) error {
	sv, err := d.edit(c.Name)
	if err != nil {
		return err
	}
	if err := d.matchServer(c.Match, c.Name, sv); err != nil {
		return err
	}
	if err := checkReplicas(c.Name, c.Replicas); err != nil {
		return err
	}
	if sv.Replicas == c.Replicas {
		return nil
	}
	from := sv.Replicas
	sv.Replicas = c.Replicas
	d.put(c.Name, sv, Change{Server: c.Name, Kind: Scaled, Revision: sv.Revision, Fields: []Difference{
		{Field: "replicas", From: strconv.Itoa(from), To: strconv.Itoa(c.Replicas)},
	}})
	return nil
}

// Restart replaces all replicas of a server by new ones of the same revision.
type Restart struct {
	Name  fleet.ServerName `json:"name"`
	Key   string           `json:"key,omitempty"` // Idempotency-Key
	Match Match            `json:"match,omitzero"`
}

func (Restart) Tag() string        { return "restart" }
func (c Restart) Subject() Subject { return Subject{Server: c.Name} }
func (c Restart) String() string   { return "restart " + c.Subject().String() }

func (c Restart) apply(d *draft) error {
	return d.once(c.Key, fmt.Sprintf("restart %s", c.Name), c.Name, func() error {
		sv, err := d.edit(c.Name)
		if err != nil {
			return err
		}
		if err := d.matchServer(c.Match, c.Name, sv); err != nil {
			return err
		}
		sv.Generation++
		d.rollOut(sv)
		d.put(c.Name, sv, Change{Server: c.Name, Kind: Restarted, Revision: sv.Revision})
		return nil
	})
}
