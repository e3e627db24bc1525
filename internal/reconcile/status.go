package reconcile

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// ServerStatus is how one server is doing.
type ServerStatus struct {
	Name     fleet.ServerName
	State    fleet.State
	Reason   string // in words; "" when there is nothing to say
	Desired  int
	Ready    int // replicas that take calls, of any revision
	Restarts int // replicas started to replace failed ones, since this controller's start
	Revision fleet.Revision
	// Generation counts the restarts by hand.
	Generation uint64
	Spec       fleet.Spec // zero for a server that is no longer wanted

	// Stopped: by hand, its target is 0.
	Stopped bool
	// Settled: all replicas of the wanted revision are READY, or are known to
	// be unable to start.
	Settled bool
	// StartFailed: none takes calls and none is on its way, as the last start
	// failed or no node fits: a call need not wait.
	StartFailed bool
	// NotBefore is when a failed replica is replaced next, if that is later.
	NotBefore time.Time
	// LastEnded has the last replicas that ended, newest first.
	LastEnded []*fleet.Replica
}

// tally is a server's replicas counted for its status.
type tally struct {
	serving  int // of any revision
	fresh    int // of the wanted one, serving
	starting int
	early    int // starting since before the last failure: its round is not over
	pulling  int
	old      int // of another revision, not stopping
	stopping int
	mute     string // an order that is not answered
}

func tell(w *want) (t tally) {
	for _, u := range w.units {
		if u.serving() {
			t.serving++
		}
		if o := u.start; o != nil && o.err != nil {
			t.mute = fmt.Sprintf("node %s does not take replica %s: %v", u.node, u.id, o.err)
		}
		switch {
		case u.stopping():
			t.stopping++
			continue
		case w.desired == nil || u.rev != w.desired.Revision:
			t.old++
			continue
		case u.serving() && !u.leaves:
			t.fresh++
		case !u.ready():
			t.starting++
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

// status puts the server's condition in words. waiting is what the whole
// controller waits for before it acts, "" once it acts.
func status(now time.Time, w *want, d *decision, workers int, deployed bool, waiting string) ServerStatus {
	t := tell(w)
	st := ServerStatus{Name: w.name, Ready: t.serving}
	if w.desired == nil {
		st.State = fleet.StateDeleting
		st.Reason = fmt.Sprintf("%s still stopping", replicas(len(w.units)))
		return st
	}
	b := &w.back
	st.Revision, st.Spec, st.Desired = w.desired.Revision, w.desired.Spec, w.desired.Spec.Replicas
	if st.Desired == 0 {
		st.State, st.Settled = fleet.StateIdle, true
		st.Reason = "scaled to zero"
		if t.stopping > 0 {
			st.Reason += fmt.Sprintf(", %s still stopping", replicas(t.stopping))
		}
		return st
	}
	full := t.fresh >= st.Desired
	acting := waiting == ""
	if d.need > 0 && b.owed > 0 && b.notBefore.After(now) {
		st.NotBefore = b.notBefore
	}
	stuck := b.hopeless() || d.unplaced != "" && (workers > 0 || deployed)
	unplaced := d.unplaced != "" && t.stopping == 0 // those that end make room
	soon := b.notBefore.Sub(now) <= 2*time.Second
	st.Settled = full || acting && (b.hopeless() && t.early == 0 || unplaced && workers > 0 && t.starting == 0)
	st.StartFailed = acting && t.serving == 0 && t.starting == 0 &&
		(b.hopeless() || unplaced || d.need > 0 && b.owed > 0 && !soon)
	switch {
	case full:
		st.State = fleet.StateReady
	case t.serving == 0 && (deployed || stuck):
		st.State = fleet.StateUnavailable
	case t.old > 0:
		st.State = fleet.StateUpdating
	case deployed || stuck:
		st.State = fleet.StateDegraded
	default:
		st.State = fleet.StateDeploying
	}
	if !full {
		st.Reason = condition(w, d, t, waiting)
	}
	return st
}

func condition(w *want, d *decision, t tally, waiting string) string {
	parts := []string{fmt.Sprintf("%d of %s ready", t.fresh, replicas(w.desired.Spec.Replicas))}
	if t.old > 0 {
		parts[0] = fmt.Sprintf("revision %d: %s; %d of the revision before", w.desired.Revision, parts[0], t.old)
	}
	switch {
	case t.pulling > 0:
		parts = append(parts, fmt.Sprintf("%d starting, %d of them pulling the image", t.starting, t.pulling))
	case t.starting > 0:
		parts = append(parts, fmt.Sprintf("%d starting", t.starting))
	}
	for _, s := range []string{waiting, d.unplaced, t.mute} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if w.back.last != "" {
		parts = append(parts, "last failure: "+w.back.last)
	}
	return strings.Join(parts, "; ")
}

// sameStatus compares what can change without the pass noticing otherwise.
func sameStatus(a, b []ServerStatus) bool { return reflect.DeepEqual(a, b) }
