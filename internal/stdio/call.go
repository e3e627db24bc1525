package stdio

import (
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// Call is one request to the server. Its functions are called without a lock, by the reader, at the
// end of Run or inside Cancel. They must not block, or they stop every other call of the
// conversation.
type Call struct {
	Method string
	// Params is a raw object or array, or empty. It may have several lines and becomes one. It must not
	// be changed until Done, nor after Cancel: the line may still be written.
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
	// Done is called exactly once for a call that Start accepted, perhaps before Start returns.
	Done func(Reply)
	// Released is called exactly once, after Done, when the server no longer works on the call. That is
	// at once, except after Cancel (see there). It may be nil.
	Released func()
}

// Reply is how a call ended: with Result, with Error or with Err. Its bytes are the receiver's own.
type Reply struct {
	Result []byte // raw
	Error  []byte // raw JSON-RPC error object
	Err    error  // one of this package's errors, wrapped
	// Delivered is false only if the server certainly never had the whole line, so that sending the
	// call elsewhere cannot repeat it.
	Delivered bool

	hold *hold
}

// Release returns a large reply's bytes to the budget. It must be called when the bytes are no longer
// used. Further calls, and calls for small replies, do nothing.
func (r Reply) Release() { r.hold.release() }

// Failure returns the call's error: Err or the server's JSON-RPC error (*mcp.Error).
func (r Reply) Failure() error {
	if r.Err == nil && r.Error != nil {
		return mcp.ParseError(r.Error)
	}
	return r.Err
}

// phase is where a message is. It only moves forward.
type phase uint8

const (
	phaseQueued  phase = iota // waiting: can still be withdrawn
	phaseWriting              // handed to a write that has not returned
	phaseWritten              // the server has, or may have, the whole line
)

// Pending is a message on its way: a call that Start accepted, or a message of the conversation
// itself. The conversation's lock guards the fields that change.
type Pending struct {
	id   uint64 // 0 for a message without a reply
	call *Call
	// quiet calls are cancelled without telling the server: initialize, which must not be cancelled, and
	// pings.
	quiet bool
	// token is the caller's own progress token, raw; nil if it has none.
	token []byte
	// answer marks a reply to the server's own request. The number of these is bounded.
	answer bool

	line   [3][]byte // params in up to three parts; the whole line of a message without a reply
	size   int       // the line's bytes, against MaxQueue
	phase  phase
	ended  bool // Done was called or is about to be
	ending bool // Cancel is about to call Done, and then checks free
	free   bool // cancelled, and the server no longer works on it
	// after is the newest id at the time of Cancel. An answer to a later id frees the call.
	after      uint64
	next, prev *Pending
}

// ID returns the id that the server knows the call by.
func (p *Pending) ID() uint64 { return p.id }

// queue is a FIFO of messages. Any of them can be removed.
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
