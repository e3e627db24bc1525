package stdio

import (
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// Call is one request to the server. Its functions are called without any lock held, on the
// reader's goroutine, at the end of Run or inside Cancel: they must not block, or they stop every
// other call of the conversation.
type Call struct {
	Method string
	// Params is a raw object or array, or empty. It may be pretty-printed: it becomes one line. It
	// must not be changed until Done.
	Params []byte
	// NoMeta says that Params is an object without a member _meta. Only its line ends are looked at.
	NoMeta bool
	// Trace is in the log lines about the call.
	Trace fleet.Trace
	// Progress asks the server for progress. OnProgress is then called for each notification, and
	// OnNotification too if the caller asked with a token of its own. It owns params, which have that
	// token. Either may be nil, and may still be running while Done is called by Cancel.
	Progress       bool
	OnProgress     func()
	OnNotification func(method string, params []byte)
	// Done is called exactly once for a call that Start accepted, maybe before Start returns.
	Done func(Reply)
	// Released is called exactly once, after Done, when the server no longer works on the call: at
	// once, except after Cancel (see there). It may be nil.
	Released func()
}

// Reply is how a call ended: with Result, with Error or with Err. Its bytes are the receiver's own.
type Reply struct {
	Result []byte // raw
	Error  []byte // raw JSON-RPC error object
	Err    error  // one of this package's errors, wrapped
	// Delivered is false only when the server surely never had the whole line, so that sending the
	// call elsewhere cannot repeat it.
	Delivered bool

	hold *hold
}

// Release gives a large reply's bytes back to the budget. It must be called when the bytes are no
// longer used; further calls, and calls on small replies, do nothing.
func (r Reply) Release() { r.hold.release() }

// Failure returns the call's error, be it Err or the server's JSON-RPC error (*mcp.Error).
func (r Reply) Failure() error {
	if r.Err == nil && r.Error != nil {
		return mcp.ParseError(r.Error)
	}
	return r.Err
}

// phase is where a message is. It only moves forward.
type phase uint8

const (
	phaseQueued  phase = iota // waiting: can still be taken back
	phaseWriting              // handed to a write that has not returned
	phaseWritten              // the server has, or may have, the whole line
)

// Pending is a message on its way: a call that Start accepted, or one of the conversation's own.
// The conversation's lock guards what changes.
type Pending struct {
	id   uint64 // 0 for what expects no reply
	call *Call
	// quiet calls are given up without a word to the server: initialize, which must not be
	// cancelled, and pings, which are themselves the question whether it listens.
	quiet bool
	// token is the caller's own progress token, raw; nil if it has none.
	token []byte
	// answer marks a reply to the server's own request; they are counted against a bound.
	answer bool

	line    [3][]byte // params in up to three parts; the whole line for what expects no reply
	size    int       // the line's bytes, against MaxQueue
	phase   phase
	ended   bool // Done was called or is about to be
	telling bool // Cancel is about to call Done, and then looks at free
	free    bool // cancelled, and the server no longer works on it
	// after is the newest id at the time of Cancel. An answer to a later one frees the call.
	after      uint64
	next, prev *Pending
}

// queue is a FIFO of messages that one can be taken out of from the middle.
type queue struct {
	first, last *Pending
}

func (q *queue) push(p *Pending) {
	p.prev, p.next = q.last, nil
	if q.last == nil {
		q.first = p
	} else {
		q.last.next = p
	}
	q.last = p
}

func (q *queue) remove(p *Pending) {
	if p.prev == nil {
		q.first = p.next
	} else {
		p.prev.next = p.next
	}
	if p.next == nil {
		q.last = p.prev
	} else {
		p.next.prev = p.prev
	}
	p.next, p.prev = nil, nil
}
