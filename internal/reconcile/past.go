package reconcile

import (
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// past is what is known of replicas that ended without this memory having had
// them. While it is open, the workers are still reporting what happened before
// it began, and in no order; then it is closed, and what follows is news.
type past struct {
	open bool
	told map[fleet.ServerName][]*fleet.Replica // the ends taken in so far
}

func newPast() past { return past{open: true, told: make(map[fleet.ServerName][]*fleet.Replica)} }

// middling stands for the jitter of waits that another controller has drawn.
func middling() float64 { return 0.5 }

// recall pieces together how starts have gone from the ends that the workers
// remember, anew each time that more of them have reported: a server that
// cannot start is not hammered because the leader changed.
func (m *memory) recall(s *observe.Snapshot) {
	m.backoffs = make(map[revision]*backoff)
	for _, u := range m.units {
		u.unhealthy = false // told again
	}
	newest := make(map[revision]time.Time) // start
	note := func(r *fleet.Replica) {
		k := revision{r.Server, r.Revision}
		newest[k] = latest(newest[k], r.CreatedAt)
	}
	for _, r := range s.Replicas {
		note(r)
	}
	for name, ends := range s.Ended {
		m.past.told[name] = ends
		for _, e := range slices.Backward(ends) { // oldest first
			note(e)
			m.deployed[name] = m.deployed[name] || e.WasReady()
			if failedByItself(e) {
				m.backoff(e.Server, e.Revision).relive(e)
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
			default:
				waiting[k]++
			}
		}
		m.restarts[name] = max(m.restarts[name], restarts)
		for k, n := range waiting {
			// While it fails all that failed count: rather too slow than too fast.
			if b := m.backoff(k.server, k.rev); !b.failing {
				b.owed = n
			}
		}
	}
	for k, b := range m.backoffs {
		if !b.failing && newest[k].After(b.failedAt) {
			b.owed = 0
		}
	}
}

// hear takes in ends of replicas that were never seen to run: they were gone
// before they could be reported, or a node has brought them along.
func (m *memory) hear(s *observe.Snapshot, now time.Time) {
	for name, ends := range s.Ended {
		told := m.past.told[name]
		if len(ends) == len(told) && (len(ends) == 0 || &ends[0] == &told[0]) {
			continue // lists are replaced, never edited
		}
		m.past.told[name] = ends
		for _, e := range slices.Backward(ends) {
			known := slices.ContainsFunc(told, func(t *fleet.Replica) bool { return t.ID == e.ID })
			if known || m.units[e.ID] != nil || !failedByItself(e) {
				continue
			}
			b := m.backoff(e.Server, e.Revision)
			if e.EndedAt.Before(b.failedAt) {
				continue // no news
			}
			if !m.leads {
				m.replaced(e)
			}
			ended := e.EndedAt
			if ended.After(now) {
				ended = now
			}
			b.fail(endingOf(e, ended), m.jitter)
		}
	}
	for name := range m.past.told {
		if _, ok := s.Ended[name]; !ok {
			delete(m.past.told, name)
		}
	}
}

// replaced counts a replica that another controller started in place of one
// that had failed, and reports whether that one had ended because nobody needed
// it.
func (m *memory) replaced(r *fleet.Replica) (rested bool) {
	if b := m.backoff(r.Server, r.Revision); b.owed > 0 && !r.CreatedAt.Before(b.failedAt) {
		rested = b.rests()
		b.owed--
		m.restarts[r.Server]++
	}
	return rested
}

// relive records an end of long ago.
func (b *backoff) relive(e *fleet.Replica) {
	if !b.failedAt.IsZero() && e.CreatedAt.Sub(b.failedAt) > backoffMax+backoffReset {
		b.healthy = b.failedAt // a probe would have been started earlier: all was well
	}
	b.everReady = b.everReady || e.WasReady()
	b.fail(endingOf(e, e.EndedAt), middling)
}

func endingOf(e *fleet.Replica, at time.Time) ending {
	return ending{
		started: e.CreatedAt, ready: e.ReadyAt, at: at, served: e.Load.Total > 0, exit: e.Exit,
		why: failureOf(e.ID, e.Node, e.WasReady(), e),
	}
}

// failedByItself tells whether an end was nobody's wish, and not that of a
// whole node.
func failedByItself(e *fleet.Replica) bool {
	return !e.Lost && e.Phase == fleet.PhaseFailed
}
