package desired

import (
	"fmt"
	"strconv"
	"time"
)

// RolloutTime is how long a rollout may take before it counts as stuck.
const RolloutTime = 10 * time.Minute

// rollOut begins the way from what is stable to what is wanted.
func (d *draft) rollOut(sv *Server) {
	sv.Rollout = &Rollout{From: sv.Stable, To: sv.Revision, Started: d.now, Deadline: d.now.Add(RolloutTime)}
}

func (d *draft) rolledOut(c *RolledOut) {
	sv := d.next.Servers[c.Name]
	if sv == nil || sv.Revision != c.Revision || sv.Generation != c.Generation {
		return // it has moved on
	}
	if sv.Rollout == nil && sv.Stable == sv.Revision {
		return
	}
	next := *sv
	next.Rollout = nil
	next.Stable = next.Revision
	d.put(c.Name, &next, Change{Server: c.Name, Kind: Rolled, Revision: next.Revision})
}

func (d *draft) scale(c *Scale) error {
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

func (d *draft) restart(c *Restart) error {
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
