package rollout

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mask"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

const (
	// retryAfter is the wait before something that did not work is tried again.
	retryAfter = time.Second
	// maxDeaths is how many replicas may end during the verify calls before the
	// revision fails. One may have been ended by something else.
	maxDeaths = 2
)

// identity names one rollout.
type identity struct {
	server     fleet.ServerName
	revision   fleet.Revision
	generation uint64
	started    time.Time
}

func identify(d *fleet.Server) identity {
	return identity{d.Name, d.Revision, d.Generation, d.Rollout.Started}
}

// trial is what this leader knows of the rollout of a new revision.
type trial struct {
	identity
	stable    fleet.Revision
	notBefore time.Time // of the next check or write

	writing bool // a write is under way

	cancel context.CancelFunc // ends the check under way; nil: there is none
	deaths int                // replicas that ended during checks

	// window has the calls since began, at this step of the canary. Nil: both
	// revisions do not serve yet.
	window *window
	began  time.Time
	step   int
	lookAt uint64 // the number of the new revision's calls at which to judge next
	judged bool   // there were enough calls, at any step
}

// decision is what is to be done for a trial now. At most one of its fields is set.
type decision struct {
	check *check
	write desired.Command
	// said is what the write's event does not say; "": nothing.
	said string
}

// next decides what is to be done. replicas are those of the server, the last that
// have ended too.
func (t *trial) next(now time.Time, d *fleet.Server, sv *desired.Server, snap *observe.Snapshot, replicas []*fleet.Replica) decision {
	r := d.Rollout
	if r.Paused {
		t.window = nil
		return decision{}
	}
	serves := !d.Unchecked() && t.observe(now, d, snap, replicas)
	if t.writing || now.Before(t.notBefore) {
		return decision{}
	}
	if !r.Checked && r.Held == "" {
		if c := t.checkOf(d, sv, snap, replicas); c != nil {
			return decision{check: c}
		}
	}
	if !serves {
		return decision{}
	}
	calls := t.window.calls(t.revision)
	if why := crashing(t.window.crashes(t.stable), t.window.crashes(t.revision), ended(t.window.calls(t.stable)), ended(calls)); why != "" {
		return decision{write: t.fail("it serves worse: " + why + lastFailure(replicas, t.revision))}
	}
	share, canary := d.CanaryShare()
	hold := time.Duration(0)
	if canary {
		hold = d.Spec.UpdatePolicy().Canary.Hold
	}
	over := canary && r.Checked && r.Held == "" && now.Sub(t.began) >= hold
	if !over && ended(calls) < t.lookAt {
		return decision{}
	}
	t.lookAt = max(minCalls, 2*ended(calls))
	verdict := t.verdict()
	t.judged = t.judged || verdict.Judged
	switch {
	case verdict.Worse:
		return decision{write: t.fail("it serves worse: " + verdict.Why + lastFailure(replicas, t.revision))}
	case !over:
		return decision{}
	}
	next := desired.AdvanceRollout{Name: t.server, Revision: t.revision, Generation: t.generation, Checked: true, Step: r.Step}
	said := fmt.Sprintf("canary with %g%% of the calls: %s", share, verdict.Why)
	if d.Spec.UpdatePolicy().Canary.Gate == fleet.GateManual {
		next.Held = said + "; waiting for rollout resume"
		return decision{write: next}
	}
	next.Step++
	return decision{write: next, said: said}
}

// lastFailure says how a replica of a revision has failed last, with its last stderr
// line. It returns "" if none has.
func lastFailure(replicas []*fleet.Replica, rev fleet.Revision) string {
	var last *fleet.Replica
	for _, r := range replicas {
		if r.Revision == rev && r.Phase == fleet.PhaseFailed && (last == nil || r.EndedAt.After(last.EndedAt)) {
			last = r
		}
	}
	if last == nil {
		return ""
	}
	text := "; a replica failed: " + last.Reason
	for _, line := range slices.Backward(last.Log) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, fleet.StdoutMark) {
			if !strings.Contains(last.Reason, line) { // it may quote it
				text += "; stderr: " + line
			}
			break
		}
	}
	return text
}

// verdict judges the calls of the window.
func (t *trial) verdict() Verdict {
	if t.window.replicas == nil {
		return Verdict{Why: fmt.Sprintf("revision %d did not serve meanwhile: nothing to compare with", t.stable)}
	}
	return Judge(t.stable, t.revision, t.window.calls(t.stable), t.window.calls(t.revision))
}

