package reconcile

import (
	"fmt"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// progress measures how long a rollout has gone without progress. Each replica that
// becomes available is progress. The time while an image is pulled does not count,
// nor does that while the server is stopped, or while the rollout waits for a person or
// for a trial. It begins anew with each leader.
type progress struct {
	available int           // most replicas that have been available
	lacking   time.Duration // without progress
	at        time.Time     // of the last look; zero: none yet
	counts    bool          // the time since then counts
}

// observe takes a look. It reports whether the rollout has missed its deadline. If
// it has not, wake is when it will have.
func (p *progress) observe(w *want, now time.Time) (late bool, wake time.Time) {
	d := w.desired
	policy := d.Spec.UpdatePolicy()
	if p.counts {
		p.lacking += now.Sub(p.at)
	}
	ready, pulling := 0, 0
	for _, u := range w.units {
		if outdated(d, u) || u.stopping() || u.isSpare() && !d.Spec.PerSession() {
			continue
		}
		if yes, _ := available(u, policy.MinReady, now); yes {
			ready++
		}
		if u.phase == fleet.PhasePulling {
			pulling++
		}
	}
	waiting := waits(d, ready)
	if d.Spec.PerSession() {
		ready, waiting = sessionProgress(w)
		waiting = waiting || waits(d, ready)
	}
	if ready > p.available {
		p.available, p.lacking = ready, 0
	}
	p.at, p.counts = now, d.Rolling() && pulling == 0 && !waiting
	if d.StableTemplate == nil || policy.ProgressDeadline == 0 {
		return false, time.Time{} // there is nothing to return to
	}
	if left := policy.ProgressDeadline - p.lacking; left > 0 {
		if p.counts {
			wake = now.Add(left)
		}
		return false, wake
	}
	return p.counts, time.Time{}
}

// waits reports whether a rollout waits for something other than its replicas.
// ready is how many of those are available.
func waits(d *fleet.Server, ready int) bool {
	if d.Rollout.Paused || d.Rollout.Held != "" || d.Target.Stopped() {
		return true
	}
	n, trying := trial(d)
	return d.StableTemplate != nil && trying && ready >= n
}

// lateReason says why a rollout is rolled back.
func lateReason(w *want, d *decision) string {
	t := countUnits(w)
	why := fmt.Sprintf("revision %d made no progress for %s (progress_deadline): %d of %s ready",
		w.desired.Revision, w.desired.Spec.UpdatePolicy().ProgressDeadline, t.fresh, replicas(max(1, w.desired.Target.Replicas))) // an idle server runs one for its new revision
	// A failure may be why no further replica finds room: the stable revision took it back.
	for _, cause := range []string{d.unplaced, w.back.last} {
		if cause != "" {
			why = cause + "; " + why
		}
	}
	return why
}
