package reconcile

import (
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// noJitter leaves waits as they are. It stands in for the jitter of waits that
// another controller has drawn.
func noJitter() float64 { return 0.5 }

// recall works out how starts have gone from the ends that the workers remember.
// It does so again each time that more of them have reported. Thus a server that
// cannot start is not tried more often because the leader changed.
func (a *attempts) recall(s *observe.Snapshot) {
	a.backoffs, a.last = make(map[revision]*backoff), nil
	newest := make(map[revision]time.Time) // start
	note := func(r *fleet.Replica) {
		k := revision{r.Server, r.Revision}
		newest[k] = latest(newest[k], r.CreatedAt)
	}
	for _, r := range s.Replicas {
		note(r)
	}
	for name, ends := range s.Ended {
		a.counted[name] = ends
		for _, e := range slices.Backward(ends) { // oldest first
			note(e)
			a.deployed[name] = a.deployed[name] || e.WasReady()
			if failedByItself(e) {
				a.of(e.Server, e.Revision).replayEnd(e)
			}
		}
		waiting := make(map[revision]int) // not replaced
		restarts := 0
		for _, e := range ends {
			k := revision{e.Server, e.Revision}
			switch {
			case !failedByItself(e):
			case newest[k].After(e.EndedAt):
				restarts++
			case !e.Spare:
				waiting[k]++
			}
		}
		a.restarts[name] = max(a.restarts[name], restarts)
		for k, n := range waiting {
			// While it fails all that failed count: rather too slow than too fast.
			if b := a.of(k.server, k.rev); !b.failing {
				b.unreplaced = n
			}
		}
	}
	for k, b := range a.backoffs {
		if !b.failing && newest[k].After(b.failedAt) {
			b.unreplaced = 0
		}
	}
}

// observeEnds takes in ends of replicas that are not known here. They were gone
// before they could be reported, or a node has brought them along. A follower
// counts each as one that the leader started.
func (a *attempts) observeEnds(ended map[fleet.ServerName][]*fleet.Replica, known func(fleet.ReplicaID) bool, leads bool, now time.Time) {
	for name, ends := range ended {
		counted := a.counted[name]
		if len(ends) == len(counted) && (len(ends) == 0 || &ends[0] == &counted[0]) {
			continue // lists are replaced, never edited
		}
		a.counted[name] = ends
		for _, e := range slices.Backward(ends) {
			old := slices.ContainsFunc(counted, func(c *fleet.Replica) bool { return c.ID == e.ID })
			if old || known(e.ID) || !failedByItself(e) {
				continue
			}
			b := a.of(e.Server, e.Revision)
			if e.EndedAt.Before(b.failedAt) {
				continue // no news
			}
			if !leads {
				a.recordForeignStart(e)
			}
			at := e.EndedAt
			if at.After(now) {
				at = now
			}
			b.recordFailure(endingOf(e, at), a.jitter)
		}
	}
	for name := range a.counted {
		if _, ok := ended[name]; !ok {
			delete(a.counted, name)
		}
	}
}

// replayEnd records an end of long ago.
func (b *backoff) replayEnd(e *fleet.Replica) {
	if !b.failedAt.IsZero() && e.CreatedAt.Sub(b.failedAt) > backoffMax+backoffReset {
		b.healthy = b.failedAt // a probe would have been started earlier: all was well
	}
	b.everReady = b.everReady || e.WasReady()
	b.recordFailure(endingOf(e, e.EndedAt), noJitter)
}

func endingOf(e *fleet.Replica, at time.Time) ending {
	return ending{
		node: e.Node, spare: e.Spare, started: e.CreatedAt, ready: e.ReadyAt, at: at, served: e.Load.Total > 0, exit: e.Exit,
		why: failureOf(e.ID, e.Node, e.WasReady(), e),
	}
}

// failedByItself reports whether a replica ended though nobody stopped it and
// its node lives.
func failedByItself(e *fleet.Replica) bool {
	return !e.Lost && e.Phase == fleet.PhaseFailed && e.Session == "" // see observeReplica
}
