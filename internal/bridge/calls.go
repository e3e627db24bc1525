package bridge

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// reachTime is how long a cancellation waits for its request to reach the server.
const reachTime = time.Second

var errCancelled = errors.New("the client has cancelled the request")

// call is a request of the client.
type call struct {
	b       *bridge
	m       *message
	after   <-chan struct{} // closed when the notifications before it were delivered
	ctx     context.Context // of this request, which may be cancelled from elsewhere
	cancel  context.CancelCauseFunc
	silent  atomic.Bool   // nothing more goes to the client
	sent    atomic.Bool   // a controller may have got it
	reached chan struct{} // closed when a controller has begun to answer
	done    chan struct{}

	at      pass   // the session it was sent in last
	opened  string // the session that the answer to initialize names
	repeats int
	renewed int
	learned bool // the tools were listed again
	sub     subscription
}

// calls are the requests under way. Its methods may be called at any time.
type calls struct {
	mu   sync.Mutex
	byID map[string]*call
}

func (cs *calls) add(b *bridge, m *message, after <-chan struct{}) *call {
	ctx, cancel := context.WithCancelCause(b.ctx)
	c := &call{b: b, m: m, after: after, ctx: ctx, cancel: cancel, reached: make(chan struct{}), done: make(chan struct{})}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.byID == nil {
		cs.byID = map[string]*call{}
	}
	cs.byID[idKey(m.env.ID)] = c
	return c
}

func (cs *calls) remove(c *call) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if key := idKey(c.m.env.ID); cs.byID[key] == c {
		delete(cs.byID, key)
	}
}

// cancel cancels the request that a notification names. A modern request ends
// with its HTTP request. A legacy server gets the notification, once it has got
// the request. Either way the client hears nothing more of it.
func (cs *calls) cancel(b *bridge, m *message) {
	cs.mu.Lock()
	c := cs.byID[idKey(within(m.env.Params, "requestId"))]
	cs.mu.Unlock()
	if c == nil {
		b.log.Debug("the client has cancelled a request that is not under way")
		return
	}
	c.silent.Store(true)
	if c.m.modern() || !c.sent.Load() {
		c.cancel(errCancelled)
		return
	}
	b.start(&b.background, func() {
		timer := time.NewTimer(reachTime)
		defer timer.Stop()
		select {
		case <-c.reached:
		case <-timer.C:
		case <-c.done:
			return
		}
		b.convey(m)
		c.cancel(errCancelled)
	})
}

// run sends the request and answers it.
func (c *call) run() {
	defer close(c.done)
	defer c.cancel(nil)
	defer c.b.calls.remove(c)
	f := c.answer()
	if f == nil || c.silent.Load() || c.b.ctx.Err() != nil {
		return
	}
	c.b.log.Warn("a request failed", "method", c.m.method, "id", string(c.m.env.ID), "err", f)
	c.b.out.message(f.reply(c.m.env.ID))
}
