package bridge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// deliveryTimeout bounds the delivery of a notification or an answer.
const deliveryTimeout = 30 * time.Second

// delivery is a notification on its way.
type delivery struct {
	m     *message
	after <-chan struct{} // closed when what came before it is done
	done  chan struct{}
}

// hand starts the delivery of a notification or an answer. Notifications arrive
// in their order, and before the requests that the client sent after them. An
// answer waits for nothing.
func (b *bridge) hand(m *message) {
	if !b.room.take(len(m.line)) {
		b.log.Warn("too many messages at once; one was dropped", "kind", m.env.Kind, "method", m.method)
		return
	}
	if m.env.Kind != mcp.KindNotification {
		b.start(&b.background, func() {
			defer b.room.leave(len(m.line))
			b.convey(m)
		})
		return
	}
	if m.version == "" && b.version != "" && b.session.pass().life == 0 {
		m.version = b.version
	}
	d := &delivery{m, b.earlier, make(chan struct{})}
	b.earlier = d.done
	select {
	case b.posts <- d:
	case <-b.ctx.Done():
	}
}

// post delivers notifications one after the other.
func (b *bridge) post() {
	for {
		select {
		case d := <-b.posts:
			if d.after != nil {
				select {
				case <-d.after:
				case <-b.ctx.Done():
					return
				}
			}
			b.convey(d.m)
			b.room.leave(len(d.m.line))
			close(d.done)
		case <-b.ctx.Done():
			return
		}
	}
}

// convey delivers a notification or an answer, and logs what prevents it.
func (b *bridge) convey(m *message) {
	ctx, cancel := context.WithTimeout(b.ctx, deliveryTimeout)
	defer cancel()
	now := b.session.pass()
	header := now.header()
	if m.modern() {
		header = modernHeader(m, nil)
	}
	err := b.deliver(ctx, header, m.line)
	if gone(err) && !m.modern() && now.id != "" {
		if m.env.Kind != mcp.KindNotification {
			return // the request that it answers has gone with the session
		}
		if now, err = b.renew(ctx, now.life); err == nil && m.method != mcp.MethodInitialized {
			err = b.deliver(ctx, now.header(), m.line)
		}
	}
	if err != nil && b.ctx.Err() == nil {
		b.log.Warn("a message of the client was not delivered", "kind", m.env.Kind, "method", m.method, "err", err)
	}
	if err == nil && m.method == mcp.MethodInitialized {
		b.session.ready(m.line)
	}
}

// statusError is an HTTP response that is not a success.
type statusError struct {
	status int
	*failure
}

func (e *statusError) Unwrap() error { return e.failure }

// gone reports whether a server answered that it does not know the session.
func gone(err error) bool {
	answer, ok := errors.AsType[*statusError](err)
	return ok && answer.status == http.StatusNotFound
}

// deliver sends a message that has no answer.
func (b *bridge) deliver(ctx context.Context, header http.Header, line []byte) error {
	resp, err := b.ends.sendPatiently(ctx, http.MethodPost, header, line)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body := newBuffer(ctx, b.places)
	defer body.reset()
	body.max = smallMessage
	_ = body.from(resp.Response)
	if resp.StatusCode/100 != 2 {
		return &statusError{resp.StatusCode, refusal(resp.Response, body.b)}
	}
	return nil
}

// exchange sends a request that the client knows nothing of, and returns its
// result, and the session that it begins.
func (b *bridge) exchange(ctx context.Context, header http.Header, line []byte) (mcp.Envelope, string, error) {
	resp, err := b.ends.sendPatiently(ctx, http.MethodPost, header, line)
	if err != nil {
		return mcp.Envelope{}, "", err
	}
	defer resp.Body.Close()
	body := newBuffer(ctx, b.places)
	defer body.reset()
	if resp.StatusCode/100 != 2 || !resp.isSSE() {
		if err := body.from(resp.Response); err != nil {
			return mcp.Envelope{}, "", err
		}
		if resp.StatusCode/100 != 2 {
			return mcp.Envelope{}, "", &statusError{resp.StatusCode, refusal(resp.Response, body.b)}
		}
		env, err := result(body.b)
		return env, resp.Header.Get(headerSession), err
	}
	d := newDecoder(resp.Body, body, "", nil)
	for {
		e, err := d.next()
		if err != nil {
			return mcp.Envelope{}, "", fmt.Errorf("read an answer: %w", err)
		}
		if env, err := mcp.Scan(e.data); err == nil && (env.Kind == mcp.KindResponse || env.Kind == mcp.KindErrorResponse) {
			env, err := result(e.data)
			return env, resp.Header.Get(headerSession), err
		}
	}
}

// result returns a copy of the response in body, if it is one with a result.
func result(body []byte) (mcp.Envelope, error) {
	env, err := mcp.Scan(append([]byte(nil), body...))
	switch {
	case err != nil:
		return env, failf(codeBadReply, "the answer is not a message: %s", err)
	case env.Kind == mcp.KindErrorResponse:
		return env, &failure{raw: env.Error, text: mcp.ParseError(env.Error).Message}
	case env.Kind != mcp.KindResponse:
		return env, failf(codeBadReply, "the answer is a %s", env.Kind)
	}
	return env, nil
}
