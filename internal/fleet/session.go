package fleet

import "time"

// SessionID identifies a client's conversation with an MCP endpoint. It is random. Clients
// know it only sealed into another text.
type SessionID string

// NewSessionID returns a fresh, random session id. It is unguessable.
func NewSessionID() SessionID { return SessionID(randomHex(16)) }

// The session modes of a server, Template.Sessions.
const (
	SessionsShared    = "shared"    // one initialised conversation serves all callers of a replica
	SessionsSession   = "session"   // each session has a replica to itself
	SessionsPrincipal = "principal" // each user has; not supported yet
)

// The values of Spec.OnLoss.
const (
	OnLossReinit   = "reinit" // a session whose replica is lost gets a fresh one
	OnLossNotFound = "404"    // it ends
)

// Defaults of servers whose sessions have replicas to themselves.
const (
	DefaultMaxSessions     = 100
	DefaultSessionIdle     = 10 * time.Minute
	DefaultSessionLifetime = 24 * time.Hour
	// maxSessionDrain bounds SessionDrain.
	maxSessionDrain = 10 * time.Minute
)

// OnceKept is how long controllers remember a session of one call after it was last
// changed. Nobody asks for it again, and there may be one for each call.
const OnceKept = 10 * time.Minute

// PerSession reports whether a replica of the template belongs to one session.
func (t *Template) PerSession() bool {
	return t.Sessions == SessionsSession || t.Sessions == SessionsPrincipal
}

// SessionDrain returns how long a session may go on at a replica that is to go, because
// of an update or a drain of its node. Then the session moves as if the replica were lost.
func (s *Spec) SessionDrain() time.Duration { return min(s.SessionIdle, maxSessionDrain) }

// SessionStart is an order to give a raw spare to a session.
type SessionStart struct {
	Replica    ReplicaID
	Session    SessionID
	Initialize []byte // params of the client's initialize, raw JSON on one line
	Restore    Restore
	// Once means that the session has one call. The replica is stopped when that has ended,
	// whoever is left then, or if it does not come.
	Once bool
}

// Restore is what a session had set at a replica that is lost.
type Restore struct {
	Subscriptions []string // URIs of resources
	Level         string   // of logging/setLevel; "": none was set
}

// SessionOpened is the outcome of a SessionStart. Exactly one of Result and Error is set.
type SessionOpened struct {
	Version uint64 // of the report in which the replica belongs to the session
	Result  []byte // of initialize, raw JSON
	Error   []byte // raw JSON-RPC error object, with which the server refused initialize
}

// SessionRequest asks for the replica of a session.
type SessionRequest struct {
	Server     ServerName
	Session    SessionID
	Until      time.Time // until when the session may be, whatever its servers say
	Caller     string
	Initialize []byte // params of the client's initialize, raw JSON
	Restore    Restore
	Once       bool // see SessionStart
}

// SessionGiven is a session's replica.
type SessionGiven struct {
	Replica ReplicaID
	Node    NodeID
	// Result is the answer to initialize, raw JSON. If the server refused it, Error is set
	// instead: the JSON-RPC error object.
	Result, Error []byte
	// Healed means that the session had another replica before, whose state is lost.
	Healed bool
	Again  bool // it had the replica already
}

// SessionRecord is what is known of one session.
type SessionRecord struct {
	ID    SessionID
	Until time.Time // the session is over by then, and the record is dropped
	Ended bool      // it stays so
	Used  time.Time // when it was last used, roughly; it only grows
	// Began is when the session got its first replica. The earliest counts. Zero: it has
	// none yet.
	Began time.Time
	// Opened are the servers that had a replica for the session, by name. It only grows.
	Opened []ServerName
	// Stamp grows with each change of the rest. Of two records the later one counts.
	Stamp         uint64
	Level         string // of log messages
	Caller        string
	Subscriptions []Subscription
	// Listener is the controller that has the client's newest stream of messages that belong
	// to no request, and Listened the stamp of that. "": none is known.
	Listener LifeID
	Listened uint64
}

// Subscription is a resource that a session subscribes to, as its server knows it.
type Subscription struct {
	Server ServerName
	URI    string
}
