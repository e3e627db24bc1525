package reconcile

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// ServerStatus is how one server is doing.
type ServerStatus struct {
	Name   fleet.ServerName
	State  fleet.State
	Reason string // in words; may be empty
	Target fleet.Target
	Ready  int // replicas that take calls, of any revision
	Spares int // warm spares that could take calls at once
	// Sessions is how many sessions have a replica to themselves, and SessionsWaiting is
	// how many wait for one.
	Sessions, SessionsWaiting int
	// Unplaced is how many replicas no node has room for, and UnplacedResources is
	// what they would reserve.
	Unplaced          int
	UnplacedResources fleet.Resources
	// Restarts counts the replicas started to replace failed ones since this
	// controller started, and those before that the workers remember.
	Restarts int
	Revision fleet.Revision
	// Generation counts the restarts by hand.
	Generation uint64

	// Settled: as many replicas as wanted are READY, of a server that scales by itself
	// at least one, or they are known to be unable to start, or the server is stopped
	// or idle. A server that may be idle stays settled while it starts for a call.
	Settled bool
	// StartFailed: no replica takes calls or is starting, because the last start
	// failed or no node fits. Calls should not wait.
	StartFailed bool
	// Resting: replicas that ended because nobody needed them are not replaced
	// yet. Wake replaces them at once.
	Resting bool
	// NotBefore is when the next failed replica is replaced. Zero means at once.
	NotBefore time.Time
	// LastEnded has the last replicas that ended, newest first.
	LastEnded []*fleet.Replica
}

// tally is a server's replicas counted for its status.
type tally struct {
	serving   int // of any revision
	spares    int // ready
	usable    int // of those, that could take the next call
	fresh     int // of the wanted one, serving
	starting  int
	rested    int // of those, in place of one that nobody needed
	upholding int // of another revision, starting
	early     int // started before the last failure: its round is not over
	pulling   int
	old       int // of another revision or generation, not stopping
	moving    int // serving, on a node that is to be emptied
	stopping  int
	ending    int    // of those, by themselves as far as is known
	away      int    // of the wanted one, on nodes that cannot be reached
	unheard   string // an order without an answer, in words
}

func countUnits(w *want) (t tally) {
	for _, u := range w.units {
		if u.isSpare() {
			if u.spareReady() {
				t.spares++
				if isUsable(w.desired, u) {
					t.usable++
				}
			}
			continue
		}
		if u.serving() {
			t.serving++
		}
		if o := u.start; o != nil && o.err != nil {
			t.unheard = fmt.Sprintf("node %s does not take replica %s: %v", u.node, u.id, o.err)
		}
		switch {
		case u.stopping() && w.desired != nil && outdated(w.desired, u) && u.ready():
			t.old++
			if u.stop.err != nil {
				t.unheard = fmt.Sprintf("node %s has not answered the order to stop replica %s: %v", u.node, u.id, u.stop.err)
			}
			continue
		case u.stopping():
			t.stopping++
			if u.stop == nil && u.failed == "" && w.desired != nil && !outdated(w.desired, u) {
				t.ending++
			}
			continue
		case w.desired == nil || outdated(w.desired, u):
			t.old++
			if !u.ready() {
				t.upholding++
			}
			continue
		case u.serving():
			t.fresh++
			if u.leaves {
				t.moving++
			}
		case !u.reachable:
			t.away++
		case !u.ready() || u.activate != nil:
			t.starting++
			if u.rested {
				t.rested++
			}
			if u.phase == fleet.PhasePulling {
				t.pulling++
			}
			if !u.startedAt.After(w.back.bumpedAt) {
				t.early++
			}
		}
	}
	return t
}

// isUsable reports whether a ready spare would be activated if a replica were missing.
func isUsable(d *fleet.Server, u *unit) bool {
	return d != nil && !u.leaves && (!outdated(d, u) || d.StableTemplate != nil && u.rev == d.Stable)
}

// fallsBack reports whether the stable revision is started for calls if the wanted one
// does not serve.
func fallsBack(w *want, d *decision) bool {
	s := w.desired
	if s.StableTemplate == nil || s.Stable == s.Revision || w.stable.hopeless() {
		return false
	}
	return d.unplaced == "" || slices.ContainsFunc(d.actions, func(a action) bool { return a.template == s.StableTemplate })
}

// outlook is what a status depends on beside its server.
type outlook struct {
	workers  int    // connected and accepting starts
	deployed bool   // the server has served in full before
	settled  bool   // it was settled in the last pass
	complete bool   // all nodes have reported once
	waiting  string // what the controller waits for before it acts
}

