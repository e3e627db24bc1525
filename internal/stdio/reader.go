package stdio

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

const (
	// maxAnswerID is the longest id of a server's request that we repeat in an answer.
	maxAnswerID = 1024
	// maxQuotedID is how much of an unknown id is logged.
	maxQuotedID = 40
)

var byteOrderMark = []byte("\uFEFF")

// read reads the server's lines until its stdout ends.
func (c *Conn) read() error {
	for {
		l, err := c.lines.next()
		if err != nil {
			return err
		}
		// Some programs on Windows begin their output, or each piece of it, with a byte order mark.
		l.data = bytes.TrimPrefix(l.data, byteOrderMark)
		if l.err != nil {
			c.discarded(l)
		} else if !blank(l.data) {
			c.message(l)
		}
	}
}

func blank(b []byte) bool {
	return (len(b) == 0 || b[0] <= ' ') && len(bytes.TrimSpace(b)) == 0
}

func (c *Conn) message(l line) {
	env, err := mcp.Scan(l.data)
	if err != nil && c.repair(&l) {
		env, err = mcp.Scan(l.data)
	}
	switch {
	case err != nil:
		c.malformed(l, env, err)
		l.hold.release()
	case env.Kind == mcp.KindBatch:
		c.batch(l)
		l.hold.release()
	case env.Kind == mcp.KindResponse || env.Kind == mcp.KindErrorResponse:
		c.reply(env, l)
	default:
		if env.Kind == mcp.KindRequest && string(env.Method) == mcp.MethodInitialize {
			c.stray("the server echoes its input", Stray{Kind: StrayEcho}, l.data, nil)
		}
		c.incoming(env)
		l.hold.release()
	}
}

// repair replaces invalid UTF-8 in a line that may be a message, and reports whether there was any.
// The official clients do so too. One byte of a file name in Latin-1 must not fail a call.
func (c *Conn) repair(l *line) bool {
	if text := bytes.TrimLeft(l.data, " \t\r"); len(text) == 0 || text[0] != '{' && text[0] != '[' || utf8.Valid(text) {
		return false
	}
	need := 3 * len(l.data) // at worst
	if l.owned && !c.cfg.Budget.reserve(need) {
		return false
	}
	l.data = mcp.RepairUTF8(l.data)
	if l.owned {
		c.cfg.Budget.release(need - len(l.data))
		l.hold.release()
		l.hold = &hold{budget: c.cfg.Budget, bytes: len(l.data)}
	} else if len(l.data) > c.cfg.MaxLine {
		return false
	}
	return true
}

// batch handles a batch, which protocol version 2025-03-26 allowed. Replies in it are copied. Arrays
// inside it are not batches: a nested array would then be scanned once per level.
func (c *Conn) batch(l line) {
	err := mcp.Elements(l.data, func(element []byte) bool {
		if element[0] == '{' {
			c.message(line{data: element})
		} else {
			c.skip(element, mcp.ErrNotMessage)
		}
		return true
	})
	if err != nil {
		c.skip(l.data, err) // cannot happen: Scan has checked the line
	}
}

// incoming handles the server's own requests and notifications.
func (c *Conn) incoming(env mcp.Envelope) {
	switch {
	case env.Kind == mcp.KindRequest && string(env.Method) == mcp.MethodPing:
		c.answer(env.ID, `,"result":{}}`)
	case env.Kind == mcp.KindRequest:
		c.serverRequest(env)
	case string(env.Method) == mcp.MethodProgress:
		c.progress(env.Params)
	default:
		c.serverNotification(string(env.Method), env.Params)
	}
}

func (c *Conn) serverNotification(method string, params []byte) {
	if c.cfg.OnNotification != nil {
		c.cfg.OnNotification(method, params)
	}
	c.mu.Lock()
	o := c.owner
	c.mu.Unlock()
	if o != nil {
		o.Notification(method, params)
	}
}

func (c *Conn) refuse(id []byte, code mcp.Code, message string) {
	c.answer(id, errorMember(code, message))
}

// errorMember returns the part after the id of an answer that is an error.
func errorMember(code mcp.Code, message string) string {
	return string(mcp.AppendString(fmt.Appendf(nil, `,"error":{"code":%d,"message":`, code), message)) + "}}"
}

// answer queues the answer to a server's request. It reports false when the server does not read and
// the answer was dropped.
func (c *Conn) answer(id []byte, rest string) bool {
	c.mu.Lock()
	fits := c.answers < maxAnswers && len(id) <= maxAnswerID && !c.inputClosed
	if fits {
		p := plain(append(append([]byte(`{"jsonrpc":"2.0","id":`), id...), rest...))
		p.answer = true
		c.answers++
		c.enqueue(p)
	}
	c.mu.Unlock()
	if !fits {
		c.counts.droppedAnswers.Add(1)
		return false
	}
	c.signal()
	return true
}

