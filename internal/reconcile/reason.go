package reconcile

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func replicas(n int) string {
	if n == 1 {
		return "1 replica"
	}
	return strconv.Itoa(n) + " replicas"
}

// leavingReason says why a replica must go.
func leavingReason(w *want, u *unit) string {
	switch {
	case u.expired:
		return fmt.Sprintf("the time to drain node %s is over", u.node)
	case u.rev != w.desired.Revision:
		return fmt.Sprintf("revision %d replaces revision %d", w.desired.Revision, u.rev)
	case u.gen < w.desired.Generation:
		return "restarted by hand"
	case u.moving != nil && !u.unhealthy && !u.leaves:
		return u.moving.reason
	case u.leaves:
		return fmt.Sprintf("node %s is draining", u.node)
	default:
		return "unhealthy and replaced"
	}
}

// startReason says why replicas are missing.
func startReason(w *want, g *groups) string {
	if w.back.unreplaced > 0 {
		return "replaces one that failed: " + w.back.last
	}
	old := g.old()
	for _, u := range old {
		if u.rev != w.desired.Revision {
			return leavingReason(w, u)
		}
	}
	switch {
	case len(g.away) > 0 && len(g.fresh)+len(g.away) >= w.desired.Target.Replicas:
		return fmt.Sprintf("no replica serves while node %s cannot be reached", g.away[0].node)
	case len(old) > 0:
		return leavingReason(w, old[0])
	case proves(w.desired):
		return fmt.Sprintf("the server is idle, and revision %d has to show that it works", w.desired.Revision)
	default:
		return fmt.Sprintf("%s wanted, there are %d", replicas(w.desired.Target.Replicas), len(g.fresh)+len(g.away))
	}
}

// The reasons of an idle server.
const (
	textIdle       = "idle: a call starts it"
	textIdleFailed = "idle: a call starts it, but the last start failed: "
)

// idleReason says why the replicas of an idle server are stopped.
func idleReason(d *fleet.Server) string {
	if a := d.Spec.Autoscaling; a != nil {
		return fmt.Sprintf("idle: no calls for %s", a.ToZeroDelay())
	}
	return "idle: no calls"
}

// rolloutNews says what users should know of a rollout if there is nothing else to say
// about the server: that it waits for them, or that it was rolled back. "": neither.
func rolloutNews(d *fleet.Server) string {
	switch r, f := d.Rollout, d.Failed; {
	case r != nil && (r.Held != "" || r.Paused):
		return fmt.Sprintf("the rollout of revision %d is %s", d.Revision, rolloutCondition(d))
	case f != nil:
		return fmt.Sprintf("revision %d was rolled back: %s", f.Revision, f.Reason)
	}
	return ""
}

const (
	quotedLines = 3
	quotedRunes = 200
)

// failure says why a replica ended, with the last lines of its stderr. The cause
// comes first, because long reasons are cut.
func failure(u *unit, e *fleet.Replica) string {
	return failureOf(u.id, u.node, !u.readyAt.IsZero() || e != nil && e.WasReady(), e)
}

func failureOf(id fleet.ReplicaID, node fleet.NodeID, ran bool, e *fleet.Replica) string {
	what := fmt.Sprintf("replica %s on node %s did not start", id, node)
	if ran {
		what = fmt.Sprintf("replica %s on node %s failed", id, node)
	}
	if e == nil {
		return what + ", and the node has forgotten why"
	}
	reason := e.Reason
	if reason == "" && e.Exit != nil {
		reason = e.Exit.String()
	}
	var why, quoted, stderr []string
	for _, line := range e.Log {
		if !strings.HasPrefix(line, fleet.StdoutMark) { // the reason quotes those
			stderr = append(stderr, line)
		}
	}
	for _, line := range stderr[max(0, len(stderr)-quotedLines):] {
		if line = strings.TrimSpace(line); line != "" && !strings.Contains(reason, line) {
			quoted = append(quoted, cut(line))
		}
	}
	if reason != "" {
		why = append(why, reason)
	}
	if len(quoted) > 0 {
		why = append(why, "stderr: "+strings.Join(quoted, " | "))
	}
	if len(why) == 0 {
		return what
	}
	return strings.Join(why, "; ") + " (" + what + ")"
}

func cut(s string) string {
	if r := []rune(s); len(r) > quotedRunes {
		return string(r[:quotedRunes]) + "..."
	}
	return s
}

// stopped says why a replica ended as it was told to.
func stopped(u *unit, end *fleet.Replica) string {
	s := fmt.Sprintf("replica %s on node %s stopped", u.id, u.node)
	switch {
	case end != nil && end.Reason != "":
		s += ": " + end.Reason
	case u.stop != nil:
		s += ": " + u.stop.reason
	}
	return s
}

// unhealthiness says why a replica that runs is to be replaced.
func unhealthiness(r *fleet.Replica) string {
	s := fmt.Sprintf("replica %s on node %s is unhealthy", r.ID, r.Node)
	if r.Reason != "" {
		s += ": " + r.Reason
	}
	return s
}
