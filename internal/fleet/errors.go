package fleet

import (
	"errors"
	"fmt"
)

// Errors that cross packages and the wire. Package rpc carries them between
// processes, and package api gives each its HTTP status and code.
var (
	// ErrNotDelivered means that the message certainly did not reach a replica. The
	// call may be tried on another one.
	ErrNotDelivered = errors.New("call not delivered")
	// ErrReplicaLost means that the replica, its node or the connection to it ended
	// in mid-call. It is unknown whether the tool ran.
	ErrReplicaLost = errors.New("replica lost during the call")
	// ErrWorkerLost is an ErrReplicaLost without a sign that the replica itself
	// died: the connection to its worker was lost, perhaps while the result was
	// being read.
	ErrWorkerLost = fmt.Errorf("%w: connection to its worker lost", ErrReplicaLost)
	// ErrSessionLost means that the call's session has no replica that takes its calls. The
	// call was not delivered, and no other replica knows the session. Or it means that the
	// session was ended.
	ErrSessionLost = errors.New("the session's replica is gone")
	// ErrTaskLost means that the replica with the call's task is gone. The call was not
	// delivered.
	ErrTaskLost = errors.New("the task's replica is gone")
	// ErrUnknownStream means that the stream is not kept, or not any more, or that it
	// belongs to somebody else.
	ErrUnknownStream = errors.New("unknown stream")
	// ErrStreamTaken means that another reader has taken the stream over.
	ErrStreamTaken = errors.New("another reader has taken the stream over")
	// ErrClaimed means that the place in the stream was claimed before.
	ErrClaimed = errors.New("was used before")
	// ErrNotAsked means that nobody waits for the answer.
	ErrNotAsked = errors.New("nobody waits for this answer")
	// ErrBadReply means that the server's reply was not valid JSON or UTF-8.
	ErrBadReply = errors.New("server sent an invalid reply")
	// ErrReplyTooLarge means that the server's reply is longer than a line may be.
	ErrReplyTooLarge = errors.New("server's reply is too large")
	// ErrRequestTooLarge means that the call is larger than its server accepts.
	ErrRequestTooLarge = errors.New("call is too large")
	// ErrOverloaded means that the queue or the buffer memory is full.
	ErrOverloaded = errors.New("overloaded")
	// ErrNoReplica means that no replica is ready or on its way.
	ErrNoReplica = errors.New("no replica is ready")
	// ErrTimeout means that the call's deadline passed.
	ErrTimeout = errors.New("call timed out")
	// ErrStaleEpoch means that the order is older than one that was obeyed.
	ErrStaleEpoch = errors.New("order from an older epoch")
	// ErrForeignCluster means that the order comes from another cluster.
	ErrForeignCluster = errors.New("order from another cluster")
	// ErrUnknownReplica means that the node does not know the replica.
	ErrUnknownReplica = errors.New("unknown replica")
	// ErrDraining means that the node is stopping and starts no replicas.
	ErrDraining = errors.New("node is draining")
	// ErrOldWorker means that the worker is of an older version, which does not know
	// the order.
	ErrOldWorker = errors.New("its worker is of an older version and does not know the order: update it")
	// ErrNotRecorded means that the node cannot record orders on its disk, and so
	// starts no replicas.
	ErrNotRecorded = errors.New("the node cannot record orders")
	// ErrUnknownServer means that there is no such server.
	ErrUnknownServer = errors.New("unknown server")
	// ErrUnknownTool means that the server, or no server, offers such a tool.
	ErrUnknownTool = errors.New("unknown tool")
	// ErrUnknownPrompt means that no server of an MCP endpoint offers such a prompt.
	ErrUnknownPrompt = errors.New("unknown prompt")
	// ErrUnknownResource means that no server of an MCP endpoint can have such a
	// resource.
	ErrUnknownResource = errors.New("unknown resource")
	// ErrUnknownGateway means that there is no such gateway.
	ErrUnknownGateway = errors.New("unknown gateway")
	// ErrCatalogueUnknown means that the server's tools are not known yet, because no
	// replica of it has been ready so far.
	ErrCatalogueUnknown = errors.New("tools are not known yet")
	// ErrStopped means that the server was stopped by hand: its replicas are 0.
	ErrStopped = errors.New("server is stopped")
	// ErrUnknownNode means that no node has such a name.
	ErrUnknownNode = errors.New("unknown node")
	// ErrUnknownController means that no controller has such a name or id.
	ErrUnknownController = errors.New("unknown controller")
	// ErrUnknownRevision means that the server never had the revision, or that it is
	// no longer kept.
	ErrUnknownRevision = errors.New("unknown revision")
	// ErrInvalid means that the write cannot be applied to the stored state. It
	// changed nothing.
	ErrInvalid = errors.New("invalid write")
	// ErrConflict means that the write contradicts the stored state. It changed
	// nothing.
	ErrConflict = errors.New("conflicting write")
	// ErrPrecondition means that the stored state is not the one that the write was
	// made for. It changed nothing.
	ErrPrecondition = errors.New("precondition failed")
	// ErrUnsupported means that a controller of an older version would not understand
	// the write. It changed nothing.
	ErrUnsupported = errors.New("not supported by all controllers yet")
	// ErrNotLeader means that this controller is not the leader. Nothing was written.
	ErrNotLeader = errors.New("not the leader")
	// ErrNoLeader means that no leader could be reached. Nothing was written.
	ErrNoLeader = errors.New("no leader")
	// ErrOutcomeUnknown means that the write may or may not have happened.
	ErrOutcomeUnknown = errors.New("outcome of the write is unknown")
	// ErrNoDefaultTool means that the call names no tool and there is no default one.
	ErrNoDefaultTool = errors.New("no default tool")
)
