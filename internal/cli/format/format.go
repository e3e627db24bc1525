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

// Revision returns the revision of a server, and the previous one during a rollout.
func Revision(s *api.Server) string {
	switch {
	case s.Rollout != nil && s.Rollout.From == s.Rollout.To:
		return fmt.Sprintf("%d (restarting)", s.Revision)
	case s.Rollout != nil && s.Rollout.From != 0:
		return fmt.Sprintf("%d -> %d", s.Rollout.From, s.Rollout.To)
	}
	return strconv.FormatUint(uint64(s.Revision), 10)
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

// Age returns how long ago a time is, or "" if there is none.
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

// Bytes returns an amount of memory.
func Bytes(n int64) string {
	const mib = 1 << 20
	if n >= 10<<30 {
		return fmt.Sprintf("%dGiB", n>>30)
	}
	return fmt.Sprintf("%dMiB", n/mib)
}
