package reconcile

import (
	"fmt"
	"math"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// aims are how many replicas of the wanted and of the old revision a plan works
// towards.
type aims struct {
	fresh int // of the wanted revision
	// kept is how many old replicas stay, ready ones, unless steady is set: then it
	// is how many there are to be.
	kept int
	// surge is how many replicas more than wanted may run.
	surge int
	// steady means that the rollout does not go on for now: it is paused or held, or
	// the new revision is tried first. Old replicas that are missing are started.
	steady bool
}

// aimsOf returns what to work towards. available is how many fresh replicas have
// been READY for min_ready, old how many old ones there are.
func aimsOf(d *fleet.Server, g *groups, available int) aims {
	target := d.Target.Replicas
	policy := d.Spec.UpdatePolicy()
	a := aims{fresh: target, surge: policy.MaxSurge.Up(target)}
	unavailable := policy.MaxUnavailable.Down(target)
	if a.surge == 0 && unavailable == 0 {
		unavailable = 1 // a share of a small number may come to nothing
	}
	a.kept = max(0, target-unavailable-available)
	r := d.Rollout
	if r == nil {
		return a
	}
	if proves(d) {
		a.fresh, a.surge = 1, max(a.surge, 1)
	}
	if d.StableTemplate != nil {
		if n, trying := trial(d); trying {
			a = aims{fresh: n, kept: target, surge: n + a.surge, steady: true}
			if !d.Unchecked() { // more that take calls stay until enough old ones are back
				a.fresh = max(n, min(count(g.fresh, (*unit).serving), target-count(g.old(), (*unit).ready)))
			}
			return a
		}
	}
	if r.Paused || r.Held != "" {
		old := count(g.old(), func(u *unit) bool { return outdated(d, u) })
		fresh := min(target, len(g.fresh)+len(g.away))
		if d.StableTemplate == nil {
			fresh = max(fresh, target-old) // no other revision can be started
		}
		// Old ones stay until new ones have taken their place, and are started only for
		// those that are missing.
		ready := min(target-available, count(g.old(), (*unit).ready))
		return aims{fresh: fresh, kept: max(target-fresh, ready), surge: max(a.surge, 1), steady: true}
	}
	return a
}

// proves reports whether an idle server runs one replica to show that its new
// revision works. A new server does not: it waits for its first call.
func proves(d *fleet.Server) bool {
	return d.Target.Idle() && d.Rolling() && d.Rollout.From != 0
}

// trial returns how many replicas of a new revision are tried beside all old ones,
// before it takes their place. It returns false when the trial is over.
func trial(d *fleet.Server) (n int, trying bool) {
	if d.Unchecked() {
		return 1, true
	}
	if share, ok := d.CanaryShare(); ok {
		return max(1, int(math.Ceil(share*float64(d.Target.Replicas)/100))), true
	}
	return 0, false
}

// rolloutCondition says in words why a rollout does not go on, "" if it does.
func rolloutCondition(d *fleet.Server) string {
	r := d.Rollout
	if r == nil {
		return ""
	}
	switch {
	case r.Held != "":
		return "held: " + r.Held
	case r.Paused:
		return "paused by hand"
	case d.Unchecked() && len(d.Spec.UpdatePolicy().Verify) > 0:
		return "being verified"
	case d.Unchecked():
		return "waiting until its tools are compared"
	}
	if share, ok := d.CanaryShare(); ok {
		return fmt.Sprintf("a canary with %g%% of the calls", share)
	}
	return ""
}

// available reports whether a replica has been READY and healthy for long enough
// to take the place of an old one. If it has not been yet, wake is when it will.
func available(u *unit, minReady time.Duration, now time.Time) (yes bool, wake time.Time) {
	if !u.serving() {
		return false, time.Time{}
	}
	at := u.readyAt.Add(minReady)
	if now.Before(at) {
		return false, at
	}
	return true, time.Time{}
}
