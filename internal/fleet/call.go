package fleet

import "time"

// Call is one tool invocation for a server. The router picks the replica.
type Call struct {
	Server     ServerName
	Method     string        // "tools/call"
	Tool       string        // the server's own name for it
	Caller     string        // whose call it is, see Anonymous
	Params     []byte        // raw JSON, one valid value on one line
	NoMeta     bool          // Params is an object without a member _meta
	Idempotent bool          // the tool says that it may run twice
	Timeout    time.Duration // that the client asks for; 0: the server's call timeout
	Since      time.Time     // when it came, from which its deadline counts; zero: now
	Trace      Trace
	Session    SessionID // all its calls go to one replica; "": to any replica
	// Replica is the only one that the call may go to, because it is about a task there. It
	// fails with ErrTaskLost if that is gone. "": any replica.
	Replica ReplicaID
	// Placed is called with the replica that the call is sent to, before it is. It must not
	// block, and may be nil.
	Placed func(ReplicaID)
	// Queued is called once a second while the call waits for a replica: how many calls wait
	// before it, and why there is no replica yet, in words; "" if there are. It must not
	// block, and may be nil.
	Queued func(before int, why string)
	// Stream is kept for readers at the call's worker.
	Stream StreamRequest
	Ask    bool // see CallRequest
	Logs   bool // see CallRequest
	// These are the hooks of CallHooks with that name. They may be nil.
	Notification func(method string, params []byte)
	Message      func(Message)
	Sent         func(worker LifeID)
}

// Anonymous is the caller of every call as long as clients do not authenticate. An
// address or a header would not identify a client, because it can choose these.
const Anonymous = "anonymous"

// Tool is a tool that a name was resolved to.
type Tool struct {
	Server     ServerName
	Name       string // the server's own
	ReadOnly   bool   // its readOnlyHint
	Idempotent bool   // its idempotentHint
}

// Repeatable reports whether the tool declares itself safe to run twice.
func (t Tool) Repeatable() bool { return t.ReadOnly || t.Idempotent }
