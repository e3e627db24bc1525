package agent

import (
	"context"
	"fmt"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// ReadStream implements rpc.Streams.
func (a *Agent) ReadStream(_ context.Context, r fleet.ReadRequest, _ func([]fleet.Message) error) error {
	return fmt.Errorf("%w %q", fleet.ErrUnknownStream, r.Stream)
}

// Answer implements rpc.Streams.
func (a *Agent) Answer(fleet.Answer) error { return fleet.ErrNotAsked }

// CancelCall implements rpc.Streams.
func (a *Agent) CancelCall(id fleet.StreamID, _ string) error {
	return fmt.Errorf("%w %q", fleet.ErrUnknownStream, id)
}

// SendToSession implements rpc.Streams.
func (a *Agent) SendToSession(fleet.SessionID, fleet.ReplicaID, []byte) error {
	return fleet.ErrUnknownReplica
}

// Listen implements rpc.Streams.
func (a *Agent) Listen(ctx context.Context, _ <-chan []fleet.Interest, _ func([]fleet.News) error) error {
	<-ctx.Done()
	return context.Cause(ctx)
}
