package rpc

import (
	"context"
	"fmt"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetpb"
)

// OpenSession gives a raw spare to a session, and returns the server's answer to
// initialize. It may be repeated. It fails with
//   - fleet.ErrNotDelivered if the spare cannot be given to the session, so that another
//     one may be,
//   - fleet.ErrReplicaLost if the replica has ended,
//   - fleet.ErrOldWorker if the worker does not know the order.
func (c *Client) OpenSession(ctx context.Context, o fleet.Order, s fleet.SessionStart) (fleet.SessionOpened, error) {
	r, err := c.pb.OpenSession(ctx, sessionStartToPB(o, s))
	if err != nil {
		return fleet.SessionOpened{}, unknownToOld(ctx, fmt.Sprintf("open a session at replica %s on worker %s", s.Replica, c.addr), err)
	}
	return sessionOpenedFromPB(r), nil
}

// CloseSession stops the replica of a session at once. It may be repeated. It fails with
// fleet.ErrUnknownReplica if the replica does not belong to the session.
func (c *Client) CloseSession(ctx context.Context, id fleet.ReplicaID, session fleet.SessionID, reason string) error {
	r := &fleetpb.CloseSessionRequest{ReplicaId: text(string(id)), Session: text(string(session)), Reason: text(reason)}
	if _, err := c.pb.CloseSession(ctx, r); err != nil {
		return unknownToOld(ctx, fmt.Sprintf("close the session of replica %s on worker %s", id, c.addr), err)
	}
	return nil
}
