package fleet

import (
	"cmp"
	"io"
	"time"
)

// Order says by which leader an order to a worker was given. It is fixed for a
// leader's tenure.
type Order struct {
	Cluster     ClusterID
	Incarnation Incarnation
	Epoch       Epoch
}

// Compare orders the orders of one cluster: by incarnation, then by epoch.
func (o Order) Compare(p Order) int {
	return cmp.Or(cmp.Compare(o.Incarnation, p.Incarnation), cmp.Compare(o.Epoch, p.Epoch))
}

// Assignment tells a worker to run one replica.
type Assignment struct {
	ID       ReplicaID
	Server   ServerName
	Revision Revision
	// Generation is how often the server had been restarted by hand.
	Generation uint64
	Template   *Template
}

// Report is what a worker tells of itself: first one full report, then
// changes. Every report's version is at least that of the one before; versions
// of different lives of a node do not compare.
type Report struct {
	Version    uint64
	Now        time.Time // on the worker's clock, when it was sent; zero: not told
	Node       *NodeInfo // set in the first report of a watch only
	Full       bool      // Replicas is all there is, ended ones still remembered included
	Replicas   []Replica // all (Full) or those that changed
	Catalogues []Catalogue
	Forgotten  []ReplicaID // ended replicas that the worker has forgotten
	Draining   bool        // the node is stopping: place nothing on it
	Unfit      string      // why the node refuses to start replicas, in words; "": it does not
}

// CallRequest is one call to one replica.
type CallRequest struct {
	Replica ReplicaID
	Method  string // "tools/call"
	Params  []byte // raw JSON, one valid value; nobody may change it any more
	Trace   Trace
	// NoMeta says that Params is an object without a member _meta. It is then not
	// scanned again on its way to the server.
	NoMeta bool
	// Notifications asks for CallNotification events.
	Notifications bool
}

// CallResult is a server's answer. Exactly one of Result, Error and Stream is
// set.
type CallResult struct {
	Result []byte // raw JSON of the result
	Error  []byte // raw JSON of the JSON-RPC error object

	// Stream is a large result, read once and closed by the caller. A read
	// fails with ErrReplicaLost when its worker is lost half way.
	Stream     io.ReadCloser
	StreamSize int64
}

// CallHooks are called while a call runs. They must not block. Nil hooks are
// not called. One may still be running when the call returns early, because its
// context ended or its worker was lost.
type CallHooks struct {
	// Progress is called when the server reports progress, so that the deadline
	// may move: not for each report, but several times a second.
	Progress func()
	// Notification is called with each notification of the server that belongs
	// to the call, and owns params. These are the notifications/progress, if
	// the call's params ask for them with a token, which they then carry.
	//
	// A slow connection does not get all of them: of those that wait at the
	// worker, the last is replaced by a newer one once there are more than 32
	// of a call or 256 KiB. One that is larger than that is dropped.
	//
	// Without this hook notifications do not leave the worker.
	Notification func(method string, params []byte)
	// Released: the call no longer holds its slot on the replica, of which
	// ongoing calls remain there (-1: unknown, the way to it is lost). Called
	// exactly once: before the call returns when it was answered, perhaps long
	// after when it was cancelled.
	Released func(ongoing int)
}

// CallEvent is an event in the life of a call at its replica: any number of
// Progress and Notification, then one Reply, then, only if that reply was a
// cancellation that left the slot held, one Released.
type CallEvent struct {
	Kind    CallEventKind
	Method  string // Notification
	Params  []byte // Notification: raw JSON; owned by the receiver
	Result  []byte // Reply: raw JSON; owned by the receiver
	Error   []byte // Reply: raw JSON-RPC error object; owned by the receiver
	Err     error  // Reply: no answer: one of this package's errors, wrapped
	Ongoing int    // the replica's load after this event
	// Holding: Reply to a cancelled call only: the slot is still held, a
	// Released event follows.
	Holding bool
	// Free returns the reply's bytes to the worker's buffer budget. It may be
	// nil; else it is called once, when the bytes have been sent.
	Free func()
}

// CallEventKind tells the events apart.
type CallEventKind uint8

// The events of a call.
const (
	CallReply CallEventKind = iota + 1
	CallProgress
	CallReleased
	CallNotification
)

// StdoutMark begins the lines of a replica's log that stood on its stdout,
// where they did not belong.
const StdoutMark = "stdout: "

// LogLine is one line that a replica wrote to stderr, or a marked one that it
// wrote to stdout.
type LogLine struct {
	Time time.Time
	Text string
}
