package stdio

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// maxServerRequests bounds the server's requests that wait for their owner's
// answer.
const maxServerRequests = 64

// Owner receives the server's own requests and notifications. The reader calls its
// methods, so they must not block: an owner queues, within bounds, and refuses
// requests beyond them. A method may still be running when the ownership ends.
type Owner interface {
	// Request receives a request of the server, such as sampling/createMessage.
	// The owner answers it once, with Answer or Fail, now or later, or forgets it.
	Request(*ServerRequest)
	// Notification receives a notification other than progress, which goes to its
	// call. params are valid only during the call of Notification.
	Notification(method string, params []byte)
}

// ServerRequest is a request of the server that waits for its answer. Its
// fields must not be changed.
type ServerRequest struct {
	ID     []byte // raw; a later notifications/cancelled of the server may name it
	Method string
	Params []byte // raw; nil if there are none

	conn *Conn
	to   *ownership
}

// ownership is the time during which a conversation has one owner.
type ownership struct {
	Owner
	open map[*ServerRequest]struct{} // wait for the owner's answer; nil when the ownership has ended
}

// Own makes o the owner of the conversation until release is called. It fails with
// ErrOwned if there is an owner. Without one, the server's requests are refused. So
// are requests that are still open when the ownership ends. Pings are answered
// without the owner.
func (c *Conn) Own(o Owner) (release func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.owner != nil {
		return nil, ErrOwned
	}
	c.owner = &ownership{o, make(map[*ServerRequest]struct{})}
	return sync.OnceFunc(c.disown), nil
}

func (c *Conn) disown() {
	c.mu.Lock()
	open := c.owner.open
	c.owner.open, c.owner = nil, nil
	c.mu.Unlock()
	for r := range open {
		c.cfg.Budget.release(len(r.Params))
		c.refuse(r.ID, mcp.CodeInternalError, "the client is gone")
	}
}

// serverRequest passes a request to the owner, or refuses it.
func (c *Conn) serverRequest(env mcp.Envelope) {
	c.mu.Lock()
	o, open := c.owner, 0
	if o != nil {
		open = len(o.open)
	}
	c.mu.Unlock()
	switch {
	case o == nil:
		c.refuse(env.ID, mcp.CodeMethodNotFound, "method not found: "+quote(env.Method, noiseQuote))
		return
	case open >= maxServerRequests || len(env.ID) > maxAnswerID || !c.cfg.Budget.reserve(len(env.Params)):
		c.refuse(env.ID, mcp.CodeInternalError, "too many requests wait for an answer")
		return
	}
	r := &ServerRequest{ID: bytes.Clone(env.ID), Method: string(env.Method), Params: bytes.Clone(env.Params), conn: c, to: o}
	c.mu.Lock()
	owned := o.open != nil
	if owned {
		o.open[r] = struct{}{}
	}
	c.mu.Unlock()
	if !owned { // the ownership ended meanwhile
		c.cfg.Budget.release(len(r.Params))
		c.refuse(r.ID, mcp.CodeInternalError, "the client is gone")
		return
	}
	o.Request(r)
}

// Answer sends the result, which is raw JSON. An error means that nothing was
// sent: ErrClosed when the request has its answer, or its ownership or the
// conversation has ended; ErrBackedUp when the server does not read; or a
// *mcp.SyntaxError, after which the request still waits.
func (r *ServerRequest) Answer(result []byte) error {
	if err := mcp.Valid(result); err != nil {
		return fmt.Errorf("result: %w", err)
	}
	return r.answer(`,"result":` + string(mcp.OneLine(result)) + "}")
}

// Fail answers with an error object, which is raw JSON. Its own error is as that of Answer.
func (r *ServerRequest) Fail(object []byte) error {
	if err := mcp.Valid(object); err != nil {
		return fmt.Errorf("error: %w", err)
	}
	return r.answer(`,"error":` + string(mcp.OneLine(object)) + "}")
}

// Forget ends the wait for an answer, because the server has given the request up.
func (r *ServerRequest) Forget() {
	c := r.conn
	c.mu.Lock()
	_, open := r.to.open[r]
	delete(r.to.open, r)
	c.mu.Unlock()
	if open {
		c.cfg.Budget.release(len(r.Params))
	}
}

func (r *ServerRequest) answer(rest string) error {
	c := r.conn
	c.mu.Lock()
	_, open := r.to.open[r]
	delete(r.to.open, r)
	full := c.waiting > 0 && c.waiting+len(rest) > c.cfg.MaxQueue
	c.mu.Unlock()
	if !open {
		return ErrClosed
	}
	c.cfg.Budget.release(len(r.Params))
	if full || !c.answer(r.ID, rest) {
		return ErrBackedUp
	}
	return nil
}
