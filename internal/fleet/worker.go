package fleet

import (
	"cmp"
	"io"
	"time"
)

// Order identifies the leader that gave an order to a worker. It is constant during
// a leader's tenure.
type Order struct {
	Cluster     ClusterID
	Incarnation Incarnation
	Epoch       Epoch
}

// Compare orders the orders of one cluster: by incarnation, then by epoch.
func (o Order) Compare(p Order) int {
	return cmp.Or(cmp.Compare(o.Incarnation, p.Incarnation), cmp.Compare(o.Epoch, p.Epoch))
}

// Assignment is a worker's order to run one replica.
type Assignment struct {
	ID       ReplicaID
	Server   ServerName
	Revision Revision
	// Generation is how often the server had been restarted by hand by then.
	Generation uint64
	Template   *Template
	// Spare starts a replica that takes no calls until it is activated.
	Spare bool
	// Raw starts a spare for a session: nothing is sent to it before it is given to one.
	Raw bool
	// Era is what other replicas of the revision were found to have; EraAuto if that
	// is not known. It saves the worker a probe, and is no more than a hint.
	Era Era
}

// Report is a worker's report of its node: the first report of a watch is full, and
// the others have the changes. Versions never decrease within a life of a node.
// Those of different lives must not be compared.
type Report struct {
	Version    uint64
	Now        time.Time // on the worker's clock, when it was sent; zero: unknown
	Node       *NodeInfo // set in the first report of a watch only
	Full       bool      // Replicas has all replicas, including ended ones that are remembered
	Replicas   []Replica // all (Full) or those that changed
	Catalogues []Catalogue
	Forgotten  []ReplicaID // ended replicas that the worker has forgotten
	Draining   bool        // the node is stopping: place nothing on it
	Unfit      string      // why the node refuses to start replicas, in words; "" if it does not
	Streams    StreamStats
}

// CallRequest is one call to one replica.
type CallRequest struct {
	Replica ReplicaID
	Method  string // "tools/call"
	Params  []byte // raw JSON, one valid value; nobody may change it any more
	Trace   Trace
	// NoMeta means that Params is an object without a member _meta, so that it need
	// not be scanned again.
	NoMeta bool
	// Notifications asks for CallNotification and CallAsk events.
	Notifications bool
	// Stream is kept for readers. While the call has no caller, Timeout takes the place of
	// its deadline: from the last progress, and Limit from the start at most. 0 is no bound.
	Stream         StreamRequest
	Timeout, Limit time.Duration
	// Ask means that the caller's client answers requests of the server. Without it, a
	// server's result that asks for input is a result like any other.
	Ask bool
	// Logs means that the call asks for a log level, so that notifications/message may
	// belong to it.
	Logs bool
}

// CallResult is a server's answer. Exactly one of Result, Error and Stream is
// set.
type CallResult struct {
	Result []byte // raw JSON of the result
	Error  []byte // raw JSON of the JSON-RPC error object

	// Stream is a large result. The caller reads it once and closes it. A read
	// fails with ErrReplicaLost if the worker is lost meanwhile.
	Stream     io.ReadCloser
	StreamSize int64

	// Seq is the reply's number in the call's stream, if it has one.
	Seq uint64

	Replica ReplicaID // that answered
}

// CallHooks are called while a call runs. They must not block. Nil hooks are not
// called. A hook may still be running when the call returns because its context
// ended or its worker was lost.
type CallHooks struct {
	// Progress is called when the server reports progress, so that the deadline
	// may move: not for each report, but several times a second.
	Progress func()
	// Notification is called with each notification of the server that belongs to
	// the call, and owns params. These are notifications/progress, if the call's
	// params ask for progress with a token. They carry that token.
	//
	// Up to 32 notifications of a call, or 256 KiB, wait at the worker for a slow
	// connection. Beyond that a new one replaces the last. A notification over
	// 256 KiB is dropped.
	//
	// Without this hook and Message the worker does not send notifications.
	Notification func(method string, params []byte)
	// Message takes the place of Notification, and is also called with each request of the
	// server. Numbers are missing if the connection was too slow for them. The reply is what
	// the call returns.
	Message func(Message)
	// Sent is called when the call is about to be sent to a worker, before any Message. A
	// call that is sent to several workers calls it for each.
	Sent func(worker LifeID)
	// Waiting is called when the call begins to wait for an answer of the client, with
	// true, and when it goes on.
	Waiting func(bool)
	// Released is called exactly once, when the call no longer holds its slot on
	// the replica: before an answered call returns, and perhaps long after a
	// cancelled one has. ongoing is how many calls remain on the replica, -1 if
	// the connection to its worker is lost.
	Released func(ongoing int)
}

// CallEvent is an event of a call at its replica. Any number of Progress,
// Notification, Ask and Resumed comes first, then one Reply. One Released follows if
// Reply was Holding. A call with a stream that was given up by its caller has a
// Released in place of the Reply.
type CallEvent struct {
	Kind    CallEventKind
	Seq     uint64 // Notification, Ask, Reply: in the call's stream, 0 if it has none
	Method  string // Notification, Ask
	ID      []byte // Ask: raw JSON
	Params  []byte // Notification, Ask: raw JSON; owned by the receiver
	Result  []byte // Reply: raw JSON; owned by the receiver
	Error   []byte // Reply: raw JSON-RPC error object; owned by the receiver
	Err     error  // Reply without an answer: one of this package's errors, wrapped
	Ongoing int    // the replica's load after this event
	// Holding is set in the Reply to a cancelled call that still holds its slot.
	Holding bool
	// Free returns the reply's bytes to the worker's budget. It is called once, when
	// the bytes have been sent. It may be nil.
	Free func()
}

// CallEventKind is the kind of a CallEvent.
type CallEventKind uint8

// The events of a call.
const (
	CallReply CallEventKind = iota + 1
	CallProgress
	CallReleased
	CallNotification
	CallAsk     // a request to the caller's client; the call waits for the answer
	CallResumed // the call does not wait for answers any more
)

// StdoutMark begins the lines of a replica's log that it wrote to stdout, where they
// did not belong.
const StdoutMark = "stdout: "

// LogLine is a line that a replica wrote to stderr, or to stdout with StdoutMark.
type LogLine struct {
	Time time.Time
	Text string
}
