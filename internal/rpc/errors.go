package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetpb"
)

// sentinels is the one table of errors that cross the wire: as an ErrorInfo
// detail of a gRPC status, and as a FailureKind in the reply to a call. An
// error is carried as all the sentinels that it is, and its text.
var sentinels = []struct {
	err    error
	reason string // of ErrorInfo
	code   codes.Code
	kind   fleetpb.FailureKind
}{
	{fleet.ErrStaleEpoch, "STALE_EPOCH", codes.FailedPrecondition, 0},
	{fleet.ErrForeignCluster, "FOREIGN_CLUSTER", codes.PermissionDenied, 0},
	{fleet.ErrUnknownReplica, "UNKNOWN_REPLICA", codes.NotFound, fleetpb.FailureKind_FAILURE_KIND_UNKNOWN_REPLICA},
	{fleet.ErrDraining, "DRAINING", codes.Unavailable, fleetpb.FailureKind_FAILURE_KIND_DRAINING},
	{fleet.ErrNotRecorded, "NOT_RECORDED", codes.FailedPrecondition, 0},
	{fleet.ErrNotDelivered, "NOT_DELIVERED", codes.Unavailable, fleetpb.FailureKind_FAILURE_KIND_NOT_DELIVERED},
	{fleet.ErrReplicaLost, "REPLICA_LOST", codes.Unavailable, fleetpb.FailureKind_FAILURE_KIND_REPLICA_LOST},
	{fleet.ErrBadReply, "BAD_REPLY", codes.Internal, fleetpb.FailureKind_FAILURE_KIND_BAD_REPLY},
	{fleet.ErrReplyTooLarge, "REPLY_TOO_LARGE", codes.ResourceExhausted, fleetpb.FailureKind_FAILURE_KIND_REPLY_TOO_LARGE},
	{fleet.ErrOverloaded, "OVERLOADED", codes.ResourceExhausted, fleetpb.FailureKind_FAILURE_KIND_OVERLOADED},
	{fleet.ErrTimeout, "TIMEOUT", codes.DeadlineExceeded, fleetpb.FailureKind_FAILURE_KIND_TIMEOUT},
	{context.Canceled, "CANCELLED", codes.Canceled, fleetpb.FailureKind_FAILURE_KIND_CANCELLED},
}

const errorDomain = "mcpfleet"

// remoteError is an error that came over the wire: the text it had there, and
// the sentinels it was.
type remoteError struct {
	text string
	is   []error
}

func (e *remoteError) Error() string   { return e.text }
func (e *remoteError) Unwrap() []error { return e.is }

// toStatus makes an error of the worker a gRPC status.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err // gRPC's own, from a stream
	}
	code := codes.Unknown
	var st *status.Status
	for _, s := range sentinels {
		if !errors.Is(err, s.err) {
			continue
		}
		if st == nil {
			code = s.code
			st = status.New(code, validText(err))
		}
		if with, derr := st.WithDetails(&errdetails.ErrorInfo{Reason: s.reason, Domain: errorDomain}); derr == nil {
			st = with
		}
	}
	if st == nil {
		st = status.New(code, validText(err))
	}
	return st.Err()
}

// fromStatus is the other direction; doing says what was attempted and with
// whom. An error that is only ctx's end is returned as ctx's cause.
func fromStatus(ctx context.Context, doing string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", doing, context.Cause(ctx))
	}
	st, ok := status.FromError(err)
	if !ok {
		return fmt.Errorf("%s: %w", doing, err)
	}
	e := &remoteError{text: st.Message()}
	for _, d := range st.Details() {
		info, ok := d.(*errdetails.ErrorInfo)
		if !ok || info.Domain != errorDomain {
			continue
		}
		for _, s := range sentinels {
			if s.reason == info.Reason {
				e.is = append(e.is, s.err)
			}
		}
	}
	return fmt.Errorf("%s: %w", doing, e)
}

// toFailure makes the error of a call a part of its reply.
func toFailure(err error) *fleetpb.Failure {
	f := &fleetpb.Failure{Detail: validText(err)}
	for _, s := range sentinels {
		if s.kind != 0 && errors.Is(err, s.err) {
			f.Kinds = append(f.Kinds, s.kind)
		}
	}
	return f
}

// fromFailure is the other direction. A failure that says nothing known is a
// lost replica: whether the tool ran is unknown then too.
func fromFailure(f *fleetpb.Failure) error {
	e := &remoteError{text: f.GetDetail()}
	for _, k := range f.GetKinds() {
		for _, s := range sentinels {
			if s.kind != 0 && s.kind == k {
				e.is = append(e.is, s.err)
			}
		}
	}
	if e.is == nil {
		return fmt.Errorf("%w: %s", fleet.ErrReplicaLost, e.text)
	}
	return e
}

// validText is the error's text, as UTF-8: strings of protobuf must be, and
// errors may quote what a server wrote.
func validText(err error) string { return strings.ToValidUTF8(err.Error(), "\uFFFD") }
