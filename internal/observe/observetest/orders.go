package observetest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func (w *Worker) fence(o fleet.Order) error {
	switch h := w.highest; {
	case h.Cluster != "" && h.Cluster != o.Cluster:
		w.refused++
		return fmt.Errorf("cluster %s, not %s: %w", o.Cluster, h.Cluster, fleet.ErrForeignCluster)
	case o.Compare(h) < 0:
		w.refused++
		return fmt.Errorf("epoch %d after %d: %w", o.Epoch, h.Epoch, fleet.ErrStaleEpoch)
	}
	w.highest = o
	return nil
}

// fenceWatch is fence for a watch. That may come from a controller that knows only an
// older leader.
func (w *Worker) fenceWatch(o fleet.Order) error {
	if o.Cluster == w.highest.Cluster && o.Compare(w.highest) < 0 {
		return nil
	}
	return w.fence(o)
}

func (w *Worker) barrier(o fleet.Order) (uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.old {
		return 0, errors.New("unknown method Fence")
	}
	err := w.fence(o)
	if err == nil {
		w.fences++
	}
	return w.version, err
}

func (w *Worker) start(o fleet.Order, a fleet.Assignment) (uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.fence(o); err != nil {
		return 0, err
	}
	if _, known := w.replicas[a.ID]; known {
		return w.version, nil
	}
	switch {
	case w.draining:
		return 0, fleet.ErrDraining
	case w.unfit != "":
		w.refused++
		return 0, fmt.Errorf("%w: %s", fleet.ErrNotRecorded, w.unfit)
	}
	e := &entry{r: fleet.Replica{
		ID: a.ID, Server: a.Server, Revision: a.Revision, Generation: a.Generation, Node: w.info.Node, Phase: fleet.PhaseStarting,
		CreatedAt: w.now(), Resources: a.Template.Resources, Spare: a.Spare && !w.old, Raw: a.Raw && !w.old,
	}}
	how := w.behave(a.Server, a.Revision)
	if how.PullFor > 0 {
		e.r.Phase = fleet.PhasePulling
		time.AfterFunc(how.PullFor, func() { w.move(a.ID, fleet.PhaseStarting) })
	}
	w.replicas[a.ID] = e
	w.starts = append(w.starts, time.Now())
	w.changed(e)
	if how.Hang {
		return w.version, nil
	}
	time.AfterFunc(how.PullFor+how.ReadyAfter, func() {
		if how.FailStart {
			w.crash(a.ID, 1)
			return
		}
		w.move(a.ID, fleet.PhaseReady)
		if how.CrashAfter > 0 {
			time.AfterFunc(how.CrashAfter, func() { w.crash(a.ID, 2) })
		}
		if how.ExitAfter > 0 {
			time.AfterFunc(how.ExitAfter, func() { w.crash(a.ID, 0) })
		}
	})
	return w.version, nil
}

func (w *Worker) stop(o fleet.Order, id fleet.ReplicaID, reason string) (uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.fence(o); err != nil {
		return 0, err
	}
	if w.deaf {
		return 0, errors.New("record an order: read-only file system")
	}
	e := w.replicas[id]
	switch {
	case e == nil:
		e = &entry{r: fleet.Replica{ID: id, Node: w.info.Node, Phase: fleet.PhaseStopped, EndedAt: w.now(), Reason: reason}}
		w.replicas[id] = e
		w.changed(e)
	case e.r.Phase < fleet.PhaseDraining:
		e.r.Phase, e.r.Reason = fleet.PhaseDraining, reason
		w.changed(e)
		how := w.behave(e.r.Server, e.r.Revision)
		time.AfterFunc(how.StopAfter, func() { w.end(id, fleet.PhaseStopped, fleet.Exit{Requested: true}) })
	}
	return w.version, nil
}

func (w *Worker) activate(o fleet.Order, id fleet.ReplicaID) (uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.old {
		return 0, fleet.ErrOldWorker
	}
	if err := w.fence(o); err != nil {
		return 0, err
	}
	e := w.replicas[id]
	switch {
	case e == nil:
		return 0, fleet.ErrUnknownReplica
	case e.r.Spare && e.r.Phase < fleet.PhaseDraining:
		e.r.Spare = false
		w.changed(e)
	}
	return w.version, nil
}

func (w *Worker) pull(o fleet.Order, image string, policy fleet.PullPolicy) (uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.old {
		return 0, fleet.ErrOldWorker
	}
	if err := w.fence(o); err != nil {
		return 0, err
	}
	w.pulls = append(w.pulls, Pull{image, policy})
	return w.version, nil
}

func (w *Worker) move(id fleet.ReplicaID, to fleet.Phase) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.replicas[id]
	if w.dead || !e.r.Phase.CanBecome(to) {
		return
	}
	e.r.Phase = to
	if to == fleet.PhaseReady {
		e.r.ReadyAt = w.now()
	}
	w.changed(e)
}

// kept is how many ended replicas a worker goes on reporting.
const kept = 20

func (w *Worker) end(id fleet.ReplicaID, as fleet.Phase, exit fleet.Exit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.replicas[id]
	if e == nil || w.dead || !e.r.Phase.CanBecome(as) {
		return
	}
	e.r.Phase, e.r.EndedAt, e.r.Exit, e.r.Reason = as, w.now(), &exit, exit.String()
	e.r.Log = []string{"starting", "the last words of " + string(id)}
	w.changed(e)
	ended := slices.DeleteFunc(slices.Collect(maps.Values(w.replicas)), func(e *entry) bool {
		return e.forgotten || !e.r.Phase.Ended()
	})
	slices.SortFunc(ended, func(a, b *entry) int { return cmp.Compare(b.changed, a.changed) })
	for _, e := range ended[min(kept, len(ended)):] {
		e.forgotten = true
		w.changed(e)
	}
}

// report returns a full report if since is 0, else what has changed since.
func (w *Worker) report(since uint64) fleet.Report {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := fleet.Report{Version: w.version, Now: w.now(), Draining: w.draining, Unfit: w.unfit}
	if since == 0 {
		info := w.info
		info.Sessions = !w.old
		r.Full, r.Node = true, &info
	}
	for _, e := range w.replicas {
		switch {
		case e.changed <= since:
		case e.forgotten && since > 0:
			r.Forgotten = append(r.Forgotten, e.r.ID)
		case !e.forgotten:
			r.Replicas = append(r.Replicas, e.r)
		}
	}
	return r
}
