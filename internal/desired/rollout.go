package desired

import (
	"fmt"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// rolloutTime is how far the deadline in the state is from a rollout's start. The
// leader judges the progress of rollouts itself.
const rolloutTime = 10 * time.Minute

// rollOut begins the rollout of the server's revision and generation. It is not yet
// put.
func (d *draft) rollOut(name fleet.ServerName, sv *Server) {
	next := &Rollout{From: sv.Stable, To: sv.Revision, Started: d.now, Deadline: d.now.Add(rolloutTime)}
	if old := d.next.Servers[name]; old != nil && old.Rollout != nil {
		before := old.Fleet(name)
		switch {
		case old.Revision == sv.Revision: // restarted in mid-rollout: it has come that far
			next.Checked, next.Warning, next.Step = old.Rollout.Checked, old.Rollout.Warning, old.Rollout.Step
		case before.Unchecked():
			sv.setUnchecked(old.Revision, true)
		}
	}
	sv.setUnchecked(sv.Revision, false)
	sv.Rollout = next
}

// setUnchecked sets whether a revision was given up before it had passed its checks.
func (sv *Server) setUnchecked(n fleet.Revision, unchecked bool) {
	if rev := sv.Kept(n); rev != nil && rev.Unchecked != unchecked {
		sv.Revisions = slices.Clone(sv.Revisions) // older states share it
		sv.Kept(n).Unchecked = unchecked
	}
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
	if d.next.Format >= 3 {
		next.Revisions = slices.Clone(sv.Revisions)
		next.Kept(next.Revision).Served = true
	}
	d.put(c.Name, &next, Change{Server: c.Name, Kind: RolledOut, Revision: next.Revision})
	return nil
}

// FailRollout gives up the rollout of a revision and generation: the server
// returns to its stable revision, and the one that failed is remembered. The
// leader writes it. It is ignored if there is no such rollout any more, or no other
// revision to return to.
type FailRollout struct {
	Name       fleet.ServerName `json:"name"`
	Revision   fleet.Revision   `json:"revision"`
	Generation uint64           `json:"generation"`
	Reason     string           `json:"reason"`
	Unfit      bool             `json:"unfit,omitempty"` // see fleet.FailedRevision
}

func (FailRollout) Tag() string        { return "rollback_failed" }
func (c FailRollout) Subject() Subject { return Subject{Server: c.Name} }
func (c FailRollout) String() string   { return "give up the rollout of " + c.Subject().String() }
func (FailRollout) needs() int         { return 3 }

func (c FailRollout) apply(d *draft) error {
	sv := d.rolling(c.Name, c.Revision, c.Generation)
	if sv == nil || sv.Stable == sv.Revision {
		return nil
	}
	to := sv.Kept(sv.Stable)
	if to == nil {
		return nil
	}
	next := *sv
	next.Revision = to.Number
	next.Spec.Template = to.Template
	next.Failed = &fleet.FailedRevision{Revision: sv.Revision, Reason: c.Reason, At: d.now, Unfit: c.Unfit}
	d.write(&next)
	d.rollOut(c.Name, &next)
	next.Rollout.From = sv.Revision
	d.put(c.Name, &next, Change{
		Server: c.Name, Kind: RolledBack, Revision: to.Number, Fields: DiffTemplates(&sv.Spec.Template, &to.Template),
		Reason: fmt.Sprintf("revision %d failed: %s", sv.Revision, c.Reason),
	})
	return nil
}

// rolling returns the server whose rollout of this revision and generation is
// under way, or nil. Callers must not change it.
func (d *draft) rolling(name fleet.ServerName, rev fleet.Revision, generation uint64) *Server {
	sv := d.next.Servers[name]
	if sv == nil || sv.Rollout == nil || sv.Revision != rev || sv.Generation != generation {
		return nil
	}
	return sv
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
		d.rollOut(c.Name, sv)
		d.put(c.Name, sv, Change{Server: c.Name, Kind: Restarted, Revision: sv.Revision})
		return nil
	})
}
