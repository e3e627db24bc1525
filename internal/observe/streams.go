package observe

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Streams is the part of a Worker that concerns streams and notifications; see
// rpc.Client.
type Streams interface {
	ReadStream(ctx context.Context, r fleet.ReadRequest, on func([]fleet.Message) error) error
	Answer(ctx context.Context, a fleet.Answer) error
	CancelCall(ctx context.Context, stream fleet.StreamID, owner, reason string) error
	SendToSession(ctx context.Context, session fleet.SessionID, replica fleet.ReplicaID, message []byte) error
	Listen(ctx context.Context, interests <-chan fleet.Interests, on func(fleet.Hearing)) error
}

// ReadStream calls on without messages once the worker of this life has found the stream,
// and then with messages, oldest first. It returns nil after the reply of a call.
// Otherwise it ends with on's error, when ctx does, or with
//   - fleet.ErrUnknownStream if the worker does not know the stream, or is not known itself,
//   - fleet.ErrClaimed if the place was claimed before,
//   - fleet.ErrStreamTaken when another reader comes,
//   - fleet.ErrWorkerLost if the worker cannot be reached, perhaps for a moment.
func (o *Observer) ReadStream(ctx context.Context, life fleet.LifeID, r fleet.ReadRequest, on func([]fleet.Message) error) error {
	w, err := o.workerOf(life)
	if err != nil {
		return fmt.Errorf("read stream %s: %w", r.Stream, err)
	}
	return w.ReadStream(ctx, r, on)
}

// Answer passes a client's answer to the worker of this life. It fails with
// fleet.ErrNotAsked if nobody waits for it, and otherwise as ReadStream does.
func (o *Observer) Answer(ctx context.Context, life fleet.LifeID, a fleet.Answer) error {
	w, err := o.workerOf(life)
	if err != nil {
		return fmt.Errorf("answer on stream %s: %w", a.Stream, err)
	}
	return w.Answer(ctx, a)
}

// SendToSession passes a client's message to the replica of its session. It fails with
// fleet.ErrUnknownReplica, fleet.ErrNotAsked or fleet.ErrWorkerLost.
func (o *Observer) SendToSession(ctx context.Context, session fleet.SessionID, replica fleet.ReplicaID, message []byte) error {
	snap := o.Snapshot()
	r := snap.Replicas[replica]
	if r == nil {
		return fmt.Errorf("%w %q", fleet.ErrUnknownReplica, replica)
	}
	w := snap.Nodes[r.Node].Worker
	if w == nil {
		return fmt.Errorf("message to replica %s: node %s cannot be reached: %w", replica, r.Node, fleet.ErrWorkerLost)
	}
	return w.SendToSession(ctx, session, replica, message)
}

// workerOf returns the worker with this life.
func (o *Observer) workerOf(life fleet.LifeID) (Worker, error) {
	for _, n := range o.Snapshot().Nodes {
		if n.Member.Life != life {
			continue
		}
		switch {
		case n.Worker != nil:
			return n.Worker, nil
		case !n.Lost:
			return nil, fmt.Errorf("node %s cannot be reached: %w", n.Member.Node, fleet.ErrWorkerLost)
		}
	}
	return nil, fmt.Errorf("%w: its worker has ended", fleet.ErrUnknownStream)
}

// cancelTimeout bounds how long CancelCalls waits for a worker.
const cancelTimeout = 5 * time.Second

// CancelCalls cancels the call of a stream, whichever worker has it, for a reason that the
// server is told. Workers that cannot be reached are left out.
func (o *Observer) CancelCalls(ctx context.Context, stream fleet.StreamID, owner, reason string) {
	ctx, cancel := context.WithTimeout(ctx, cancelTimeout)
	defer cancel()
	var asked sync.WaitGroup
	defer asked.Wait()
	for _, n := range o.Snapshot().Nodes {
		if w := n.Worker; w != nil {
			asked.Go(func() { _ = w.CancelCall(ctx, stream, owner, reason) }) // all but one do not know it
		}
	}
}

// LifeOf returns the life of a node's worker, "" if the node is not known.
func (o *Observer) LifeOf(node fleet.NodeID) fleet.LifeID {
	return o.Snapshot().Nodes[node].Member.Life
}
