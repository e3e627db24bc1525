package rpc

import (
	"context"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetpb"
)

// Sessions is the part of a Worker that gives replicas to sessions. Both methods may be
// called at once, and again.
type Sessions interface {
	// OpenSession gives a raw spare to a session, and returns the server's answer to
	// initialize.
	OpenSession(ctx context.Context, o fleet.Order, s fleet.SessionStart) (fleet.SessionOpened, error)
	// CloseSession stops the replica of a session at once.
	CloseSession(ctx context.Context, id fleet.ReplicaID, session fleet.SessionID, reason string) error
}

// OpenSession implements the service.
func (s *Server) OpenSession(ctx context.Context, r *fleetpb.OpenSessionRequest) (*fleetpb.OpenSessionResponse, error) {
	o, start := sessionStartFromPB(r)
	opened, err := s.worker.OpenSession(ctx, o, start)
	if err != nil {
		return nil, toStatus(err)
	}
	return sessionOpenedToPB(opened), nil
}

// CloseSession implements the service.
func (s *Server) CloseSession(ctx context.Context, r *fleetpb.CloseSessionRequest) (*fleetpb.CloseSessionResponse, error) {
	err := s.worker.CloseSession(ctx, fleet.ReplicaID(r.GetReplicaId()), fleet.SessionID(r.GetSession()), r.GetReason())
	if err != nil {
		return nil, toStatus(err)
	}
	return &fleetpb.CloseSessionResponse{}, nil
}
