package reconcile

import (
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// The restart policy.
const (
	backoffFirst = 100 * time.Millisecond
	backoffMax   = 30 * time.Second
	backoffReset = 60 * time.Second // of health
	// backoffInUse bounds the wait after replicas that served calls before they
	// died. They start, and calls end them: a longer wait would only leave less
	// for all other callers.
	backoffInUse = 250 * time.Millisecond
	// idleAfter is how long a replica must have been READY before an exit with
	// code 0 means that it ended because nobody needed it.
	idleAfter = 2 * time.Second
	// provenAfter bounds how long a replica must have been READY before its start
	// counts as a success.
	provenAfter = 5 * time.Second
	// startsUnproven is how many replicas of a revision start at once before any
	// of it has been READY.
	startsUnproven = 4
)

// backoff is how starting one revision of one server has gone. Its zero value is
// that of a revision that has not been tried.
type backoff struct {
	delay     time.Duration
	notBefore time.Time // next replacement of a failed replica
	bumpedAt  time.Time
	// failing: the last start failed and none has succeeded since. One probe is
	// started per delay, however many replicas are wanted.
	failing    bool
	unstarted  bool // the last one that failed never was READY, and none has been since
	everReady  bool
	unreplaced int          // failed replicas not yet replaced
	lostSpares int          // spares that failed, not yet replaced
	healthy    time.Time    // since when one has been READY and none has failed
	failedAt   time.Time    // the last time
	last       string       // the last failure in words
	failedOn   fleet.NodeID // the last time
	// rest is the wait after replicas that ended because nobody needed them. It
	// grows while none of them is called. 0: the last one ended otherwise.
	rest     time.Duration
	restedAt time.Time // when rest last changed
}

// ending is the end of one replica that nobody stopped.
type ending struct {
	node    fleet.NodeID
	spare   bool
	started time.Time
	ready   time.Time // zero: it never was
	at      time.Time
	served  bool        // it took calls
	exit    *fleet.Exit // nil while it is not known
	why     string
}

// idle reports whether the replica ended because nobody needed it. That is no
// failure.
func (e *ending) idle() bool {
	x := e.exit
	clean := x != nil && x.Code == 0 && x.Signal == "" && !x.OOM && x.Err == ""
	return clean && !e.ready.IsZero() && e.at.Sub(e.ready) >= idleAfter
}

// mayBeIdle reports whether idle may become true once the exit is known.
func (e *ending) mayBeIdle() bool {
	return e.exit == nil && !e.served && !e.ready.IsZero() && e.at.Sub(e.ready) >= idleAfter
}

// lacks records that a replica has to be replaced.
func (b *backoff) lacks(spare bool) {
	if spare {
		b.lostSpares++
	} else {
		b.unreplaced++
	}
}

// recordFailure records that a replica ended, or could not be started. Replicas
// that were started before the delay last grew belong to one round, and only the
// first of a round makes it grow: twenty replicas that die together are one reason
// to wait.
func (b *backoff) recordFailure(e ending, jitter func() float64) {
	now := e.at
	b.lacks(e.spare)
	b.last, b.failedOn = e.why, e.node
	ran := !e.ready.IsZero() && now.Sub(e.ready) >= backoffReset
	calm := !b.healthy.IsZero() && now.Sub(b.healthy) >= backoffReset
	if ran || calm {
		b.delay = 0
	}
	b.healthy, b.failedAt = time.Time{}, now
	b.unstarted = e.ready.IsZero()
	presumed := b.rest > 0 && e.mayBeIdle()
	works := !e.ready.IsZero() && (e.served || e.idle() || presumed)
	switch {
	case works:
		b.failing = false
	case e.ready.IsZero() || now.Sub(e.ready) < provenAfter:
		b.failing = true
	}
	if e.idle() {
		b.recordIdleEnd(e, jitter)
		return
	}
	if e.exit != nil {
		b.rest = 0
	}
	if !b.bumpedAt.IsZero() && !e.started.After(b.bumpedAt) {
		b.notBefore = latest(b.notBefore, now.Add(spread(backoffFirst, jitter)))
	} else {
		longest := backoffMax
		if works {
			longest = backoffInUse
		}
		b.delay = min(max(2*b.delay, backoffFirst), longest)
		b.bumpedAt = now
		b.notBefore = now.Add(spread(b.delay, jitter))
	}
	if presumed {
		// The reason is reported later. Until then assume that nobody needed it,
		// like those before it.
		b.notBefore = latest(b.notBefore, now.Add(spread(b.rest, jitter)))
	}
}

// recordIdleEnd puts off the next start after a replica that nobody needed. The
// waits grow as those after failures do, but a call ends them; see wake. Of replicas
// that end together only the first makes the wait grow.
func (b *backoff) recordIdleEnd(e ending, jitter func() float64) {
	switch {
	case e.served || b.rest == 0:
		b.rest, b.restedAt = backoffFirst, e.at
	case e.started.After(b.restedAt):
		b.rest, b.restedAt = min(2*b.rest, backoffMax), e.at
	}
	b.notBefore = e.at.Add(spread(b.rest, jitter))
}

// resting reports whether replicas of the revision end when nobody needs them, as
// the last one did.
func (b *backoff) resting() bool { return b.rest > 0 && !b.failing }

// wake ends the wait of a resting revision, because a call needs it.
func (b *backoff) wake(now time.Time) {
	if b.resting() && b.unreplaced > 0 && b.notBefore.After(now) {
		b.rest, b.restedAt, b.notBefore = backoffFirst, now, now
	}
}

// retractFailure turns a recorded failure into the end of a replica that nobody
// needed. before is the back-off as it was then.
func (b *backoff) retractFailure(e ending, before *backoff, jitter func() float64) {
	if !b.failedAt.Equal(before.failedAt) {
		return // others have failed since
	}
	b.delay, b.bumpedAt, b.failing = before.delay, before.bumpedAt, false
	b.recordIdleEnd(e, jitter)
}

// confirmFailure ends the rest of a revision whose replica was assumed to have
// ended because nobody needed it, and had failed.
func (b *backoff) confirmFailure(e ending, jitter func() float64) {
	if b.rest == 0 || !b.failedAt.Equal(e.at) {
		return
	}
	b.rest = 0
	if next := e.at.Add(spread(b.delay, jitter)); next.Before(b.notBefore) {
		b.notBefore = next
	}
}

// recordReady records that a replica has been READY since readyAt.
func (b *backoff) recordReady(readyAt, now time.Time) {
	b.everReady = true
	if b.healthy.IsZero() {
		b.healthy = latest(readyAt, b.failedAt)
	}
	if !readyAt.After(b.bumpedAt) {
		return
	}
	b.unstarted = false
	if b.failing && !now.Before(readyAt.Add(b.proof())) {
		b.failing = false
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// hopeless reports whether there is no point in waiting for the next start.
func (b *backoff) hopeless() bool { return b.unstarted || b.failing && b.delay > time.Second }

// avoids returns the node where the next start should not be, if another one takes it:
// the one of the last start, if that failed and no replica of the revision is READY.
// Only a start elsewhere shows whether the node or the revision is the cause.
func (b *backoff) avoids(units []*unit) fleet.NodeID {
	if !b.unstarted || slices.ContainsFunc(units, (*unit).ready) {
		return ""
	}
	return b.failedOn
}

// holdOff makes the wait ten times as long for a server that runs only while it is
// called, and does not start: those who called it have been answered, so nobody waits
// for the next try.
func (b *backoff) holdOff() {
	if b.hopeless() {
		b.notBefore = latest(b.notBefore, b.bumpedAt.Add(min(10*b.delay, backoffMax)))
	}
}

// proof returns how long a probe must be READY before others follow it.
func (b *backoff) proof() time.Duration { return min(b.delay, provenAfter) }

// spread changes d by up to a fifth either way, so that replicas that failed
// together do not start together. jitter returns numbers in [0, 1).
func spread(d time.Duration, jitter func() float64) time.Duration {
	return d + time.Duration((jitter()*0.4-0.2)*float64(d))
}
