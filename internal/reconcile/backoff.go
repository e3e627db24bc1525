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
}

// fail records that a replica ended, or could not be started. Of the failures
// of one round, replicas that were all started before the delay last grew, only
// the first makes it grow: twenty replicas that die together are one reason to
// wait.
func (b *backoff) fail(startedAt, readyAt, now time.Time, why string, jitter func() float64) {
	b.owed++
	b.last = why
	ran := !readyAt.IsZero() && now.Sub(readyAt) >= backoffReset
	calm := !b.healthy.IsZero() && now.Sub(b.healthy) >= backoffReset
	if ran || calm {
		b.delay = 0
	}
	b.healthy, b.failedAt = time.Time{}, now
	b.unstarted = readyAt.IsZero()
	if readyAt.IsZero() || now.Sub(readyAt) < provenAfter {
		b.failing = true
	}
	if !b.bumpedAt.IsZero() && !startedAt.After(b.bumpedAt) {
		if next := now.Add(spread(backoffFirst, jitter)); next.After(b.notBefore) {
			b.notBefore = next
		}
		return
	}
	b.delay = min(max(2*b.delay, backoffFirst), backoffMax)
	b.bumpedAt = now
	b.notBefore = now.Add(spread(b.delay, jitter))
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
