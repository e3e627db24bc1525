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

// sentinels is the table of errors that cross the wire: as an ErrorInfo detail of a
// gRPC status, and as a FailureKind in the reply to a call. An error is sent as its
// text and all sentinels that it matches.
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
	{fleet.ErrUnknownStream, "UNKNOWN_STREAM", codes.NotFound, 0},
	{fleet.ErrNotAsked, "NOT_ASKED", codes.NotFound, 0},
	{fleet.ErrClaimed, "CLAIMED", codes.FailedPrecondition, 0},
	{fleet.ErrStreamTaken, "STREAM_TAKEN", codes.Aborted, fleetpb.FailureKind_FAILURE_KIND_STREAM_TAKEN},
	{fleet.ErrBadReply, "BAD_REPLY", codes.Internal, fleetpb.FailureKind_FAILURE_KIND_BAD_REPLY},
	{fleet.ErrReplyTooLarge, "REPLY_TOO_LARGE", codes.ResourceExhausted, fleetpb.FailureKind_FAILURE_KIND_REPLY_TOO_LARGE},
	{fleet.ErrNotLeader, "NOT_LEADER", codes.FailedPrecondition, 0},
	{fleet.ErrNoReplica, "NO_REPLICA", codes.Unavailable, 0},
	{fleet.ErrSessionLost, "SESSION_LOST", codes.NotFound, 0},
	{fleet.ErrUnknownServer, "UNKNOWN_SERVER", codes.NotFound, 0},
	{fleet.ErrConflict, "CONFLICT", codes.FailedPrecondition, 0},
	{fleet.ErrOverloaded, "OVERLOADED", codes.ResourceExhausted, fleetpb.FailureKind_FAILURE_KIND_OVERLOADED},
	{fleet.ErrTimeout, "TIMEOUT", codes.DeadlineExceeded, fleetpb.FailureKind_FAILURE_KIND_TIMEOUT},
	{context.Canceled, "CANCELLED", codes.Canceled, fleetpb.FailureKind_FAILURE_KIND_CANCELLED},
}

const errorDomain = "mcpfleet"

// remoteError is an error that came over the wire, with its text and the sentinels
// that it matched.
type remoteError struct {
	text string
	is   []error
}

func (e *remoteError) Error() string   { return e.text }
func (e *remoteError) Unwrap() []error { return e.is }

// toStatus converts an error of the worker to a gRPC status.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err // of gRPC itself, from a stream
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

// fromStatus is the reverse of toStatus. doing says what was attempted, and with
// which worker. If ctx has ended it returns the cause of that.
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

// toFailure converts the error of a call to a part of its reply.
func toFailure(err error) *fleetpb.Failure {
	f := &fleetpb.Failure{Detail: validText(err)}
	for _, s := range sentinels {
		if s.kind != 0 && errors.Is(err, s.err) {
			f.Kinds = append(f.Kinds, s.kind)
		}
	}
	return f
}

// fromFailure is the reverse of toFailure. A failure without a known kind counts as
// a lost replica, since it is unknown, too, whether the tool ran.
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

// validText returns the error's text as valid UTF-8, which protobuf demands. Errors
// may quote what a server wrote.
func validText(err error) string { return strings.ToValidUTF8(err.Error(), "\uFFFD") }
