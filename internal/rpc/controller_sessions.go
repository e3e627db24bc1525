package rpc

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetpb"
)

// WatchSessions implements the service.
func (s *controllerServer) WatchSessions(r *fleetpb.WatchSessionsRequest, stream grpc.ServerStreamingServer[fleetpb.WatchSessionsResponse]) error {
	return toStatus(s.controller.WatchSessions(stream.Context(), orderFromPB(r.GetOrder()), func(records []fleet.SessionRecord) error {
		return stream.Send(&fleetpb.WatchSessionsResponse{Records: recordsToPB(records)})
	}))
}

// TellSessions implements the service.
func (s *controllerServer) TellSessions(ctx context.Context, r *fleetpb.TellSessionsRequest) (*fleetpb.TellSessionsResponse, error) {
	if err := s.controller.TellSessions(ctx, orderFromPB(r.GetOrder()), recordsFromPB(r.GetRecords())); err != nil {
		return nil, toStatus(err)
	}
	return &fleetpb.TellSessionsResponse{}, nil
}

// GiveSession implements the service.
func (s *controllerServer) GiveSession(ctx context.Context, r *fleetpb.GiveSessionRequest) (*fleetpb.GiveSessionResponse, error) {
	given, err := s.controller.GiveSession(ctx, orderFromPB(r.GetOrder()), sessionRequestFromPB(r))
	if err != nil {
		return nil, toStatus(err)
	}
	return sessionGivenToPB(&given), nil
}

// WatchSessions calls on with what the controller's WatchSessions sends. It ends as
// WatchQueues does. The error is never nil.
func (c *ControllerClient) WatchSessions(ctx context.Context, o fleet.Order, on func([]fleet.SessionRecord)) error {
	return follow(ctx, c, "watch the sessions of controller "+c.addr, func(ctx context.Context) (grpc.ServerStreamingClient[fleetpb.WatchSessionsResponse], error) {
		return c.pb.WatchSessions(ctx, &fleetpb.WatchSessionsRequest{Order: orderToPB(o)})
	}, func(p *fleetpb.WatchSessionsResponse) { on(recordsFromPB(p.GetRecords())) })
}

// TellSessions has the controller take in records. It may be repeated. The error is that
// of ctx if the controller does not answer.
func (c *ControllerClient) TellSessions(ctx context.Context, o fleet.Order, records []fleet.SessionRecord) error {
	_, err := c.pb.TellSessions(ctx, &fleetpb.TellSessionsRequest{Order: orderToPB(o), Records: recordsToPB(records)})
	if err != nil {
		return fromStatus(ctx, "tell controller "+c.addr+" of sessions", err)
	}
	return nil
}

// GiveSession has the controller, which leads, give a replica to a session. It may be
// repeated. It fails with fleet.ErrNotLeader if the controller cannot be reached, or does
// not lead.
func (c *ControllerClient) GiveSession(ctx context.Context, o fleet.Order, r fleet.SessionRequest) (fleet.SessionGiven, error) {
	doing := "ask controller " + c.addr + " for a session's replica"
	p, err := c.pb.GiveSession(ctx, sessionRequestToPB(o, r))
	if err == nil {
		return sessionGivenFromPB(p), nil
	}
	st, _ := status.FromError(err)
	if ctx.Err() == nil && len(st.Details()) == 0 && (st.Code() == codes.Unavailable || st.Code() == codes.Unimplemented) {
		return fleet.SessionGiven{}, fmt.Errorf("%s: %w: %s", doing, fleet.ErrNotLeader, st.Message())
	}
	err = fromStatus(ctx, doing, err)
	if said := (*remoteError)(nil); errors.As(err, &said) && len(said.is) > 0 {
		err = said // for the client to read, which need not know the leader's address
	}
	return fleet.SessionGiven{}, err
}

func recordsToPB(records []fleet.SessionRecord) (out []*fleetpb.SessionRecord) {
	for i := range records {
		r := &records[i]
		one := &fleetpb.SessionRecord{
			Id: text(string(r.ID)), Until: timeToPB(r.Until), Ended: r.Ended, Used: timeToPB(r.Used), Began: timeToPB(r.Began), Stamp: r.Stamp, Level: text(r.Level), Caller: text(r.Caller),
			Listener: string(r.Listener), Listened: r.Listened,
		}
		for _, name := range r.Opened {
			one.Opened = append(one.Opened, string(name))
		}
		for _, s := range r.Subscriptions {
			one.Subscriptions = append(one.Subscriptions, &fleetpb.Subscription{Server: string(s.Server), Uri: text(s.URI)})
		}
		out = append(out, one)
	}
	return out
}

func recordsFromPB(records []*fleetpb.SessionRecord) (out []fleet.SessionRecord) {
	for _, one := range records {
		r := fleet.SessionRecord{
			ID: fleet.SessionID(one.GetId()), Until: timeFromPB(one.GetUntil()), Ended: one.GetEnded(), Used: timeFromPB(one.GetUsed()), Began: timeFromPB(one.GetBegan()), Stamp: one.GetStamp(),
			Level: one.GetLevel(), Caller: one.GetCaller(), Listener: fleet.LifeID(one.GetListener()), Listened: one.GetListened(),
		}
		for _, name := range one.GetOpened() {
			r.Opened = append(r.Opened, fleet.ServerName(name))
		}
		for _, s := range one.GetSubscriptions() {
			r.Subscriptions = append(r.Subscriptions, fleet.Subscription{Server: fleet.ServerName(s.GetServer()), URI: s.GetUri()})
		}
		out = append(out, r)
	}
	return out
}

func sessionRequestToPB(o fleet.Order, r fleet.SessionRequest) *fleetpb.GiveSessionRequest {
	p := &fleetpb.GiveSessionRequest{
		Order: orderToPB(o), Server: string(r.Server), Session: text(string(r.Session)), Until: timeToPB(r.Until), Caller: text(r.Caller),
		Initialize: r.Initialize, Level: text(r.Restore.Level), Once: r.Once,
	}
	for _, uri := range r.Restore.Subscriptions {
		p.Subscriptions = append(p.Subscriptions, text(uri))
	}
	return p
}

func sessionRequestFromPB(p *fleetpb.GiveSessionRequest) fleet.SessionRequest {
	return fleet.SessionRequest{
		Server: fleet.ServerName(p.GetServer()), Session: fleet.SessionID(p.GetSession()), Until: timeFromPB(p.GetUntil()), Caller: p.GetCaller(),
		Initialize: p.GetInitialize(), Restore: fleet.Restore{Subscriptions: p.GetSubscriptions(), Level: p.GetLevel()}, Once: p.GetOnce(),
	}
}

func sessionGivenToPB(g *fleet.SessionGiven) *fleetpb.GiveSessionResponse {
	p := &fleetpb.GiveSessionResponse{ReplicaId: string(g.Replica), Node: string(g.Node), Healed: g.Healed, Again: g.Again}
	if g.Error != nil {
		p.Outcome = &fleetpb.GiveSessionResponse_Error{Error: g.Error}
	} else {
		p.Outcome = &fleetpb.GiveSessionResponse_Result{Result: g.Result}
	}
	return p
}

func sessionGivenFromPB(p *fleetpb.GiveSessionResponse) fleet.SessionGiven {
	return fleet.SessionGiven{
		Replica: fleet.ReplicaID(p.GetReplicaId()), Node: fleet.NodeID(p.GetNode()), Result: p.GetResult(), Error: p.GetError(),
		Healed: p.GetHealed(), Again: p.GetAgain(),
	}
}
