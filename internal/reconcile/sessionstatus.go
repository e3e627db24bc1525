package reconcile

import (
	"fmt"
	"strings"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// sessionStatus returns how a server is doing whose sessions have replicas to themselves.
func sessionStatus(now time.Time, w *want, d *decision, o outlook) ServerStatus {
	s, b, of := w.desired, &w.back, ownersOf(w)
	st := ServerStatus{
		Name: w.name, Revision: s.Revision, Generation: s.Generation, Target: s.Target,
		Ready: count(of.owned, (*unit).serving), Spares: count(w.units, (*unit).waitsForSession),
		Sessions: of.open(0), SessionsWaiting: w.waiting,
		Unplaced: d.unroomed, UnplacedResources: s.Spec.Resources.Times(d.unroomed),
	}
	outdatedOnes := count(w.units, func(u *unit) bool { return !u.stopping() && outdated(s, u) })
	starting := count(w.units, func(u *unit) bool { return !u.stopping() && !u.ready() && u.reachable })
	stuck := b.hopeless() || d.unplaced != "" && o.workers > 0
	opens := s.Offers || s.StableOffers // sessions can begin at some revision
	unplaced := d.unplaced != "" && o.workers > 0 && starting == 0
	if d.need > 0 && b.notBefore.After(now) {
		st.NotBefore = b.notBefore
	}
	st.StartFailed = o.complete && st.Spares == 0 && starting == 0 && (b.hopeless() && s.StableTemplate == nil || unplaced)
	switch {
	case !opens && stuck:
		st.State = fleet.StateUnavailable
	case !opens:
		st.State = fleet.StateDeploying
	case outdatedOnes > 0 || !s.Offers:
		st.State = fleet.StateUpdating
	case b.failing || d.unplaced != "" || d.unplacedSpares != "":
		st.State = fleet.StateDegraded
	case len(w.units) == 0:
		st.State, st.Reason = fleet.StateIdle, "no session, and no warm spares: the next session starts a replica"
	default:
		st.State = fleet.StateReady
	}
	st.Settled = opens || o.complete && stuck
	if st.State != fleet.StateReady && st.State != fleet.StateIdle {
		st.Reason = sessionCondition(w, d, &of, outdatedOnes, starting, o.waiting)
	}
	if s.Failed != nil && (st.State == fleet.StateReady || st.State == fleet.StateIdle) {
		st.Reason = rolloutNews(s)
	}
	return st
}

// sessionCondition says why such a server is not ready: first the causes, then the counts.
func sessionCondition(w *want, d *decision, of *owners, old, starting int, waiting string) string {
	var parts []string
	add := func(s string) {
		if s != "" {
			parts = append(parts, s)
		}
	}
	s := w.desired
	if c := rolloutCondition(s); c != "" {
		add(fmt.Sprintf("the rollout of revision %d is %s", s.Revision, c))
	}
	add(d.unplaced)
	if d.unplaced == "" && d.unplacedSpares != "" {
		add("a warm spare cannot be placed: " + d.unplacedSpares)
	}
	if w.back.last != "" {
		add("last failure: " + w.back.last)
	}
	add(waiting)
	if !s.Offers {
		add(fmt.Sprintf("it is not known yet what revision %d offers", s.Revision))
	}
	if old > 0 {
		add(fmt.Sprintf("%s of the revision before, or restarted, not replaced yet", replicas(old)))
	}
	add(fmt.Sprintf("%d sessions, %d spares", of.open(0), len(of.spares)))
	if w.waiting > 0 {
		add(fmt.Sprintf("%d sessions wait", w.waiting))
	}
	if starting > 0 {
		add(fmt.Sprintf("%d starting", starting))
	}
	return strings.Join(parts, "; ")
}

// sessionsRolledOut reports whether the rollout of such a server has ended: the revision
// has shown what it offers, its spares wait for sessions, and nothing else is left.
func sessionsRolledOut(w *want) bool {
	s := w.desired
	if !s.Offers {
		return false
	}
	for _, u := range w.units {
		if outdated(s, u) && u.phase < fleet.PhaseDraining {
			return false
		}
	}
	of := ownersOf(w)
	return count(of.spares, (*unit).waitsForSession) >= min(s.Spec.Warm, max(0, s.Spec.MaxSessions-of.open(w.waiting)))
}

// sessionProgress returns how far a rollout of such a server is, and whether it waits for
// sessions that still use the revision before.
func sessionProgress(w *want) (steps int, waits bool) {
	of := ownersOf(w)
	steps = count(of.spares, (*unit).waitsForSession)
	full := steps >= w.sparesWanted(of.open(w.waiting))
	if w.desired.Offers {
		steps++
	}
	return steps, w.desired.Offers && full
}
