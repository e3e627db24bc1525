package stdio

import (
	"slices"
	"strconv"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// Cancel gives a call up: it ends with ErrCancelled before Cancel returns, unless it has ended already,
// which false says. A call that still waits to be written never will be. For one that may have been
// written the server gets notifications/cancelled and then a question. The call counts as released
// when its late reply arrives, or the answer to that question or to anything else that was asked
// later, because before that the server is still busy with it.
func (c *Conn) Cancel(p *Pending, reason string) bool {
	c.mu.Lock()
	if p.ended {
		c.mu.Unlock()
		return false
	}
	delivered := p.phase != phaseQueued
	held := delivered && !p.quiet
	p.ended, p.telling = true, held
	if !delivered {
		c.queue.remove(p)
		c.waiting -= p.size
	}
	if !held {
		delete(c.pending, p.id)
	} else if !c.inputClosed {
		c.enqueue(notification(mcp.MethodCancelled, cancelledParams(p.id, reason)))
		p.after = c.lastID.Load()
		c.held = append(c.held, p)
		c.enqueue(c.probe())
	}
	c.mu.Unlock()
	c.signal()
	p.call.Done(Reply{Err: ErrCancelled, Delivered: delivered})
	if held {
		c.mu.Lock()
		p.telling = false
		held = !p.free
		c.mu.Unlock()
	}
	if !held {
		p.released()
	}
	return true
}

func cancelledParams(id uint64, reason string) []byte {
	params := strconv.AppendUint([]byte(`{"requestId":`), id, 10)
	if reason != "" {
		params = mcp.AppendString(append(params, `,"reason":`...), reason)
	}
	return append(params, '}')
}

// probe makes the question whose answer frees cancelled calls. It needs the lock.
func (c *Conn) probe() *Pending {
	method := c.question()
	p := &Pending{id: c.lastID.Add(1), quiet: true, size: envelopeSize, call: &Call{
		Method: method,
		Done: func(r Reply) {
			r.Release()
			c.noteAnswer(method, r)
		},
	}}
	c.pending[p.id] = p
	return p
}

// letGo returns the cancelled calls that the server has shown not to be busy with any more, by its
// answer to a request that came after them. They are no longer pending. It needs the lock, and free
// must follow without it.
func (c *Conn) letGo(answered uint64) (freed []*Pending) {
	if len(c.held) == 0 {
		return nil
	}
	c.held = slices.DeleteFunc(c.held, func(p *Pending) bool {
		if p.after < answered {
			delete(c.pending, p.id)
			freed = append(freed, p)
			return true
		}
		return p.id == answered // its own late reply, which frees it
	})
	return freed
}

// free releases a cancelled call, or leaves that to Cancel, if it has not told of the end yet.
func (c *Conn) free(p *Pending) {
	c.mu.Lock()
	p.free = true
	told := !p.telling
	c.mu.Unlock()
	if told {
		p.released()
	}
}
