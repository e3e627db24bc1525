package observe

import (
	"context"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Sessions is the part of a Worker that gives replicas to sessions; see rpc.Client.
type Sessions interface {
	OpenSession(ctx context.Context, order fleet.Order, s fleet.SessionStart) (fleet.SessionOpened, error)
	CloseSession(ctx context.Context, id fleet.ReplicaID, session fleet.SessionID, reason string) error
}