// fail returns the command that rolls the revision back.
func (t *trial) fail(why string) desired.Command {
	return desired.FailRollout{Name: t.server, Revision: t.revision, Generation: t.generation, Reason: why, Unfit: true}
}

// observe takes in the counts of calls. They count only while both revisions serve:
// what happens later says nothing about the difference. It reports false if there is
// nothing to judge or to wait for yet: they have not served beside each other. While a
// server is idle, only the new one does, and nobody calls it. A step of a canary begins
// without the old one, too: that may not serve at all, and the new one be its repair.
func (t *trial) observe(now time.Time, d *fleet.Server, snap *observe.Snapshot, replicas []*fleet.Replica) bool {
	serves := func(rev fleet.Revision) bool {
		return slices.ContainsFunc(replicas, func(r *fleet.Replica) bool { return r.Revision == rev && snap.Serving(r) })
	}
	if t.window != nil && t.step != d.Rollout.Step {
		t.window = nil
	}
	_, canary := d.CanaryShare()
	beside := serves(t.stable) || d.Target.Idle()
	if serves(t.revision) && (beside || canary) {
		if t.window == nil {
			t.window, t.began, t.step, t.lookAt = &window{}, now, d.Rollout.Step, minCalls
		}
		if beside {
			t.window.read(now, slices.Values(replicas))
		}
	}
	return t.window != nil
}

// checkOf returns the check that is to be made now, or nil.
func (t *trial) checkOf(d *fleet.Server, sv *desired.Server, snap *observe.Snapshot, replicas []*fleet.Replica) *check {
	if t.cancel != nil {
		return nil
	}
	fresh := func(yield func(*fleet.Replica) bool) {
		for _, r := range replicas {
			ready := r.Revision == t.revision && snap.Serving(r) && !r.Unhealthy
			if ready && snap.Nodes[r.Node].Worker != nil && !yield(r) {
				return
			}
		}
	}
	first := slices.SortedFunc(iter.Seq[*fleet.Replica](fresh), func(a, b *fleet.Replica) int {
		return cmp.Or(a.ReadyAt.Compare(b.ReadyAt), cmp.Compare(a.ID, b.ID))
	})
	if len(first) == 0 {
		return nil
	}
	old := sv.Catalogue(t.stable)
	for _, r := range replicas {
		if old == nil && r.Revision == t.stable {
			old = snap.Catalogues[r.Catalogue] // too large to be kept
		}
	}
	tools := d.Spec.Tools()
	return &check{
		replica: first[0], worker: snap.Nodes[first[0].Node].Worker, calls: d.Spec.UpdatePolicy().Verify,
		timeout: cmp.Or(d.Spec.CallTimeout, fleet.DefaultCallTimeout), mask: mask.New(d.Spec.Env),
		old: old, new: snap.Catalogues[first[0].Catalogue], offers: d.Spec.Offers, own: tools.Own,
	}
}

// checked decides what to do about a check's result.
func (t *trial) checked(now time.Time, d *fleet.Server, r result) decision {
	t.cancel = nil
	if t.writing || d.Rollout.Paused || d.Rollout.Checked || d.Rollout.Held != "" {
		return decision{} // someone was faster
	}
	if r.died {
		t.deaths++
	}
	if r.again != nil || r.died && t.deaths < maxDeaths {
		t.notBefore = now.Add(retryAfter)
		return decision{}
	}
	if r.failed != "" {
		return decision{write: t.fail(r.failed)}
	}
	next := desired.AdvanceRollout{
		Name: t.server, Revision: t.revision, Generation: t.generation, Step: d.Rollout.Step, Warning: r.breaking,
	}
	policy := d.Spec.UpdatePolicy()
	if r.breaking != "" && policy.OnBreakingTools == fleet.BreakingHold {
		next.Held = "callers may break: " + r.breaking + "; waiting for rollout resume"
		return decision{write: next}
	}
	next.Checked = true
	var said []string
	switch n := len(policy.Verify); {
	case n == 1:
		said = append(said, "passed its verify call")
	case n > 1:
		said = append(said, fmt.Sprintf("passed its %d verify calls", n))
	}
	switch {
	case r.blind:
		said = append(said, "its tools were not compared: those of a revision are not known")
	case r.breaking != "":
		said = append(said, "callers may break: "+r.breaking)
	}
	return decision{write: next, said: strings.Join(said, "; ")}
}
