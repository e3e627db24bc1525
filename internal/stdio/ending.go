package stdio

import (
	"cmp"
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// ending is a call that was taken off the pending. late means that it was cancelled.
type ending struct {
	*Pending
	late bool
}

// take marks a call that was taken off the pending as ended. Only the caller may end it, and does so
// later. It needs the lock.
func (p *Pending) take() ending {
	late := p.ended
	p.ended = true
	return ending{p, late}
}

func (c *Conn) finishAll(calls []ending, r Reply) {
	for _, e := range calls {
		c.finish(e.Pending, r, e.late)
	}
}

// finish calls Done and Released. late means that the call was cancelled, so that Cancel calls Done.
func (c *Conn) finish(p *Pending, r Reply, late bool) {
	if late {
		r.Release()
		c.free(p)
		return
	}
	p.call.Done(r)
	p.released()
}

func (p *Pending) released() {
	if p.call.Released != nil {
		p.call.Released()
	}
}

// noteUnread records whether the server, whose stdout has ended, has read any of its stdin. Not every
// pipe can tell.
func (c *Conn) noteUnread() {
	if pipe, ok := c.cfg.In.(interface{ Unread() (n int, ok bool) }); ok {
		n, known := pipe.Unread()
		c.unheard.Store(known && int64(n) >= c.counts.bytesOut.Load())
	}
}

// endAll ends the calls that were not answered, oldest first. Reader and writer have ended.
func (c *Conn) endAll() {
	c.mu.Lock()
	left := make([]ending, 0, len(c.pending))
	pinged, busy := false, false
	for _, p := range c.pending {
		isPing := p.call.Method == mcp.MethodPing && p.phase == phaseWritten
		pinged, busy = pinged || isPing, busy || !isPing
		left = append(left, p.take())
	}
	clear(c.pending)
	c.held = nil
	if c.owner != nil {
		for r := range c.owner.open {
			c.cfg.Budget.release(len(r.Params))
		}
		clear(c.owner.open)
	}
	c.mu.Unlock()
	c.endedByPing.Store(pinged && !busy && !c.answersPing.Load())
	slices.SortFunc(left, func(a, b ending) int { return cmp.Compare(a.id, b.id) })
	c.finishAll(left, Reply{Err: ErrLost, Delivered: true})
	if n := c.strays.suppressed; n > 0 {
		c.log.Warn("more lines skipped: not JSON-RPC", "suppressed", n)
	}
}
