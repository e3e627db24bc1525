package sessions

import (
	"fmt"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// closeAgain is how soon an order to close a session is repeated that no report shows.
const closeAgain = 2 * time.Second

// ends finds the sessions that are over. Only the Lead loop uses it.
type ends struct {
	s   *Service
	use map[fleet.ReplicaID]*use
}

// use is how a session's replica is used.
type use struct {
	calls  uint64 // that were ever taken
	last   time.Time
	closed time.Time // when it was last ordered to stop
}

func newEnds(s *Service) *ends { return &ends{s: s, use: make(map[fleet.ReplicaID]*use)} }

// look ends the sessions that were ended by their clients, are idle or too old, and stops
// the replicas of sessions that have a later one. It returns when the next one may be
// over with time alone.
func (e *ends) look(now time.Time, snap *observe.Snapshot, servers map[fleet.ServerName]*fleet.Server) (wake time.Time) {
	wake = now.Add(time.Second)
	latest := make(map[key]*fleet.Replica)
	for _, r := range snap.Sorted() {
		if k := (key{r.Server, r.Session}); r.Session != "" && r.Phase == fleet.PhaseReady {
			if have := latest[k]; have == nil || r.SessionAt.After(have.SessionAt) {
				latest[k] = r
			}
		}
	}
	for _, r := range snap.Sorted() {
		if r.Session == "" || r.Phase != fleet.PhaseReady {
			continue
		}
		u := e.useOf(r, now)
		over, reason, why := false, "", "" // reason is the leader's, if it is that which ends the session
		switch d := servers[r.Server]; {
		case e.s.cfg.Directory.Ended(r.Session):
			over, why = true, "the session was ended"
		case latest[key{r.Server, r.Session}] != r:
			over, why = true, "the session goes on at another replica"
		case d == nil || !d.Spec.PerSession():
		default:
			var next time.Time
			reason, why, next = e.overdue(d, r, u, now)
			over = reason != ""
			if next.Before(wake) {
				wake = next
			}
		}
		if !over || now.Sub(u.closed) < closeAgain {
			continue
		}
		if reason != "" && u.closed.IsZero() {
			e.s.cfg.Directory.End(r.Session, now.Add(fleet.MaxSessionLifetime))
			e.s.metrics.ended.WithLabelValues(string(r.Server), reason).Inc()
			e.s.log.Info("session ended", "server", r.Server, "replica", r.ID, "session", short(r.Session), "reason", why)
			e.s.cfg.Record(fleet.EventSessionEnded, r.Server, r.ID, fmt.Sprintf("session %s of server %s has ended: %s", short(r.Session), r.Server, why))
		}
		u.closed = now
		e.s.closeSoon(snap, r, why)
	}
	for id := range e.use {
		if snap.Replicas[id] == nil {
			delete(e.use, id)
		}
	}
	return wake
}

// useOf brings the use of a replica up to date with its report. A new leader counts the
// time without use anew: it does not know when the last call was.
func (e *ends) useOf(r *fleet.Replica, now time.Time) *use {
	u := e.use[r.ID]
	if u == nil {
		u = &use{calls: r.Load.Total, last: now}
		e.use[r.ID] = u
	}
	if r.Load.Ongoing > 0 || r.Load.Total != u.calls {
		u.calls, u.last = r.Load.Total, now
	}
	if used, _ := e.s.cfg.Directory.used(r.Session); used.After(u.last) {
		u.last = used
	}
	return u
}

// overdue returns the reason why a session is over, idle or too old, and says it in words.
// If it is neither yet, they are "", and next is when it will be.
func (e *ends) overdue(d *fleet.Server, r *fleet.Replica, u *use, now time.Time) (reason, why string, next time.Time) {
	end := r.SessionAt.Add(d.Spec.SessionLifetime)
	if _, began := e.s.cfg.Directory.used(r.Session); !began.IsZero() {
		end = began.Add(d.Spec.SessionLifetime) // it may have had another replica before
	}
	idle := u.last.Add(d.Spec.SessionIdle)
	switch {
	case !now.Before(end):
		return endedByAge, "session_lifetime is over", now
	case r.Load.Ongoing == 0 && !now.Before(idle):
		return endedByIdle, "idle for " + d.Spec.SessionIdle.String(), now
	case idle.Before(end):
		return "", "", idle
	}
	return "", "", end
}
