package fleet

import "errors"

// Errors that cross packages and the wire. Package rpc carries them between
// processes, package httpapi gives each its HTTP status and code.
var (
	// ErrNotDelivered: the message surely did not reach a replica; the call
	// may be tried on another one.
	ErrNotDelivered = errors.New("call not delivered")
	// ErrReplicaLost: the replica, its node or the way to it ended in
	// mid-call; whether the tool ran is unknown.
	ErrReplicaLost = errors.New("replica lost during the call")
	// ErrBadReply: the server's reply was not valid JSON or UTF-8.
	ErrBadReply = errors.New("server sent an invalid reply")
	// ErrReplyTooLarge: the server's reply is longer than a line may be. It
	// is a kind of bad reply.
	ErrReplyTooLarge = errors.New("server's reply is too large")
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
	// ErrUnknownServer: no such server.
	ErrUnknownServer = errors.New("unknown server")
	// ErrUnknownTool: the server, or none of them, offers such a tool.
	ErrUnknownTool = errors.New("unknown tool")
	// ErrCatalogueUnknown: what a server offers is not known yet, because no
	// replica of it has been ready so far.
	ErrCatalogueUnknown = errors.New("tools are not known yet")
	// ErrNoDefaultTool: the call names no tool, and there is no default one.
	ErrNoDefaultTool = errors.New("no default tool")
)
