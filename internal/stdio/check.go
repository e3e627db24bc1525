package stdio

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// Check returns nil if the server answers a ping within timeout, be it with an error. Some servers
// ignore ping. If the server has never answered one, or if last is set because it would be replaced,
// an unanswered ping is followed by tools/list, which it has answered before, with a timeout of its
// own. A server that answers only tools/list is not sent ping again. The modern era has no ping: there
// the question is server/discover, which the server has answered before.
func (c *Conn) Check(ctx context.Context, timeout time.Duration, last bool) error {
	method, params := c.question()
	err := c.ask(ctx, timeout, method, params)
	if err == nil || method != mcp.MethodPing || ctx.Err() != nil || c.answersPing.Load() && !last {
		return err
	}
	if second := c.ask(ctx, timeout, mcp.MethodToolsList, nil); second != nil {
		return fmt.Errorf("%w; %w", err, second)
	}
	if !c.answersPing.Load() && !c.ignoresPing.Swap(true) {
		c.log.Info("the server ignores ping and is checked by tools/list instead")
	}
	return nil
}

func (c *Conn) ask(ctx context.Context, timeout time.Duration, method string, params []byte) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r := c.request(ctx, method, params, true)
	r.Release()
	c.noteAnswer(method, r)
	if answered(r) {
		return nil
	}
	return fmt.Errorf("%s: %w", method, r.Err)
}

// question returns a request that every healthy server answers at once. tools/list and server/discover
// were answered before the first call.
func (c *Conn) question() (method string, params []byte) {
	if own := c.own.Load(); own != nil {
		return mcp.MethodDiscover, own.params
	}
	if c.cfg.NoPing || c.ignoresPing.Load() {
		return mcp.MethodToolsList, nil
	}
	return mcp.MethodPing, nil
}

// noteAnswer records whether the server answers pings.
func (c *Conn) noteAnswer(method string, r Reply) {
	if method == mcp.MethodPing && answered(r) && !c.answersPing.Load() {
		c.answersPing.Store(true)
		c.ignoresPing.Store(false)
	}
}

// answered reports whether the server answered, be it with an error or a malformed reply.
func answered(r Reply) bool {
	return r.Err == nil || errors.Is(r.Err, ErrBadReply) || errors.Is(r.Err, ErrReplyTooLarge) || errors.Is(r.Err, ErrNoBuffer)
}

// EndedByPing reports whether the server ended when it was sent ping, had never answered one, and had
// no other request. It is valid once Run has returned.
func (c *Conn) EndedByPing() bool { return c.endedByPing.Load() }
