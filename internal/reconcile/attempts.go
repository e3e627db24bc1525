package reconcile

import (
	"log/slog"
	"maps"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// revision names one revision of one server.
type revision struct {
	server fleet.ServerName
	rev    fleet.Revision
}

// attempts is how starting each revision has gone: its back-off, how many failed
// replicas are not replaced yet, and the last reason.
type attempts struct {
	log       *slog.Logger
	jitter    func() float64
	backoffs  map[revision]*backoff
	last      *backoff // that of was asked for last, for lastOf; nil: of none
	lastOf    revision
	restarted map[fleet.ServerName]uint64 // the generation of the last pass
	*history

	// recalling: the workers are still reporting, in no order, what happened
	// before this tenure. Afterwards every end is news.
	recalling bool
	counted   map[fleet.ServerName][]*fleet.Replica // the ends taken in so far
}

func newAttempts(log *slog.Logger, jitter func() float64, h *history) *attempts {
	return &attempts{
		log: log, jitter: jitter, history: h, recalling: true,
		backoffs:  make(map[revision]*backoff),
		restarted: make(map[fleet.ServerName]uint64),
		counted:   make(map[fleet.ServerName][]*fleet.Replica),
	}
}

// of returns the back-off of a revision, and makes it when first asked for.
func (a *attempts) of(server fleet.ServerName, rev fleet.Revision) *backoff {
	k := revision{server, rev}
	if a.last != nil && a.lastOf == k { // units are asked for by server
		return a.last
	}
	b := a.backoffs[k]
	if b == nil {
		b = new(backoff)
		a.backoffs[k] = b
	}
	a.last, a.lastOf = b, k
	return b
}

// recordFailure records that a replica failed. r is the last report of it, if
// there is any.
func (a *attempts) recordFailure(u *unit, r *fleet.Replica, why string, now time.Time) {
	u.failed = why
	b := a.of(u.server, u.rev)
	if u.readyAt.IsZero() && r != nil && r.WasReady() {
		u.readyAt = r.ReadyAt // it ended before it was seen to be READY
		if u.readyAt.After(now) {
			u.readyAt = now
		}
		b.everReady = true
	}
	e := ending{node: u.node, spare: u.isSpare(), started: u.startedAt, ready: u.readyAt, at: now, why: why}
	if r != nil {
		e.served, e.exit = r.Load.Total > 0, r.Exit
	}
	before := *b
	b.recordFailure(e, a.jitter)
	if e.exit == nil && !e.ready.IsZero() {
		before.failedAt = b.failedAt
		u.unexplained = &unexplained{ending: e, before: before}
	}
	a.log.Warn("replica failed", "server", u.server, "revision", u.rev, "replica", u.id, "node", u.node,
		"reason", why, "next_start_in", max(0, b.notBefore.Sub(now)).Round(time.Millisecond))
}

// recordFailing records the failure of a replica that nobody stops, when it
// begins to end. The wait for the next start begins then, however long the
// worker needs to clean up. The worker knows only afterwards why it ended, so an
// earlier reason is kept until then.
func (a *attempts) recordFailing(u *unit, r *fleet.Replica, now time.Time) {
	b := a.of(u.server, u.rev)
	last := b.last
	a.recordFailure(u, r, failure(u, r), now)
	if last != "" {
		b.last = last
	} else {
		b.unstarted = false // is recorded together with the reason
	}
}

// recordEnded records that nothing is left of a replica whose failure is
// recorded already. end is nil if the node has forgotten it.
func (a *attempts) recordEnded(u *unit, end *fleet.Replica) {
	why := failure(u, end)
	b := a.of(u.server, u.rev)
	if end != nil {
		b.last = why
	}
	if u.readyAt.IsZero() && b.healthy.IsZero() {
		b.unstarted = true
	}
	a.log.Warn("failed replica is gone", "server", u.server, "replica", u.id, "node", u.node, "reason", why)
}

// unexplained is a failure that was recorded before it was known how the process
// ended.
type unexplained struct {
	ending
	before backoff // as it was before the failure, but for failedAt
}

// explainFailure corrects the record of a failed replica once a report says how
// its process ended.
func (a *attempts) explainFailure(u *unit, r *fleet.Replica) {
	x := u.unexplained
	if x == nil || r == nil || r.Exit == nil {
		return
	}
	u.unexplained = nil
	x.exit, x.served = r.Exit, x.served || r.Load.Total > 0
	if b := a.of(u.server, u.rev); x.idle() {
		b.retractFailure(x.ending, &x.before, a.jitter)
	} else {
		b.confirmFailure(x.ending, a.jitter)
	}
}

// recordUnhealthy records that a replica needs to be replaced though it runs.
func (a *attempts) recordUnhealthy(u *unit, why string) {
	b := a.of(u.server, u.rev)
	b.lacks(u.isSpare())
	b.last = why
}

// recordReady records that a replica is READY and healthy. It returns when that
// will have proven that its revision starts; zero means that it has, or is not in
// question.
func (a *attempts) recordReady(u *unit, now time.Time) (proven time.Time) {
	b := a.of(u.server, u.rev)
	b.recordReady(u.readyAt, now)
	if proven = u.readyAt.Add(b.proof()); b.failing && proven.After(now) {
		return proven
	}
	return time.Time{}
}

// recordStart counts a start as the replacement of a failed replica, if there is
// one. It reports whether that had ended because nobody needed it.
func (a *attempts) recordStart(server fleet.ServerName, rev fleet.Revision) (rested bool) {
	b := a.of(server, rev)
	if b.unreplaced == 0 {
		return false
	}
	b.unreplaced--
	a.restarts[server]++
	return b.resting()
}

// recordSpareStart counts the start of a spare as the replacement of one that failed, if
// there is one.
func (a *attempts) recordSpareStart(server fleet.ServerName, rev fleet.Revision) {
	if b := a.of(server, rev); b.lostSpares > 0 {
		b.lostSpares--
		a.restarts[server]++
	}
}

// recordForeignStart does the same for a replica that another controller
// started, if that was after the last failure.
func (a *attempts) recordForeignStart(r *fleet.Replica) (rested bool) {
	if r.CreatedAt.Before(a.of(r.Server, r.Revision).failedAt) {
		return false
	}
	if r.Spare {
		a.recordSpareStart(r.Server, r.Revision)
		return false
	}
	return a.recordStart(r.Server, r.Revision)
}

// wake ends the wait of a server whose replicas ended because nobody needed
// them.
func (a *attempts) wake(name fleet.ServerName, now time.Time) {
	for k, b := range a.backoffs {
		if k.server == name {
			b.wake(now)
		}
	}
}

// observeGeneration forgives a revision its failures once its server was
// restarted by hand.
func (a *attempts) observeGeneration(d *fleet.Server) {
	if was, known := a.restarted[d.Name]; known && was < d.Generation {
		*a.of(d.Name, d.Revision) = backoff{}
	}
	a.restarted[d.Name] = d.Generation
}

// forget drops what no server needs after a pass. inUse has the revisions of the
// replicas that there are.
func (a *attempts) forget(servers []want, plans []decision, inUse map[revision]bool) {
	wanted := make(map[fleet.ServerName]*fleet.Server)
	for i, w := range servers {
		if w.desired == nil {
			continue
		}
		wanted[w.name] = w.desired
		// Not every failed replica needs to be replaced.
		b := a.of(w.name, w.desired.Revision)
		b.unreplaced = min(b.unreplaced, plans[i].need)
		b.lostSpares = min(b.lostSpares, w.desired.Spec.Warm)
		if st := w.desired.Stable; st != 0 && st != w.desired.Revision {
			b := a.of(w.name, st)
			b.unreplaced = min(b.unreplaced, plans[i].needStable)
		}
	}
	a.last = nil
	maps.DeleteFunc(a.backoffs, func(k revision, _ *backoff) bool {
		d := wanted[k.server]
		return !inUse[k] && (d == nil || d.Revision != k.rev && d.Stable != k.rev)
	})
	gone := func(name fleet.ServerName) bool { return wanted[name] == nil }
	maps.DeleteFunc(a.restarts, func(name fleet.ServerName, _ int) bool { return gone(name) })
	maps.DeleteFunc(a.deployed, func(name fleet.ServerName, _ bool) bool { return gone(name) })
	maps.DeleteFunc(a.settled, func(name fleet.ServerName, _ bool) bool { return gone(name) })
	maps.DeleteFunc(a.restarted, func(name fleet.ServerName, _ uint64) bool { return gone(name) })
}
