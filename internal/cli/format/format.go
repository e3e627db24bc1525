// Package format has the text of what the API says, for tables that people read. It
// is pure: where the text depends on the time, the caller passes that.
package format

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

// Ready returns how many replicas of a server are ready and wanted, and how many warm
// spares there are. Of a server that scales by itself it also has the bounds, and of one
// whose sessions have replicas to themselves the greatest number of these.
func Ready(s *api.Server) string {
	text := fmt.Sprintf("%d/%d", s.Ready, s.Desired)
	if s.Spares > 0 {
		text += fmt.Sprintf(" +%d warm", s.Spares)
	}
	if s.Sessions != nil {
		text = fmt.Sprintf("%s (sessions, at most %d", text, s.Sessions.Max)
		if s.Sessions.Waiting > 0 {
			text += fmt.Sprintf(", %d waiting", s.Sessions.Waiting)
		}
		return text + ")"
	}
	a := s.Autoscaling
	switch {
	case a == nil:
		return text
	case a.Floor != nil:
		return fmt.Sprintf("%s (%d..%d, at least %d)", text, a.MinReplicas, a.MaxReplicas, a.Floor.MinReplicas)
	}
	return fmt.Sprintf("%s (%d..%d)", text, a.MinReplicas, a.MaxReplicas)
}

// Phase returns the phase of a replica, and whether it is a spare, or whose it is.
func Phase(r *api.Replica) string {
	switch {
	case r.Session != "":
		return r.Phase + ", session " + r.Session
	case r.Spare:
		return r.Phase + ", spare"
	}
	return r.Phase
}

// Revision returns the revision of a server, the previous one during a rollout, and
// the one that was rolled back last.
func Revision(s *api.Server) string {
	text := strconv.FormatUint(uint64(s.Revision), 10)
	switch {
	case s.Rollout != nil && s.Rollout.From == s.Rollout.To:
		text += " (restarting)"
	case s.Rollout != nil && s.Rollout.From != 0:
		text = fmt.Sprintf("%d -> %d", s.Rollout.From, s.Rollout.To)
	}
	if s.Failed != nil {
		text += fmt.Sprintf(" (%d failed)", s.Failed.Revision)
	}
	return text
}

// NodeState returns the state of a node, and whether it is cordoned or drained.
func NodeState(n *api.Node, now time.Time) string {
	parts := []string{n.State}
	if n.Leader {
		parts = append(parts, "leader")
	}
	switch {
	case n.DrainUntil != nil && n.DrainUntil.After(now):
		parts = append(parts, "drains until "+n.DrainUntil.In(now.Location()).Format(time.TimeOnly))
	case n.DrainUntil != nil:
		parts = append(parts, "drained")
	case n.Cordoned:
		parts = append(parts, "cordoned")
	}
	return strings.Join(parts, ", ")
}

// Age returns how long ago a time was. It returns "" for nil.
func Age(t *time.Time, now time.Time) string {
	if t == nil {
		return ""
	}
	switch d := now.Sub(*t); {
	case d > 48*time.Hour:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d > time.Minute:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	default:
		return d.Round(time.Second).String()
	}
}

// CPUShare returns "allocated/capacity" of a node's processors, or "" if the capacity
// is 0, which means unknown.
func CPUShare(n *api.Node) string {
	if n.Capacity.CPUs == 0 {
		return ""
	}
	return fmt.Sprintf("%g/%g", n.Allocated.CPUs, n.Capacity.CPUs)
}

// MemoryShare returns "allocated/capacity" of a node's memory, or "" if the capacity
// is 0, which means unknown.
func MemoryShare(n *api.Node) string {
	if n.Capacity.Memory == 0 {
		return ""
	}
	return Bytes(n.Allocated.Memory) + "/" + Bytes(n.Capacity.Memory)
}

// Latency returns how long calls took. Of those that took more than a minute, nothing
// else is known.
func Latency(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1fms", float64(d)/float64(time.Millisecond))
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return ">1m"
}

// Bytes returns an amount of memory.
func Bytes(n int64) string {
	const mib = 1 << 20
	if n >= 10<<30 {
		return fmt.Sprintf("%dGiB", n>>30)
	}
	return fmt.Sprintf("%dMiB", n/mib)
}
