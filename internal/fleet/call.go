package fleet

import "time"

// Call is one tool invocation as a front hands it to the router: which server
// it is for, not yet which replica.
type Call struct {
	Server     ServerName
	Method     string        // "tools/call"
	Tool       string        // as the server itself calls it
	Caller     string        // whose call it is, see Anonymous
	Params     []byte        // raw JSON, one valid value on one line
	NoMeta     bool          // Params is an object without a member _meta
	Idempotent bool          // the tool says that it may run twice
	Timeout    time.Duration // the client's wish; 0: the server's call timeout
	Trace      Trace
	Session    SessionID // whose replica it must go to; "": any replica will do
	// Notification is CallHooks.Notification; nil if the caller wants none.
	Notification func(method string, params []byte)
}

// SessionID identifies a client's conversation with one server. All calls of a
// session go to the same replica.
type SessionID string

// Anonymous is the caller of every call as long as nobody has to authenticate.
// An address or a header that a client may choose is not used instead: it
// would tell nobody apart who does not want to be.
const Anonymous = "anonymous"

// Tool is a tool that a name was resolved to.
type Tool struct {
	Server     ServerName
	Name       string // as the server itself calls it
	ReadOnly   bool   // its readOnlyHint
	Idempotent bool   // its idempotentHint
}

// Repeatable tells whether the tool declares itself safe to run twice.
func (t Tool) Repeatable() bool { return t.ReadOnly || t.Idempotent }
