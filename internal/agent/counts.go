package agent

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// counts counts the calls of a replica that have ended, by their outcome. Calls that were
// not delivered, or that their caller gave up, are not counted.
type counts struct {
	ok, isError, failed, timedOut, lost atomic.Uint64
	latency                             [len(fleet.LatencyBounds) + 1]atomic.Uint64
}

// ended counts a call that took so long.
func (c *counts) ended(e *fleet.CallEvent, took time.Duration) {
	switch {
	case e.Err == nil && e.Error == nil && mcp.IsErrorResult(e.Result):
		c.isError.Add(1)
	case e.Err == nil && e.Error == nil:
		c.ok.Add(1)
	case e.Err == nil, errors.Is(e.Err, fleet.ErrBadReply), errors.Is(e.Err, fleet.ErrReplyTooLarge):
		c.failed.Add(1)
	case errors.Is(e.Err, context.Canceled), errors.Is(e.Err, fleet.ErrNotDelivered), errors.Is(e.Err, fleet.ErrOverloaded):
		return
	case errors.Is(e.Err, fleet.ErrTimeout):
		c.timedOut.Add(1)
		return
	default:
		c.lost.Add(1)
		return
	}
	c.latency[latencyBucket(took)].Add(1)
}

// latencyBucket returns the index in fleet.CallCounts.Latency of a call that took so
// long.
func latencyBucket(took time.Duration) int {
	i, _ := slices.BinarySearch(fleet.LatencyBounds[:], took)
	return i
}

// total returns how many calls were counted.
func (c *counts) total() uint64 {
	return c.ok.Load() + c.isError.Load() + c.failed.Load() + c.timedOut.Load() + c.lost.Load()
}

// now returns the counts as they are reported.
func (c *counts) now() fleet.CallCounts {
	out := fleet.CallCounts{
		OK: c.ok.Load(), IsError: c.isError.Load(), Error: c.failed.Load(), TimedOut: c.timedOut.Load(), Lost: c.lost.Load(),
	}
	if out.OK+out.IsError+out.Error > 0 {
		out.Latency = make([]uint64, len(c.latency))
		for i := range c.latency {
			out.Latency[i] = c.latency[i].Load()
		}
	}
	return out
}
