package bridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

const (
	maxRepeats  = 3 // of a request that only reads
	maxRenewals = 2 // of the session, for one request
)

// errAgain means that the request is to be sent again.
var errAgain = errors.New("again")

// answer sends the request until it is answered. It returns nil if the client got
// its answer, or wants none.
func (c *call) answer() *failure {
	if c.after != nil {
		select {
		case <-c.after:
		case <-c.ctx.Done():
			return nil
		}
	}
	for began := time.Now(); ; {
		err := c.try(began)
		switch f, failed := errors.AsType[*failure](err); {
		case err == nil || c.ctx.Err() != nil:
			return nil
		case errors.Is(err, errAgain):
			continue
		case failed:
			return f
		}
		_, unsent := errors.AsType[*unsentError](err)
		if c.again(unsent) {
			continue
		}
		if c.ctx.Err() != nil {
			return nil
		}
		if unsent {
			return failf(codeUnavailable, "%s", err)
		}
		return lost(err)
	}
}

// try sends the request once, and reads the answer. Its errors are those of take
// and sendPatiently.
func (c *call) try(began time.Time) error {
	header := c.header()
	ctx, w, stop := newWatch(c.ctx)
	defer stop()
	c.sent.Store(true)
	resp, err := c.b.ends.sendPatiently(ctx, http.MethodPost, header, c.m.line)
	if err != nil {
		return err
	}
	return c.take(resp, w, began)
}

func lost(err error) *failure {
	return failf(codeLost, "the connection was lost before the answer came, and it is unknown whether the request had an effect: %s", err)
}

// header returns the header for the next try.
func (c *call) header() http.Header {
	switch {
	case c.m.modern() && c.m.method == mcp.MethodToolsCall:
		name, _, _ := mcp.Target(c.m.method, c.m.env.Params)
		return modernHeader(c.m, c.b.tools.of(name))
	case c.m.modern():
		return modernHeader(c.m, nil)
	case c.m.method == mcp.MethodInitialize:
		return baseHeader()
	}
	c.at = c.b.session.pass()
	return c.at.header()
}

// again reports whether the request, whose connection was lost, may be sent again,
// after a pause.
func (c *call) again(unsent bool) bool {
	switch {
	case c.m.method == mcp.MethodListen:
		c.b.log.Info("a subscription broke; it will be sent again")
		return sleep(c.ctx, c.sub.pause()) == nil
	case unsent || !c.m.harmless() || c.repeats == maxRepeats:
		return false
	}
	c.repeats++
	return sleep(c.ctx, firstPause<<c.repeats) == nil
}

// take reads a response. It returns nil once the client has its answer, errAgain,
// a *failure, or the error that broke the connection.
func (c *call) take(resp answer, w *watch, began time.Time) error {
	defer func() { resp.Body.Close() }()
	if c.m.method == mcp.MethodInitialize {
		c.opened = resp.Header.Get(headerSession)
	}
	if resp.StatusCode/100 == 2 {
		c.reach()
		c.free()
		if resp.isSSE() {
			return c.stream(resp, w)
		}
	}
	body := newBuffer(c.ctx, c.b.places)
	defer body.reset()
	err := body.from(resp.Response)
	if resp.StatusCode/100 != 2 {
		return c.refused(resp, body.b, began)
	}
	if errors.Is(err, errTooLong) {
		return failf(codeReplyTooLarge, "the answer is longer than 64 MiB")
	}
	if err != nil {
		c.b.ends.leave(resp.at)
		return err
	}
	if len(body.b) == 0 {
		return failf(codeBadReply, "the controller answers %s without a message", resp.Status)
	}
	final, err := c.forward(body.b)
	if err == nil && !final {
		err = failf(codeBadReply, "the controller's answer is not a response: %.200q", body.b)
	}
	return err
}

func (c *call) reach() {
	select {
	case <-c.reached:
	default:
		close(c.reached)
	}
}

// free forgets the message once a controller has begun to answer it, unless it
// may be needed again.
func (c *call) free() {
	if c.m.harmless() || c.m.line == nil {
		return
	}
	c.b.room.shrink(len(c.m.line))
	c.m.env.ID = bytes.Clone(c.m.env.ID)
	c.m.line, c.m.env.Params = nil, nil
}

