package reconcile

import (
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// The restart policy.
const (
	backoffFirst = 100 * time.Millisecond
	backoffMax   = 30 * time.Second
	backoffReset = 60 * time.Second // of health
	// backoffInUse bounds the wait after replicas that served calls before they
	// died. Starting them works, and it is calls that end them: the longer the
	// wait, the less is left for all other callers.
	backoffInUse = 250 * time.Millisecond
	// idleAfter is how long a replica must have been READY for an exit with code
	// 0 to count as one of a server that ends when nobody needs it.
	idleAfter = 2 * time.Second
	// provenAfter bounds how long a replica must have been READY to count as
	// one that starts: dying sooner is a failed start.
	provenAfter = 5 * time.Second
	// startsUnproven is how many of a revision start at once before any of it
	// has ever been READY.
	startsUnproven = 4
)

// backoff is how starting one revision of one server has gone. The zero value
// is a revision that has not been tried.
type backoff struct {
	delay     time.Duration
	notBefore time.Time // next replacement of a failed replica
	bumpedAt  time.Time
	// failing: the last start failed and none has succeeded since; one probe is
	// started per delay, whatever the number of replicas wanted.
	failing   bool
	unstarted bool // the last failure was a start's, and none has been READY since
	everReady bool
	owed      int       // failed replicas not yet replaced
	healthy   time.Time // since when one is READY and none failed
	failedAt  time.Time // last
	last      string    // failure, in words
	// rest is the wait after replicas that ended because nobody needed them; it
	// grows while none of them is called. 0: the last end was another.
	rest     time.Duration
	restedAt time.Time // when rest last changed
}

// ending is the end of one replica that nobody asked for.
type ending struct {
	started time.Time
	ready   time.Time // zero: it never was
	at      time.Time
	served  bool        // it took calls
	exit    *fleet.Exit // nil: not known, or not yet
	why     string
}

// idle reports whether the replica ended because nobody needed it. That is no
// failure.
func (e *ending) idle() bool {
	x := e.exit
	clean := x != nil && x.Code == 0 && x.Signal == "" && !x.OOM && x.Err == ""
	return clean && !e.ready.IsZero() && e.at.Sub(e.ready) >= idleAfter
}

// mayBeIdle reports whether idle may prove true once the exit is known.
func (e *ending) mayBeIdle() bool {
	return e.exit == nil && !e.served && !e.ready.IsZero() && e.at.Sub(e.ready) >= idleAfter
}

// fail records that a replica ended, or could not be started. Of the failures
// of one round, replicas that were all started before the delay last grew, only
// the first makes it grow: twenty replicas that die together are one reason to
// wait.
func (b *backoff) fail(e ending, jitter func() float64) {
	now := e.at
	b.owed++
	b.last = e.why
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
		b.sleep(e, jitter)
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
		// Why it ended is told later. As those before, it was not needed.
		b.notBefore = latest(b.notBefore, now.Add(spread(b.rest, jitter)))
	}
}

// sleep puts off the next start after a replica that nobody needed. The waits
// grow as those after failures do, but for a call: that ends them, see wake. Of
// replicas that end together only the first makes the wait grow.
func (b *backoff) sleep(e ending, jitter func() float64) {
	switch {
	case e.served || b.rest == 0:
		b.rest, b.restedAt = backoffFirst, e.at
	case e.started.After(b.restedAt):
		b.rest, b.restedAt = min(2*b.rest, backoffMax), e.at
	}
	b.notBefore = e.at.Add(spread(b.rest, jitter))
}

// rests reports whether replicas of the revision end when nobody needs them, as
// the last one did.
func (b *backoff) rests() bool { return b.rest > 0 && !b.failing }

// wake ends the wait of a revision that rests: it is called.
func (b *backoff) wake(now time.Time) {
	if b.rests() && b.owed > 0 && b.notBefore.After(now) {
		b.rest, b.restedAt, b.notBefore = backoffFirst, now, now
	}
}

// excuse takes a failure back that turned out to be none: the replica had ended
// because nobody needed it. before is what there was then.
func (b *backoff) excuse(e ending, before *backoff, jitter func() float64) {
	if !b.failedAt.Equal(before.failedAt) {
		return // there were others since
	}
	b.delay, b.bumpedAt, b.failing = before.delay, before.bumpedAt, false
	b.sleep(e, jitter)
}

// accuse takes note that a replica that seemed to have ended because nobody
// needed it had failed.
func (b *backoff) accuse(e ending, jitter func() float64) {
	if b.rest == 0 || !b.failedAt.Equal(e.at) {
		return
	}
	b.rest = 0
	if next := e.at.Add(spread(b.delay, jitter)); next.Before(b.notBefore) {
		b.notBefore = next
	}
}

// see records that a replica is READY since readyAt.
func (b *backoff) see(readyAt, now time.Time) {
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

// hopeless tells whether there is no point in waiting for the next start.
func (b *backoff) hopeless() bool { return b.unstarted || b.failing && b.delay > time.Second }

// proof is how long a probe must be READY before others follow it.
func (b *backoff) proof() time.Duration { return min(b.delay, provenAfter) }

// spread moves d by up to a fifth either way, so that what failed together does
// not start together. jitter returns numbers in [0, 1).
func spread(d time.Duration, jitter func() float64) time.Duration {
	return d + time.Duration((jitter()*0.4-0.2)*float64(d))
}

type revision struct {
	server fleet.ServerName
	rev    fleet.Revision
}
