package agent

import (
	"cmp"
	"fmt"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// suspectAfter timed-out calls in a row without a reply in between bring the
// next ping forward.
const suspectAfter = 3

// suspectPause is the wait between a suspect's pings.
const suspectPause = time.Second

const (
	// severalCalls that a server left unanswered which is known to answer others
	// meanwhile, or many calls in a period, and is silent now, are no excuse.
	severalCalls = 2
	manyReplies  = 20
)

// vitals decides from pings and calls whether a replica is healthy. It is
// plain state: the supervisor feeds it and asks it. A ping is a Check of the
// conversation, which does not rely on ping alone.
//
// A ping that fails while a call is inside its deadline says nothing: a server
// with one thread is busy, not dead. As every cancelled call holds its slot
// until the server answers something, a dead server runs out of such calls
// within one call timeout.
//
// That takes as long as calls may, and all callers wait. So it does count while
// several calls are unanswered, those that timed out or whose callers have gone
// included, if the server has shown that silence is not its way: it answered two
// pings while calls ran, or many calls in one of the last periods in which it
// answered any.
type vitals struct {
	plan    fleet.Health
	ticked  int64    // replies at the last tick
	periods [2]int64 // replies in the last periods that had any
	beside  int      // pings answered while a call ran

	replies    int64 // the conversation's replies when last looked at
	failed     int   // pings in a row that count
	unanswered int64 // calls without an answer when the last ping began
	timeouts   int   // calls timed out since the last reply
	unhealthy  bool
}

func newVitals(plan fleet.Health) *vitals {
	plan.Period = cmp.Or(plan.Period, fleet.DefaultHealthPeriod)
	plan.Timeout = cmp.Or(plan.Timeout, fleet.DefaultHealthTimeout)
	plan.Failures = cmp.Or(plan.Failures, fleet.DefaultHealthFailures)
	return &vitals{plan: plan}
}

// alive notes how many replies there were so far. A new one proves life.
func (v *vitals) alive(replies int64) {
	if replies == v.replies {
		return
	}
	v.replies = replies
	v.failed, v.timeouts, v.unhealthy = 0, 0, false
}

// tick notes how many replies there were so far, when a ping is due.
func (v *vitals) tick(replies int64) {
	if n := replies - v.ticked; n > 0 {
		v.periods[0], v.periods[1] = v.periods[1], n
	}
	v.ticked = replies
	v.alive(replies)
}

// prompt reports whether the server is known to answer while calls run, or soon.
func (v *vitals) prompt() bool {
	return v.beside >= 2 || max(v.periods[0], v.periods[1]) >= manyReplies
}

// timedOut notes that n calls timed out.
func (v *vitals) timedOut(n int, replies int64) {
	v.alive(replies)
	v.timeouts += n
}

// pinged notes how a ping ended, which began after a tick. before and after are
// how many calls were inside their deadlines then, and unanswered how many had
// no answer when it began, whatever their deadlines.
func (v *vitals) pinged(err error, before, after, unanswered, replies int64) {
	v.unanswered = unanswered
	switch {
	case err == nil || replies != v.replies:
		if err == nil && replies-v.replies <= 1 && min(before, after) > 0 {
			v.beside++ // the one reply was to the ping
		}
		v.replies = replies
		v.failed, v.timeouts, v.unhealthy = 0, 0, false
	case max(before, after) == 0, v.unanswered >= severalCalls && v.prompt():
		v.failed++
		v.unhealthy = v.unhealthy || v.failed >= v.plan.Failures
	}
}

// suspect tells that the next ping should not wait for the period.
func (v *vitals) suspect() bool { return v.timeouts >= suspectAfter && !v.unhealthy && !v.plan.Off }

// last tells that the replica is unhealthy if the next ping fails, too.
func (v *vitals) last() bool { return v.failed+1 >= v.plan.Failures }

// pause is how long to wait before the next ping.
func (v *vitals) pause() time.Duration {
	if v.suspect() || v.failed > 0 && v.unanswered >= severalCalls && !v.unhealthy {
		return min(v.plan.Period, suspectPause)
	}
	return v.plan.Period
}

func (v *vitals) reason() string {
	if !v.unhealthy {
		return ""
	}
	return fmt.Sprintf("unhealthy: %d pings in a row without an answer within %s, and none to tools/list", v.failed, v.plan.Timeout)
}
