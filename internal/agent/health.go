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
	// severalCalls without an answer do not excuse a failed ping if the server is
	// known to answer pings beside calls, or manyCalls in a period.
	severalCalls = 2
	manyReplies  = 20
)

// vitals decides from pings and calls whether a replica is healthy. The supervisor
// updates it. A ping is a Check of the conversation, which may use tools/list too.
//
// A ping that fails while a call is inside its deadline does not count: a server with
// one thread is busy, not dead. Every cancelled call holds its slot until the server
// answers something. So a dead server has no such calls left within one call timeout.
//
// But all callers wait until then. So a failed ping counts all the same while several
// calls are unanswered, including those that timed out or whose callers have gone, if
// the server used to be responsive: it answered two pings while calls ran, or many
// calls in one of the last periods in which it answered any.
type vitals struct {
	plan    fleet.Health
	modern  bool     // the ping is server/discover
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

// alive records the number of replies so far. A new one shows that the server lives.
func (v *vitals) alive(replies int64) {
	if replies == v.replies {
		return
	}
	v.replies = replies
	v.failed, v.timeouts, v.unhealthy = 0, 0, false
}

// tick records the number of replies so far when a ping is due.
func (v *vitals) tick(replies int64) {
	if n := replies - v.ticked; n > 0 {
		v.periods[0], v.periods[1] = v.periods[1], n
	}
	v.ticked = replies
	v.alive(replies)
}

// prompt reports whether the server used to be responsive.
func (v *vitals) prompt() bool {
	return v.beside >= 2 || max(v.periods[0], v.periods[1]) >= manyReplies
}

// timedOut records that n calls timed out.
func (v *vitals) timedOut(n int, replies int64) {
	v.alive(replies)
	v.timeouts += n
}

// pinged records the outcome of a ping that began after a tick. before and after are
// the calls inside their deadlines when it began and ended. unanswered are the calls
// without an answer when it began, whatever their deadlines.
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

// suspect reports whether the next ping should not wait for the period.
func (v *vitals) suspect() bool { return v.timeouts >= suspectAfter && !v.unhealthy && !v.plan.Off }

// last reports whether the replica is unhealthy if the next ping fails too.
func (v *vitals) last() bool { return v.failed+1 >= v.plan.Failures }

// pause returns how long to wait before the next ping.
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
	if v.modern {
		return fmt.Sprintf("unhealthy: %d times in a row no answer to server/discover within %s", v.failed, v.plan.Timeout)
	}
	return fmt.Sprintf("unhealthy: %d pings in a row without an answer within %s, and none to tools/list", v.failed, v.plan.Timeout)
}
