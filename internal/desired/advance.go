package desired

import (
	"cmp"
	"fmt"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// SetRollout pauses or resumes the rollout that is under way. Resuming also ends a
// hold by the leader: someone has looked at the new revision, so it needs no further
// check, and at a canary's manual gate the next step begins.
type SetRollout struct {
	Name  fleet.ServerName `json:"name"`
	Verb  RolloutVerb      `json:"verb"`
	Match Match            `json:"match,omitzero"`
}

// RolloutVerb is what users do to rollouts.
type RolloutVerb string

// The verbs.
const (
	PauseRollout  RolloutVerb = "pause"
	ResumeRollout RolloutVerb = "resume"
)

func (SetRollout) Tag() string        { return "rollout" }
func (c SetRollout) Subject() Subject { return Subject{Server: c.Name} }
func (c SetRollout) String() string {
	return string(c.Verb) + " the rollout of " + c.Subject().String()
}
func (SetRollout) needs() int { return 3 }

func (c SetRollout) apply(d *draft) error {
	sv, err := d.edit(c.Name)
	if err != nil {
		return err
	}
	if err := d.matchServer(c.Match, c.Name, sv); err != nil {
		return err
	}
	if c.Verb != PauseRollout && c.Verb != ResumeRollout {
		return fmt.Errorf("%w: server %s: unknown verb %q of a rollout", fleet.ErrInvalid, c.Name, c.Verb)
	}
	if sv.Rollout == nil {
		return fmt.Errorf("%w: no rollout of server %s is under way, so there is nothing to %s", fleet.ErrConflict, c.Name, c.Verb)
	}
	next, kind := *sv.Rollout, RolloutPaused
	if c.Verb == PauseRollout {
		next.Paused = true
	} else {
		kind = RolloutResumed
		d.resume(&next, &sv.Spec)
	}
	if next == *sv.Rollout {
		return nil
	}
	sv.Rollout = &next
	d.put(c.Name, sv, Change{Server: c.Name, Kind: kind, Revision: sv.Revision})
	return nil
}

// resume lets a rollout go on. Someone who only ends a pause has not judged the new
// revision, so it is still checked.
func (d *draft) resume(r *Rollout, spec *fleet.Spec) {
	canary := spec.UpdatePolicy().Canary
	if r.Held != "" && r.Checked && canary != nil && canary.Gate == fleet.GateManual {
		r.Step++
	}
	r.Checked = r.Checked || r.Held != ""
	r.Paused, r.Held = false, ""
}

// AdvanceRollout records how far a rollout has come. The leader writes it. It is
// ignored if there is no rollout of this revision and generation any more, or if it
// has come further already.
type AdvanceRollout struct {
	Name       fleet.ServerName `json:"name"`
	Revision   fleet.Revision   `json:"revision"`
	Generation uint64           `json:"generation"`
	Checked    bool             `json:"checked"`
	Step       int              `json:"step"`
	Held       string           `json:"held"`
	Warning    string           `json:"warning,omitempty"` // "": as before
}

func (AdvanceRollout) Tag() string        { return "rollout_step" }
func (c AdvanceRollout) Subject() Subject { return Subject{Server: c.Name} }
func (c AdvanceRollout) String() string   { return "advance the rollout of " + c.Subject().String() }
func (AdvanceRollout) needs() int         { return 3 }

func (c AdvanceRollout) apply(d *draft) error {
	sv := d.rolling(c.Name, c.Revision, c.Generation)
	if sv == nil || c.Step < sv.Rollout.Step || sv.Rollout.Checked && !c.Checked {
		return nil
	}
	next := *sv
	r := *sv.Rollout
	next.Rollout = &r
	change := Change{Server: c.Name, Revision: sv.Revision}
	if c.Step > r.Step {
		change.Kind, change.Fields = RolloutAdvanced, []Difference{counted("step", r.Step, c.Step)}
	}
	if c.Held != "" && c.Held != r.Held {
		change.Kind, change.Reason = RolloutHeld, c.Held
	}
	r.Checked, r.Step, r.Held, r.Warning = c.Checked, c.Step, c.Held, cmp.Or(c.Warning, r.Warning)
	switch {
	case r == *sv.Rollout:
	case change.Kind == "":
		d.put(c.Name, &next)
	default:
		d.put(c.Name, &next, change)
	}
	return nil
}
