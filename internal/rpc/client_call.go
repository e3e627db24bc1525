package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetpb"
)

// Call sends a call to a replica and waits until the call or ctx ends. If ctx ends
// it returns the cause at once. The worker is told that the deadline passed if
// the cause is ErrTimeout, else that the client went away.
//
// A call that fails with ErrNotDelivered certainly reached no replica. With
// ErrReplicaLost that is unknown; the error is also ErrWorkerLost unless the worker
// reported that the replica died.
func (c *Client) Call(ctx context.Context, req fleet.CallRequest, hooks fleet.CallHooks) (fleet.CallResult, error) {
	c.calls.Add(1)
	defer c.calls.Add(-1)
	p := c.waiting.Get().(*pending)
	p.id, p.hooks = c.lastID.Add(1), hooks
	req.Notifications = hooks.Notification != nil || hooks.Message != nil
	if hooks.Sent != nil && ctx.Err() == nil {
		hooks.Sent(c.life)
	}
	s, err := c.submit(ctx, p, &req)
	if err != nil {
		if hooks.Released != nil {
			hooks.Released(-1)
		}
		return fleet.CallResult{}, err
	}
	id := p.id
	select {
	case out := <-p.done:
		return c.conclude(ctx, s, p, id, out)
	case <-ctx.Done():
	}
	cause := endOf(ctx)
	if !s.abandon(p, errors.Is(cause, fleet.ErrTimeout)) {
		return fleet.CallResult{}, cause
	}
	out := <-p.done // the answer came first
	if out.large == nil {
		return c.conclude(ctx, s, p, id, out)
	}
	s.discard(id)
	s.callOver()
	return fleet.CallResult{}, cause
}

// submit puts the call on a stream. It fails with ErrNotDelivered, or with the
// cause of ctx's end.
func (c *Client) submit(ctx context.Context, p *pending, req *fleet.CallRequest) (s *callStream, err error) {
	if ctx.Err() != nil {
		return nil, endOf(ctx)
	}
	large := len(req.Params) > largeBytes
	p.buf = encodeCall(p.id, req)
	for range 2 { // a lane's stream may break meanwhile
		if large {
			s, err = c.ownStream()
		} else {
			s, err = c.stream(p.buf.size())
		}
		if err != nil {
			break
		}
		if s.submit(p, c.calls.Load() >= crowd) {
			return s, nil
		}
	}
	p.buf.free()
	p.buf = nil
	if err == nil {
		err = errors.New("the stream to worker " + c.addr + " broke")
	}
	return nil, fmt.Errorf("%w: %w", fleet.ErrNotDelivered, err)
}

// conclude turns the outcome into a result.
func (c *Client) conclude(ctx context.Context, s *callStream, p *pending, id uint64, out outcome) (fleet.CallResult, error) {
	if out.reusable {
		*p = pending{done: p.done}
		c.waiting.Put(p)
	}
	if out.large != nil {
		res, err := c.fetch(ctx, out.large)
		if err != nil {
			s.discard(id)
		}
		s.callOver()
		if err != nil {
			return fleet.CallResult{}, fmt.Errorf("fetch the result: %w", err)
		}
		res.Seq = out.seq
		return res, nil
	}
	err := out.err
	if err == nil && out.failure != nil {
		err = fromFailure(out.failure)
	}
	if err != nil {
		return fleet.CallResult{}, err
	}
	return fleet.CallResult{Result: out.result, Error: out.errObj, Seq: out.seq}, nil
}

// endOf returns the cause of ctx's end as ErrTimeout for a deadline, and as
// context.Canceled for everything else.
func endOf(ctx context.Context) error {
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, fleet.ErrTimeout), errors.Is(cause, context.Canceled):
		return cause
	case errors.Is(cause, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", fleet.ErrTimeout, cause)
	default:
		return fmt.Errorf("%w: %w", context.Canceled, cause)
	}
}

// fetch begins to read a large result. ctx bounds only the beginning. A result that
// fits the stream's window is read to its end: nobody has seen any of it yet, so
// if it is lost the call can still be repeated.
func (c *Client) fetch(ctx context.Context, l *fleetpb.Large) (fleet.CallResult, error) {
	fctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	r := &resultReader{
		forget: func(r *resultReader) { c.forget(r) }, cancel: cancel, left: l.GetSize(),
		cause: func() error { return context.Cause(fctx) },
	}
	if !c.register(r) {
		cancel(nil)
		return fleet.CallResult{}, fmt.Errorf("%w: %w", fleet.ErrWorkerLost, errClosed)
	}
	unbind := context.AfterFunc(ctx, func() { r.end(endOf(ctx)) })
	var err error
	if r.stream, err = c.pb.FetchResult(fctx, &fleetpb.FetchResultRequest{Token: l.GetToken()}); err == nil {
		err = r.next()
	}
	if err == nil && l.GetSize() <= streamWindow {
		err = r.readAhead()
	}
	if err == nil && !l.GetError() {
		if unbind() {
			return fleet.CallResult{Stream: r, StreamSize: l.GetSize()}, nil
		}
		err = endOf(ctx)
	}
	defer r.Close()
	var b []byte
	if err == nil { // an error object: rarely large, and needed whole
		b, err = io.ReadAll(r)
	}
	unbind()
	switch {
	case ctx.Err() != nil:
		return fleet.CallResult{}, endOf(ctx)
	case err != nil:
		return fleet.CallResult{}, r.lost(err)
	}
	return fleet.CallResult{Error: b}, nil
}

// resultReader reads a FetchResult stream. Close may be called while another
// goroutine reads.
type resultReader struct {
	forget func(*resultReader)
	cancel context.CancelCauseFunc
	cause  func() error // why the fetch was cancelled, if it was
	stream grpc.ClientStream
	chunk  chunk
	ahead  []chunk // the chunks after it that were read ahead
	left   int64
}

// Read implements io.Reader.
func (r *resultReader) Read(b []byte) (int, error) {
	for r.chunk.remaining() == 0 {
		if r.left == 0 {
			r.Close()
			return 0, io.EOF
		}
		if err := r.next(); err != nil {
			r.Close()
			return 0, r.lost(err)
		}
	}
	if len(b) == 0 {
		return 0, nil
	}
	n, err := r.chunk.r.Read(b)
	r.left -= int64(n)
	return n, err
}

// next goes to the next chunk.
func (r *resultReader) next() error {
	if len(r.ahead) > 0 {
		r.chunk.close()
		r.chunk, r.ahead = r.ahead[0], r.ahead[1:]
		return nil
	}
	return r.receive(&r.chunk)
}

// readAhead receives all that is left.
func (r *resultReader) readAhead() error {
	for got := int64(r.chunk.remaining()); got < r.left; {
		var c chunk
		if err := r.receive(&c); err != nil {
			return err
		}
		r.ahead = append(r.ahead, c)
		got += int64(c.remaining())
	}
	return nil
}

func (r *resultReader) receive(c *chunk) error {
	err := r.stream.RecvMsg(c)
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// lost returns the ErrWorkerLost of a fetch that broke off.
func (r *resultReader) lost(err error) error {
	if cause := r.cause(); cause != nil {
		err = cause
	}
	return fmt.Errorf("%w: its result was cut off: %s", fleet.ErrWorkerLost, err.Error())
}

func (r *resultReader) end(cause error) { r.cancel(cause) }

// Close ends the fetch. The rest of the result is dropped.
func (r *resultReader) Close() error {
	r.cancel(errors.New("the reader of the result was closed"))
	r.forget(r)
	return nil
}
