package rpc

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetpb"
)

// Streams is the part of a Worker that concerns streams and notifications. All methods
// may be called at once.
type Streams interface {
	// ReadStream calls send without messages once it has found the stream, and then with
	// messages, oldest first, until the reply was sent, send fails, ctx ends or another
	// reader comes. send may keep the messages, but not change them.
	ReadStream(ctx context.Context, r fleet.ReadRequest, send func([]fleet.Message) error) error
	// Answer, CancelCall and SendToSession do not block.
	Answer(a fleet.Answer) error
	CancelCall(stream fleet.StreamID, owner, reason string) error
	SendToSession(session fleet.SessionID, replica fleet.ReplicaID, message []byte) error
	// Listen tells of the last interests that it was given, until ctx ends or send fails.
	// The end of the channel changes nothing.
	Listen(ctx context.Context, interests <-chan fleet.Interests, send func(fleet.Hearing) error) error
}

// ReadStream implements the service.
func (s *Server) ReadStream(r *fleetpb.ReadStreamRequest, stream grpc.ServerStreamingServer[fleetpb.ReadStreamResponse]) error {
	req := fleet.ReadRequest{
		Stream: fleet.StreamID(r.GetStream()), Owner: r.GetOwner(), After: r.GetAfter(), Claim: r.GetClaim(),
		Unread: r.GetUnread(),
	}
	return toStatus(s.worker.ReadStream(stream.Context(), req, func(ms []fleet.Message) error {
		for first := true; first || len(ms) > 0; first = false {
			n := batchOf(ms)
			if err := stream.Send(messagesToPB(ms[:n])); err != nil {
				return err
			}
			ms = ms[n:]
		}
		return nil
	}))
}

// batchOf returns how many of the messages travel together.
func batchOf(ms []fleet.Message) int {
	n, size := 0, 0
	for n < len(ms) && (n == 0 || size+ms[n].Size() <= batchBytes) {
		size += ms[n].Size()
		n++
	}
	return n
}

// Answer implements the service.
func (s *Server) Answer(_ context.Context, r *fleetpb.AnswerRequest) (*fleetpb.AnswerResponse, error) {
	err := s.worker.Answer(fleet.Answer{
		Stream: fleet.StreamID(r.GetStream()), Owner: r.GetOwner(), N: r.GetN(), Result: r.GetResult(), Error: r.GetError(),
	})
	if err != nil {
		return nil, toStatus(err)
	}
	return &fleetpb.AnswerResponse{}, nil
}

// CancelCall implements the service.
func (s *Server) CancelCall(_ context.Context, r *fleetpb.CancelCallRequest) (*fleetpb.CancelCallResponse, error) {
	if err := s.worker.CancelCall(fleet.StreamID(r.GetStream()), r.GetOwner(), r.GetReason()); err != nil {
		return nil, toStatus(err)
	}
	return &fleetpb.CancelCallResponse{}, nil
}

// SendToSession implements the service.
func (s *Server) SendToSession(_ context.Context, r *fleetpb.SendToSessionRequest) (*fleetpb.SendToSessionResponse, error) {
	err := s.worker.SendToSession(fleet.SessionID(r.GetSession()), fleet.ReplicaID(r.GetReplicaId()), r.GetMessage())
	if err != nil {
		return nil, toStatus(err)
	}
	return &fleetpb.SendToSessionResponse{}, nil
}

// Listen implements the service.
func (s *Server) Listen(stream grpc.BidiStreamingServer[fleetpb.ListenRequest, fleetpb.ListenResponse]) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	interests := make(chan fleet.Interests)
	s.readers.Go(func() { // ends with the stream
		for {
			r, err := stream.Recv()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					cancel(err)
				}
				return
			}
			select {
			case interests <- interestsFromPB(r):
			case <-ctx.Done():
				return
			}
		}
	})
	return toStatus(s.worker.Listen(ctx, interests, func(h fleet.Hearing) error { return stream.Send(hearingToPB(h)) }))
}
