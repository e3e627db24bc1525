package stdio

import (
	"slices"
	"strconv"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// Cancel ends a call with ErrCancelled before it returns. It reports false if the call has ended
// already. A call that still waits to be written is dropped. If the call may have been written, the
// server gets notifications/cancelled and then a probe. The call is released when its late reply
// arrives, or the answer to the probe or to any later request. Until then the server may still be
// busy with it. Servers of the modern era never answer a cancelled call.
func (c *Conn) Cancel(p *Pending, reason string) bool {
	c.mu.Lock()
	if p.ended {
		c.mu.Unlock()
		return false
	}
	delivered := p.phase != phaseQueued
	held := delivered && !p.quiet
	p.ended, p.ending = true, held
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
		p.ending = false
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

// probe returns the request whose answer frees cancelled calls. It needs the lock.
func (c *Conn) probe() *Pending {
	method, params := c.question()
	p := &Pending{id: c.lastID.Add(1), quiet: true, size: envelopeSize + len(params), line: [3][]byte{params}, call: &Call{
		Method: method,
		Done: func(r Reply) {
			r.Release()
			c.noteAnswer(method, r)
		},
	}}
	c.pending[p.id] = p
	return p
}

// takeFreed takes the cancelled calls off the pending that the server no longer works on, because it
// has answered a request that came after them. It needs the lock. The caller then unlocks it and
// calls free with each of them.
func (c *Conn) takeFreed(answered uint64) (freed []*Pending) {
	if len(c.held) == 0 {
		return nil
	}
	c.held = slices.DeleteFunc(c.held, func(p *Pending) bool {
		_, holds := c.pending[p.id]
		if holds && p.after < answered {
			delete(c.pending, p.id)
			freed = append(freed, p)
			holds = false
		}
		return !holds // freed now, or before: by its own late reply or a failed write
	})
	return freed
}

// free releases a cancelled call, or leaves that to Cancel if it has not called Done yet.
func (c *Conn) free(p *Pending) {
	c.mu.Lock()
	p.free = true
	done := !p.ending
	c.mu.Unlock()
	if done {
		p.released()
	}
}
