package stdio

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// Check asks the server whether it lives, and returns nil when it answers within timeout, in whatever
// way. It asks by ping. Some servers ignore ping: when one never answered a ping, or when last is set
// because its life depends on it, silence is followed by tools/list, which it has answered before and
// which gets timeout of its own. A server that answers only that is not asked by ping again.
func (c *Conn) Check(ctx context.Context, timeout time.Duration, last bool) error {
	method := c.question()
	err := c.ask(ctx, timeout, method)
	if err == nil || method == mcp.MethodToolsList || ctx.Err() != nil || c.answersPing.Load() && !last {
		return err
	}
	if second := c.ask(ctx, timeout, mcp.MethodToolsList); second != nil {
		return fmt.Errorf("%w; %w", err, second)
	}
	if !c.answersPing.Load() && !c.ignoresPing.Swap(true) {
		c.log.Info("the server ignores ping: it is asked by tools/list instead")
	}
	return nil
}

func (c *Conn) ask(ctx context.Context, timeout time.Duration, method string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r := c.request(ctx, method, nil, true)
	r.Release()
	c.noteAnswer(method, r)
	if answered(r) {
		return nil
	}
	return fmt.Errorf("%s: %w", method, r.Err)
}

// question is the request that every healthy server answers at once. tools/list was answered before
// the first call.
func (c *Conn) question() string {
	if c.cfg.NoPing || c.ignoresPing.Load() {
		return mcp.MethodToolsList
	}
	return mcp.MethodPing
}

// noteAnswer notes what the answer to a question tells of the server.
func (c *Conn) noteAnswer(method string, r Reply) {
	if method == mcp.MethodPing && answered(r) && !c.answersPing.Load() {
		c.answersPing.Store(true)
		c.ignoresPing.Store(false)
	}
}

// answered reports whether the server answered, in whatever way.
func answered(r Reply) bool {
	return r.Err == nil || errors.Is(r.Err, ErrBadReply) || errors.Is(r.Err, ErrReplyTooLarge) || errors.Is(r.Err, ErrNoBuffer)
}

// EndedByPing reports whether the server ended when it was sent ping, had never answered one, and had
// nothing else to do. It may be asked once Run has returned.
func (c *Conn) EndedByPing() bool { return c.endedByPing.Load() }
