package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetpb"
)

// ReadStream calls on without messages once the worker has found the stream, and then
// with messages, oldest first. It returns nil after the reply of a call. Otherwise it
// ends with on's error, with fleet.ErrUnknownStream, fleet.ErrClaimed or
// fleet.ErrStreamTaken, with fleet.ErrWorkerLost, or when ctx does. A worker of an older
// version keeps no stream, so it knows none.
func (c *Client) ReadStream(ctx context.Context, r fleet.ReadRequest, on func([]fleet.Message) error) error {
	doing := fmt.Sprintf("read stream %s at worker %s", r.Stream, c.addr)
	ctx, end, err := c.longLived(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	defer end()
	stream, err := c.pb.ReadStream(ctx, &fleetpb.ReadStreamRequest{
		Stream: text(string(r.Stream)), Owner: text(r.Owner), After: r.After, Claim: r.Claim, Unread: r.Unread,
	})
	if err != nil {
		return unknownOrLost(ctx, doing, err)
	}
	for {
		p, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return unknownOrLost(ctx, doing, err)
		}
		if err := on(messagesFromPB(p)); err != nil {
			return err
		}
	}
}

// Answer passes on a client's answer to a request on a stream. It fails with
// fleet.ErrNotAsked if nobody waits for it, as after an earlier answer.
func (c *Client) Answer(ctx context.Context, a fleet.Answer) error {
	r := &fleetpb.AnswerRequest{Stream: text(string(a.Stream)), Owner: text(a.Owner), N: a.N}
	if a.Error != nil {
		r.Answer = &fleetpb.AnswerRequest_Error{Error: a.Error}
	} else {
		r.Answer = &fleetpb.AnswerRequest_Result{Result: a.Result}
	}
	if _, err := c.pb.Answer(ctx, r); err != nil {
		return answerOrLost(ctx, fmt.Sprintf("answer to a request on stream %s at worker %s", a.Stream, c.addr), err)
	}
	return nil
}

// CancelCall cancels the call of a stream, for a reason that the server is told. It fails
// with fleet.ErrUnknownStream if the worker does not know it, and does nothing if the call
// has ended.
func (c *Client) CancelCall(ctx context.Context, stream fleet.StreamID, owner, reason string) error {
	r := &fleetpb.CancelCallRequest{Stream: text(string(stream)), Owner: text(owner), Reason: text(reason)}
	if _, err := c.pb.CancelCall(ctx, r); err != nil {
		return unknownOrLost(ctx, fmt.Sprintf("cancel the call of stream %s at worker %s", stream, c.addr), err)
	}
	return nil
}

// SendToSession passes a client's message to its session's replica: a notification, or
// the answer to a request of the server. It fails with fleet.ErrUnknownReplica if the
// session does not own the replica, and with fleet.ErrNotAsked for an answer that nobody
// waits for.
func (c *Client) SendToSession(ctx context.Context, session fleet.SessionID, replica fleet.ReplicaID, message []byte) error {
	r := &fleetpb.SendToSessionRequest{Session: text(string(session)), ReplicaId: text(string(replica)), Message: message}
	if _, err := c.pb.SendToSession(ctx, r); err != nil {
		return answerOrLost(ctx, fmt.Sprintf("message to replica %s at worker %s", replica, c.addr), err)
	}
	return nil
}

// Listen passes interests to the worker, and calls on with what it tells. It ends when ctx
// does, or when the stream breaks. The error is never nil.
func (c *Client) Listen(ctx context.Context, interests <-chan fleet.Interests, on func(fleet.Hearing)) error {
	doing := "listen to worker " + c.addr
	ctx, end, err := c.longLived(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	stream, err := c.pb.Listen(ctx)
	if err != nil {
		end()
		return answerOrLost(ctx, doing, err)
	}
	var sender sync.WaitGroup
	sender.Go(func() {
		for {
			select {
			case is := <-interests:
				if err := stream.Send(interestsToPB(is)); err != nil {
					return // Recv says why
				}
			case <-ctx.Done():
				return
			}
		}
	})
	defer sender.Wait()
	defer end()
	for {
		p, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%s: the worker has stopped", doing)
		}
		if err != nil {
			return answerOrLost(ctx, doing, err)
		}
		on(hearingFromPB(p))
	}
}

// longLived returns a context for a stream that Fail and Close end. end must be called.
func (c *Client) longLived(ctx context.Context) (_ context.Context, end func(), err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	e := &contextEnder{cancel}
	if !c.register(e) {
		cancel(nil)
		return nil, nil, fmt.Errorf("%w: %w", fleet.ErrWorkerLost, errClosed)
	}
	return ctx, func() {
		cancel(nil)
		c.forget(e)
	}, nil
}

// contextEnder ends a context.
type contextEnder struct{ cancel context.CancelCauseFunc }

func (e *contextEnder) end(cause error) {
	e.cancel(fmt.Errorf("%w: %s", fleet.ErrWorkerLost, cause.Error()))
}

// unknownOrLost is answerOrLost for a stream, which a worker of an older version does not
// keep.
func unknownOrLost(ctx context.Context, doing string, err error) error {
	if err = answerOrLost(ctx, doing, err); errors.Is(err, fleet.ErrOldWorker) {
		return fmt.Errorf("%w: %w", fleet.ErrUnknownStream, err)
	}
	return err
}

// answerOrLost is fromStatus for requests whose failure without an answer of the worker
// means that the connection to it was lost.
func answerOrLost(ctx context.Context, doing string, err error) error {
	if ctx.Err() == nil {
		switch st, _ := status.FromError(err); {
		case st.Code() == codes.Unimplemented:
			return fmt.Errorf("%s: %w", doing, fleet.ErrOldWorker)
		case st.Code() == codes.Unavailable && len(st.Details()) == 0:
			return fmt.Errorf("%s: %w: %s", doing, fleet.ErrWorkerLost, st.Message())
		}
	}
	return fromStatus(ctx, doing, err)
}