// refused handles a response that is not a success.
func (c *call) refused(resp answer, body []byte, began time.Time) error {
	f := refusal(resp.Response, body)
	code := errorCode(body)
	switch {
	case resp.StatusCode == http.StatusNotFound && c.at.id != "" && c.renewed < maxRenewals:
		c.renewed++
		now, err := c.b.renew(c.ctx, c.at.life)
		if err == nil {
			c.at = now
			return errAgain
		}
		if of, ok := errors.AsType[*failure](err); ok {
			return of
		}
		return failf(codeUnavailable, "the session is gone, and a new one did not begin: %s", err)
	case c.m.method == mcp.MethodListen && c.sub.accepted != nil && resp.StatusCode >= http.StatusInternalServerError:
		c.b.ends.leave(resp.at)
		return f.plain()
	case code == codeUnavailable && time.Since(began) < patience: // that controller stops
		c.b.ends.leave(resp.at)
		if err := sleep(c.ctx, 2*firstPause); err != nil {
			return err
		}
		return errAgain
	case code == mcp.CodeHeaderMismatch && c.m.method == mcp.MethodToolsCall && !c.learned:
		c.learned = true
		if err := c.b.relearn(c.ctx, c.m); err != nil {
			c.b.log.Warn("the tools were not listed, to learn which parameters are headers", "err", err)
			return f
		}
		return errAgain
	}
	return f
}

// forward passes a message of the server on to the client. final reports whether
// it answers the request. A text that is not a message is logged and dropped.
func (c *call) forward(raw []byte) (final bool, err error) {
	env, err := mcp.Scan(raw)
	if err != nil {
		c.b.log.Warn("the server sent what is not a message", "method", c.m.method, "err", err)
		return false, nil
	}
	switch env.Kind {
	case mcp.KindBatch:
		final = hasResponse(raw)
	case mcp.KindResponse:
		final = true
		c.learn(env.Result)
	case mcp.KindErrorResponse:
		final = true
		if env.ID == nil || mcp.IsNull(env.ID) {
			return true, &failure{raw: append([]byte(nil), env.Error...), text: mcp.ParseError(env.Error).Message}
		}
	}
	if c.m.method == mcp.MethodListen {
		if pass, err := c.subscribed(raw, &env); !pass || err != nil {
			return final, err
		}
	}
	c.tell(raw)
	return final, nil
}

// tell writes a message for the client, unless it has cancelled the request.
func (c *call) tell(raw []byte) {
	if !c.silent.Load() {
		c.b.out.message(raw)
	}
}

func hasResponse(batch []byte) (found bool) {
	_ = mcp.Elements(batch, func(one []byte) bool {
		env, err := mcp.Scan(one)
		found = err == nil && (env.Kind == mcp.KindResponse || env.Kind == mcp.KindErrorResponse)
		return !found
	})
	return found
}

// learn keeps what the bridge needs of a result, before the client has it.
func (c *call) learn(result []byte) {
	switch c.m.method {
	case mcp.MethodInitialize:
		old := c.b.session.pass()
		c.b.session.begin(c.m.line, result, c.opened, false)
		if old.id != "" { // the client has begun anew
			c.b.start(&c.b.background, func() { c.b.leave(old) })
		}
	case mcp.MethodToolsList:
		if c.m.modern() {
			c.b.learn(result)
		}
	case mcp.MethodSetLevel, mcp.MethodSubscribe, mcp.MethodUnsubscribe:
		c.b.session.note(c.m)
	}
}

func (b *bridge) learn(result []byte) {
	for name, err := range b.tools.learn(result) {
		b.log.Warn("a tool has an invalid annotation; its parameters are not sent as headers", "tool", name, "err", err)
	}
}

const maxPages = 100 // of tools

// relearn lists the tools, for a call that was refused because of its headers.
func (b *bridge) relearn(ctx context.Context, of *message) error {
	cursor := ""
	for page := range maxPages {
		line := fmt.Appendf(nil, `{"jsonrpc":"2.0","id":"mcpfleet-tools-%d","method":"tools/list","params":{"_meta":`, page)
		line = append(line, within(of.env.Params, "_meta")...)
		if cursor != "" {
			line = mcp.AppendString(append(line, `,"cursor":`...), cursor)
		}
		m, err := parse(append(line, `}}`...))
		if err != nil {
			return err
		}
		env, _, err := b.exchange(ctx, modernHeader(m, nil), m.line)
		if err != nil {
			return err
		}
		b.learn(env.Result)
		if cursor, err = mcp.String(within(env.Result, "nextCursor")); err != nil || cursor == "" {
			return nil
		}
	}
	return nil
}
