package rpc

import (
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetpb"
)

func sessionStartToPB(o fleet.Order, s fleet.SessionStart) *fleetpb.OpenSessionRequest {
	p := &fleetpb.OpenSessionRequest{
		Order: orderToPB(o), ReplicaId: string(s.Replica), Session: text(string(s.Session)), Initialize: s.Initialize, Level: text(s.Restore.Level), Once: s.Once,
	}
	for _, uri := range s.Restore.Subscriptions {
		p.Subscriptions = append(p.Subscriptions, text(uri))
	}
	return p
}

func sessionStartFromPB(p *fleetpb.OpenSessionRequest) (fleet.Order, fleet.SessionStart) {
	return orderFromPB(p.GetOrder()), fleet.SessionStart{
		Replica: fleet.ReplicaID(p.GetReplicaId()), Session: fleet.SessionID(p.GetSession()), Initialize: p.GetInitialize(),
		Restore: fleet.Restore{Subscriptions: p.GetSubscriptions(), Level: p.GetLevel()}, Once: p.GetOnce(),
	}
}

func sessionOpenedToPB(s fleet.SessionOpened) *fleetpb.OpenSessionResponse {
	p := &fleetpb.OpenSessionResponse{Version: s.Version}
	if s.Error != nil {
		p.Outcome = &fleetpb.OpenSessionResponse_Error{Error: s.Error}
	} else {
		p.Outcome = &fleetpb.OpenSessionResponse_Result{Result: s.Result}
	}
	return p
}

func sessionOpenedFromPB(p *fleetpb.OpenSessionResponse) fleet.SessionOpened {
	return fleet.SessionOpened{Version: p.GetVersion(), Result: p.GetResult(), Error: p.GetError()}
}
