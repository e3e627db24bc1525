package stdio

import "errors"

// The ways in which a call can end without the server's answer. Match them with errors.Is. Wrapped
// errors say more.
var (
	// ErrClosed means that the conversation had ended, or its input was closed: not delivered.
	ErrClosed = errors.New("the conversation has ended")
	// ErrBackedUp means that too many bytes wait for a server that does not read: not delivered.
	ErrBackedUp = errors.New("too much is waiting for the server to read")
	// ErrNotDelivered means that the conversation ended before the whole line was written.
	ErrNotDelivered = errors.New("not delivered to the server")
	// ErrLost means that the line was written and the conversation ended without an answer.
	ErrLost = errors.New("the server ended before it answered")
	// ErrOwned means that the conversation has another owner.
	ErrOwned = errors.New("the conversation has an owner already")
	// ErrCancelled means that Cancel was called. Reply.Delivered says whether the server may have seen
	// the call.
	ErrCancelled = errors.New("cancelled")
	// ErrBadReply means that the answer was not valid JSON, UTF-8 or JSON-RPC.
	ErrBadReply = errors.New("the server's reply is malformed")
	// ErrReplyTooLarge means that the answer was longer than Config.MaxLine, and was discarded.
	ErrReplyTooLarge = errors.New("the server's reply is too large")
	// ErrNoBuffer means that the answer did not fit into Config.Budget, and was discarded.
	ErrNoBuffer = errors.New("no buffer space left for the server's reply")
)
