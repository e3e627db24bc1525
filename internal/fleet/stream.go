package fleet

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// StreamID names a stream: the numbered messages of one call to its client, or those of a
// session that belong to no call. The worker that runs the call, or the session's replica,
// keeps them for a while.
type StreamID string

// sessionStream begins the ids of the streams of sessions.
const sessionStream = "session:"

// NewStreamID returns a fresh, random id for the stream of a call. It is unguessable.
func NewStreamID() StreamID { return StreamID(randomHex(16)) }

// SessionStream returns the id of the stream of what a server says to a session outside of
// calls.
func SessionStream(id SessionID, server ServerName) StreamID {
	return StreamID(sessionStream + string(id) + ":" + string(server))
}

// IsSession reports whether the stream is one of SessionStream.
func (id StreamID) IsSession() bool { return strings.HasPrefix(string(id), sessionStream) }

// IsOf reports whether the stream is one of SessionStream for this session.
func (id StreamID) IsOf(session SessionID) bool {
	return strings.HasPrefix(string(id), string(SessionStream(session, "")))
}

var streamIDs = regexp.MustCompile(`^(` + sessionStream + `[0-9A-Za-z_-]{1,64}:)?[0-9A-Za-z_-]{1,64}$`)

// ErrBadID means that a text is no id of the wanted kind.
var ErrBadID = errors.New("malformed id")

// EventID names one message of a stream. Clients know it as the id of an event of SSE.
type EventID struct {
	Life   LifeID // of the worker that keeps the stream
	Stream StreamID
	Seq    uint64 // 0 names the beginning
}

func (id EventID) String() string { return numbered(id.Life, id.Stream, id.Seq) }

// ParseEventID parses what String returns. Its error is ErrBadID.
func ParseEventID(s string) (id EventID, err error) {
	id.Life, id.Stream, id.Seq, err = parseNumbered(s)
	return id, err
}

// AskID names a request that a worker sends to a client in the name of a server, so that
// any controller can pass on the answer. Its text is the request's id towards the client.
type AskID struct {
	Life   LifeID
	Stream StreamID
	N      uint64
}

func (id AskID) String() string { return numbered(id.Life, id.Stream, id.N) }

// ParseAskID parses what String returns. Its error is ErrBadID.
func ParseAskID(s string) (id AskID, err error) {
	id.Life, id.Stream, id.N, err = parseNumbered(s)
	return id, err
}

func numbered(life LifeID, stream StreamID, n uint64) string {
	return string(life) + "." + string(stream) + "." + strconv.FormatUint(n, 10)
}

func parseNumbered(s string) (LifeID, StreamID, uint64, error) {
	life, rest, _ := strings.Cut(s, ".")
	stream, number, _ := strings.Cut(rest, ".")
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil || life == "" || !streamIDs.MatchString(stream) || strconv.FormatUint(n, 10) != number {
		return "", "", 0, fmt.Errorf("%w %.100q: want node life, stream and number, separated by dots", ErrBadID, s)
	}
	return LifeID(life), StreamID(stream), n, nil
}

// DefaultWindow is how long a stream without a reader is kept, unless the controller says
// otherwise.
const DefaultWindow = 2 * time.Minute

// StreamRequest makes a worker keep the messages of a call for readers. The call then runs
// on if its caller goes away.
type StreamRequest struct {
	ID StreamID // "": none is kept, and the call ends with its caller
	// Owner is who may read the stream and answer its requests.
	Owner string
	// Window is how long the stream is kept without a reader. A call that still runs is
	// then cancelled. 0 is DefaultWindow.
	Window time.Duration
	// Keep keeps the messages for the window however soon the call ends. Otherwise a call
	// that ends within 50 ms of its arrival and without a message is not kept.
	Keep bool
}

// Message is one message of a stream.
type Message struct {
	Seq    uint64 // grows by one in a stream, at first from 0; 0 if the call has no stream
	Kind   MessageKind
	Method string // of a notification or request
	ID     []byte // of a request, raw JSON, towards the client
	Params []byte // of a notification or request, raw JSON; nil if there are none
	Result []byte // of a reply, raw JSON
	Error  []byte // of a reply: raw JSON-RPC error object
	Err    error  // of a reply without an answer: one of this package's errors, wrapped
}

// Size returns about how many bytes the message occupies.
func (m *Message) Size() int {
	return len(m.Method) + len(m.ID) + len(m.Params) + len(m.Result) + len(m.Error) + 128
}

// MessageKind is the kind of a Message.
type MessageKind uint8

// The kinds of messages. A reply is the last message of a call.
const (
	MessageNotification MessageKind = iota + 1
	MessageRequest
	MessageReply
)

// ReadRequest asks a worker for the messages of a stream.
type ReadRequest struct {
	Stream StreamID
	Owner  string
	After  uint64 // the last message that is not wanted
	// Unread begins after the last message that any reader was sent, whatever After is.
	Unread bool
	// Claim takes the stream over after After for good: it succeeds once for each After,
	// and not for one before an earlier claim.
	Claim bool
}

// Answer is a client's answer to a request of a server. Exactly one of Result and Error
// is set.
type Answer struct {
	Stream StreamID
	Owner  string
	N      uint64 // of the AskID
	Result []byte // raw JSON
	Error  []byte // raw JSON-RPC error object
}

// StreamStats counts the streams of a worker.
type StreamStats struct {
	Kept    int    // at present, those of running calls included
	Bytes   int64  // of their messages, about
	Evicted uint64 // forgotten before the end of their window, because there were too many bytes
	Resumed uint64 // how often a reader came
	// Unattributed counts notifications that were dropped because it is not known whose
	// call they belong to.
	Unattributed uint64
}

// Interest is a server whose notifications a controller wants.
type Interest struct {
	Server ServerName
	// URIs are the resources whose updates are wanted, and the tasks whose status is, see
	// TaskURI. Changes of lists always are.
	URIs []string
}

// Interests are all that a controller wants to hear of. A later value replaces the one
// before, and has a higher number.
type Interests struct {
	Number  uint64
	Servers []Interest
}

// Hearing is what a worker tells a controller that listens.
type Hearing struct {
	News []News
	// InEffect is the number of the last interests that are in effect: the worker tells of
	// every change after this. It is 0 in between. Workers of earlier versions never say so.
	InEffect uint64
	// Running are the servers that have replicas, whose changes the controller may have
	// missed before. Only the first InEffect of a stream has them.
	Running []ServerName
}

// News is a notification of a server that belongs to no call and no session.
type News struct {
	Server  ServerName
	Replica ReplicaID
	Method  string
	Params  []byte // raw JSON; nil if there are none
	Task    string // the URI of the task that it is about; "" for none
}

// CoveringURI returns which of the URIs is the resource's own, or that of a resource that
// it is a part of. It returns "" if none is. Who subscribes to a resource hears of its
// parts, too.
func CoveringURI(uris []string, uri string) string {
	for _, one := range uris {
		if uri == one || strings.HasPrefix(uri, strings.TrimSuffix(one, "/")+"/") {
			return one
		}
	}
	return ""
}