// progress passes progress on to the call that the notification names. Our tokens are the calls' ids.
func (c *Conn) progress(params []byte) {
	s, err := mcp.SplitProgressToken(params)
	if err != nil {
		return
	}
	id, ok := parseID(s.Insert)
	if !ok {
		return
	}
	c.mu.Lock()
	p := c.pending[id]
	wanted := p != nil && !p.ended && p.phase != phaseQueued && p.call.Progress
	c.mu.Unlock()
	if !wanted {
		return
	}
	if p.call.OnProgress != nil {
		p.call.OnProgress()
	}
	if p.call.OnNotification != nil && p.token != nil {
		s.Insert = p.token
		p.call.OnNotification(mcp.MethodProgress, s.AppendTo(nil))
	}
}

// reply ends the call that a valid response names.
func (c *Conn) reply(env mcp.Envelope, l line) {
	p, late := c.claim(env.ID)
	if p == nil {
		if !late {
			c.counts.unknownIDs.Add(1)
			c.stray("reply to no call", Stray{Kind: StrayAnswer, ID: c.cfg.Quote(env.ID, maxQuotedID)}, l.data, nil)
		}
		l.hold.release()
		return
	}
	r := Reply{Result: env.Result, Error: env.Error, Delivered: true, hold: l.hold}
	if !l.owned && !late {
		r.Result, r.Error = bytes.Clone(r.Result), bytes.Clone(r.Error)
	}
	c.finish(p, r, late)
}

// claim takes the call with the id raw off the pending, and counts its reply. late means that the call
// has ended. A late call that was freed is no longer known, and p is nil. A call that was not yet
// written cannot have a reply.
func (c *Conn) claim(raw []byte) (p *Pending, late bool) {
	id, ok := parseID(raw)
	if !ok {
		return nil, false
	}
	var freed []*Pending
	c.mu.Lock()
	p = c.pending[id]
	switch {
	case p == nil:
		if late = id <= c.lastID.Load(); late {
			freed = c.takeFreed(id)
		}
	case p.phase == phaseQueued:
		p = nil
	default:
		delete(c.pending, id)
		late = p.take().late
		freed = c.takeFreed(id)
	}
	c.mu.Unlock()
	for _, f := range freed {
		c.free(f)
	}
	if late {
		c.counts.lateReplies.Add(1)
	} else if p != nil {
		c.counts.replies.Add(1)
	}
	return p, late
}

// parseID parses an id of ours. Some servers return it as a string ("12") or as a floating-point number
// (12.0, 1.2e1), which the official clients accept too.
func parseID(raw []byte) (uint64, bool) {
	if len(raw) > 1 && raw[0] == '"' {
		text, err := mcp.String(raw)
		if err != nil {
			return 0, false
		}
		raw = []byte(strings.TrimSpace(text))
	}
	id, err := strconv.ParseUint(string(raw), 10, 64)
	if err == nil {
		return id, id > 0
	}
	const exact = 1 << 53 // larger floating-point numbers are not exact
	f, err := strconv.ParseFloat(string(raw), 64)
	id = uint64(max(0, min(f, exact)))
	return id, err == nil && id > 0 && id < exact && float64(id) == f
}

// malformed ends the call that a malformed reply names, so that it need not wait for its deadline. A
// line that was cut off by the server's end is not a reply. Its call is lost, like all others.
func (c *Conn) malformed(l line, env mcp.Envelope, err error) {
	id, reply := env.ID, env.Answers
	if errors.As(err, new(*mcp.SyntaxError)) {
		var f mcp.Finder
		f.Feed(l.data)
		id, reply = f.ID(), f.Reply() && !f.Method()
	}
	if !l.cut && reply {
		if p := c.fail(id, fmt.Errorf("%w: %w", ErrBadReply, err)); p != nil {
			c.stray("malformed reply", Stray{Kind: StrayBroken}, l.data, err, p.call.Trace.Attr())
			return
		}
	}
	c.skip(l.data, err)
}

// discarded ends the call whose reply was too long to keep.
func (c *Conn) discarded(l line) {
	switch id := l.found.ID(); {
	case l.cut:
	case l.found.Method() && id != nil:
		c.refuse(id, mcp.CodeInvalidRequest, "request too large")
	case l.found.Reply() && c.fail(id, l.err) != nil:
		return
	}
	c.skip(nil, l.err)
}

// fail ends the call that raw names, and returns it, or nil if there is none.
func (c *Conn) fail(raw []byte, err error) *Pending {
	p, late := c.claim(raw)
	if p != nil {
		c.finish(p, Reply{Err: err, Delivered: true}, late)
	}
	return p
}

// skip counts and logs a line that is not a message.
func (c *Conn) skip(data []byte, err error) {
	c.counts.skipped.Add(1)
	c.stray("line skipped: not JSON-RPC", Stray{Kind: StrayLine}, data, err)
}
