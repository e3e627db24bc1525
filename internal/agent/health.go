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

// vitals decides from pings and calls whether a replica is healthy. It is
// plain state: the supervisor feeds it and asks it. A ping is a Check of the
// conversation, which does not rely on ping alone.
//
// A ping that fails while a call is inside its deadline says nothing: a server
// with one thread is busy, not dead. As every cancelled call holds its slot
// until the server answers something, a dead server runs out of such calls
// within one call timeout.
type vitals struct {
	plan      fleet.Health
	replies   int64 // the conversation's replies when last looked at
	failed    int   // pings in a row that count
	timeouts  int   // calls timed out since the last reply
	unhealthy bool
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

// timedOut notes that n calls timed out.
func (v *vitals) timedOut(n int, replies int64) {
	v.alive(replies)
	v.timeouts += n
}

// pinged notes how a ping ended, which began after a call of alive. busy says that a call was inside its deadline
// meanwhile.
func (v *vitals) pinged(err error, busy bool, replies int64) {
	switch {
	case err == nil || replies != v.replies:
		v.replies = replies
		v.failed, v.timeouts, v.unhealthy = 0, 0, false
	case !busy:
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
	if v.suspect() {
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