// status returns how a server is doing.
func status(now time.Time, w *want, d *decision, o outlook) ServerStatus {
	t := countUnits(w)
	st := ServerStatus{Name: w.name, Ready: t.serving, Spares: t.spares}
	if w.desired == nil {
		st.State = fleet.StateDeleting
		st.Reason = fmt.Sprintf("%s still stopping", replicas(len(w.units)))
		return st
	}
	if w.desired.Spec.PerSession() {
		return sessionStatus(now, w, d, o)
	}
	b := &w.back
	st.Revision, st.Generation, st.Target = w.desired.Revision, w.desired.Generation, w.desired.Target
	if st.Target.Replicas == 0 {
		st.State, st.Reason, st.Settled = fleet.StateStopped, st.Target.StopReason(), true
		if st.Target.Idle() {
			st.State, st.Reason = fleet.StateIdle, textIdle
			if b.hopeless() {
				// Until the back-off is over, a call is answered at once with the reason.
				st.Reason, st.StartFailed = textIdleFailed+b.last, t.usable == 0 && now.Before(b.notBefore) && !fallsBack(w, d)
			}
		}
		if t.stopping > 0 {
			st.Reason += fmt.Sprintf(", %s still stopping", replicas(t.stopping))
		}
		if news := rolloutNews(w.desired); news != "" {
			st.Reason += "; " + news
		}
		return st
	}
	st.Unplaced, st.UnplacedResources = d.unroomed, w.desired.Spec.Resources.Times(d.unroomed)
	idle := t.rested // replicas missing because nobody needs them
	if b.resting() {
		idle += min(b.unreplaced, d.need) + t.ending
		st.Resting = b.unreplaced > 0 && d.need > 0
	}
	full := t.fresh+idle >= st.Target.Replicas && t.old == 0 // old ones may still answer calls
	acting := o.complete
	if d.need > 0 && b.unreplaced > 0 && b.notBefore.After(now) {
		st.NotBefore = b.notBefore
	}
	stuck := b.hopeless() || d.unplaced != "" && (o.workers > 0 || o.deployed)
	unplaced := d.unplaced != "" && t.stopping+t.away == 0 // ending ones make room, returning ones need none
	soon := b.notBefore.Sub(now) <= 2*time.Second
	// Neither an update nor a change of the load makes a server that serves unready.
	serves := t.serving > 0 && (t.serving >= st.Target.Replicas || w.desired.Spec.Autoscaling != nil)
	// Nor does one that may be idle, when its last replica has gone or its first one
	// starts: calls wait for it. A controller may see that before its cause.
	onCall := o.settled && w.desired.OnCall() && !b.failing && b.unreplaced == 0 && t.away == 0 && d.unplaced == ""
	st.Settled = full || serves || onCall || acting && (b.hopeless() && t.early == 0 || unplaced && o.workers > 0 && t.starting == 0)
	st.StartFailed = acting && t.serving+t.starting+t.upholding+t.away+t.usable == 0 && !fallsBack(w, d) &&
		(b.hopeless() || unplaced || d.need > 0 && b.unreplaced > 0 && !soon && !st.Resting)
	switch {
	case full && t.serving == 0:
		st.State = fleet.StateIdle
	case full:
		st.State = fleet.StateReady
	case t.serving == 0 && (o.deployed || stuck):
		st.State = fleet.StateUnavailable
	case t.old > 0:
		st.State = fleet.StateUpdating
	case o.deployed || stuck:
		st.State = fleet.StateDegraded
	default:
		st.State = fleet.StateDeploying
	}
	switch {
	case !full:
		st.Reason = condition(w, d, t, o.waiting)
	case w.desired.Failed != nil:
		st.Reason = rolloutNews(w.desired)
	case idle > 0:
		st.Reason = fmt.Sprintf("%s exited with code 0 because nobody called: started again when a call waits, or after a while", replicas(idle))
	case t.moving > 0 && d.unplaced != "":
		st.Reason = fmt.Sprintf("%s should leave the node: %s", replicas(t.moving), d.unplaced)
	case d.unplacedSpares != "":
		st.Reason = "a warm spare cannot be placed: " + d.unplacedSpares
	case w.desired.Sessionless:
		st.Reason = "it is of the modern era, which has no sessions, so one replica serves all: remove sessions to set their number"
	}
	return st
}

// condition says why a server is not ready: first the causes, then the counts.
func condition(w *want, d *decision, t tally, waiting string) string {
	failure := ""
	if w.back.last != "" {
		failure = "last failure: " + w.back.last
	}
	var parts []string
	rollout := ""
	if c := rolloutCondition(w.desired); c != "" {
		rollout = fmt.Sprintf("the rollout of revision %d is %s", w.desired.Revision, c)
	}
	for _, s := range []string{rollout, d.unplaced, t.unheard, failure, waiting} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	count := fmt.Sprintf("%d of %s ready", t.fresh, replicas(w.desired.Target.Replicas))
	switch {
	case t.old > 0 && onlyOlder(w):
		count = fmt.Sprintf("restarting: %s; %d not replaced yet", count, t.old)
	case t.old > 0:
		count = fmt.Sprintf("revision %d: %s; %d of the revision before", w.desired.Revision, count, t.old)
	}
	parts = append(parts, count)
	if r := w.desired.Rollout; r != nil && r.Warning != "" && r.Held == "" {
		parts = append(parts, "callers may break: "+r.Warning)
	}
	if t.away > 0 {
		parts = append(parts, fmt.Sprintf("%d on nodes that cannot be reached", t.away))
	}
	switch {
	case t.pulling > 0:
		parts = append(parts, fmt.Sprintf("%d starting, %d of them pulling the image", t.starting, t.pulling))
	case t.starting > 0:
		parts = append(parts, fmt.Sprintf("%d starting", t.starting))
	}
	return strings.Join(parts, "; ")
}

// onlyOlder reports whether all old replicas are of the wanted revision, and only of
// an earlier generation.
func onlyOlder(w *want) bool {
	for _, u := range w.units {
		if u.rev != w.desired.Revision && u.mayServe() {
			return false
		}
	}
	return true
}

// sameStatus reports whether nothing has changed that anyone can see.
func sameStatus(a, b []ServerStatus) bool { return reflect.DeepEqual(a, b) }
