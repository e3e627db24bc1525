package fleet

import (
	"errors"
	"fmt"
)

// Errors that cross packages and the wire. Package rpc carries them between
// processes, and package api gives each its HTTP status and code.
var (
	// ErrNotDelivered: the message surely did not reach a replica; the call
	// may be tried on another one.
	ErrNotDelivered = errors.New("call not delivered")
	// ErrReplicaLost: the replica, its node or the way to it ended in
	// mid-call; whether the tool ran is unknown.
	ErrReplicaLost = errors.New("replica lost during the call")
	// ErrWorkerLost is an ErrReplicaLost without a sign that the replica itself
	// died: the connection to its worker broke, or the result broke off on
	// its way.
	ErrWorkerLost = fmt.Errorf("%w: connection to its worker lost", ErrReplicaLost)
	// ErrSessionLost: the replica that the call's session is pinned to takes no
	// calls any more. The call was not delivered, and no other replica knows the
	// session.
	ErrSessionLost = errors.New("the session's replica is gone")
	// ErrBadReply: the server's reply was not valid JSON or UTF-8.
	ErrBadReply = errors.New("server sent an invalid reply")
	// ErrReplyTooLarge: the server's reply is longer than a line may be. It
	// is a kind of bad reply.
	ErrReplyTooLarge = errors.New("server's reply is too large")
	// ErrRequestTooLarge: the call is larger than its server takes.
	ErrRequestTooLarge = errors.New("call is too large")
	// ErrOverloaded: a bound was reached: the queue, or buffer memory.
	ErrOverloaded = errors.New("overloaded")
	// ErrNoReplica: no replica is ready, and none is on its way.
	ErrNoReplica = errors.New("no replica is ready")
	// ErrTimeout: the call's deadline passed.
	ErrTimeout = errors.New("call timed out")
	// ErrStaleEpoch: the order is older than one already obeyed.
	ErrStaleEpoch = errors.New("order from an older epoch")
	// ErrForeignCluster: the order comes from another cluster.
	ErrForeignCluster = errors.New("order from another cluster")
	// ErrUnknownReplica: the node does not know the replica.
	ErrUnknownReplica = errors.New("unknown replica")
	// ErrDraining: the node is stopping and starts nothing more.
	ErrDraining = errors.New("node is draining")
	// ErrNotRecorded: the node cannot record the order on its disk, and starts
	// nothing for that reason.
	ErrNotRecorded = errors.New("the node cannot record orders")
	// ErrUnknownServer: no such server.
	ErrUnknownServer = errors.New("unknown server")
	// ErrUnknownTool: the server, or none of them, offers such a tool.
	ErrUnknownTool = errors.New("unknown tool")
	// ErrCatalogueUnknown: what a server offers is not known yet, because no
	// replica of it has been ready so far.
	ErrCatalogueUnknown = errors.New("tools are not known yet")
	// ErrStopped: the server is stopped by hand: its replicas are 0.
	ErrStopped = errors.New("server is stopped")
	// ErrUnknownNode: no node has such a name.
	ErrUnknownNode = errors.New("unknown node")
	// ErrUnknownController: no controller has such a name or id.
	ErrUnknownController = errors.New("unknown controller")
	// ErrUnknownRevision: the server never had the revision, or it is too old
	// to be kept.
	ErrUnknownRevision = errors.New("unknown revision")
	// ErrInvalid: a write that cannot be done to what is stored; it changed
	// nothing.
	ErrInvalid = errors.New("invalid write")
	// ErrConflict: the write contradicts what is stored; it changed nothing.
	ErrConflict = errors.New("conflicting write")
	// ErrPrecondition: what is stored is not what the write was meant for; it
	// changed nothing.
	ErrPrecondition = errors.New("precondition failed")
	// ErrUnsupported: a controller of an older version would not understand
	// the write; it changed nothing.
	ErrUnsupported = errors.New("not supported by all controllers yet")
	// ErrNotLeader: this controller is not the leader; nothing was written.
	ErrNotLeader = errors.New("not the leader")
	// ErrNoLeader: no leader could be reached; nothing was written.
	ErrNoLeader = errors.New("no leader")
	// ErrOutcomeUnknown: the write may or may not have happened.
	ErrOutcomeUnknown = errors.New("outcome of the write is unknown")
	// ErrNoDefaultTool: the call names no tool, and there is no default one.
	ErrNoDefaultTool = errors.New("no default tool")
)
