package rpc

import (
	"time"

	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetpb"
)

// The messages of the hot path, Calls and FetchResult, are written by hand here and
// read by hand in wire_read.go. The bytes are those of the generated code, without
// its allocations and without copies of results. All other messages use the
// generated code. wire_test.go compares the two.

// codec is gRPC's proto codec plus the messages that are written by hand.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(grpcproto.Name)} }

// parts is an encoded message in pieces. Sending it passes on their ownership.
type parts mem.BufferSlice

func (p parts) size() int { return mem.BufferSlice(p).Len() }

func (p parts) free() { mem.BufferSlice(p).Free() }

// parser is a message that parses itself. It must not keep data.
type parser interface {
	parse(data mem.BufferSlice) error
}

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if p, ok := v.(parts); ok {
		return mem.BufferSlice(p), nil
	}
	return c.CodecV2.Marshal(v)
}

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if p, ok := v.(parser); ok {
		return p.parse(data)
	}
	return c.CodecV2.Unmarshal(data, v)
}

// Field numbers of worker.proto.
const (
	fieldCommands, fieldCommandCall, fieldCommandCancel                                       = 1, 1, 2
	fieldCallID, fieldCallReplica, fieldCallMethod, fieldCallParams                           = 1, 2, 3, 4
	fieldCallRequestID, fieldCallTraceparent, fieldCallNotifications, fieldCallNoMeta         = 5, 6, 7, 8
	fieldCallStream, fieldCallOwner, fieldCallWindow, fieldCallKeep                           = 9, 10, 11, 12
	fieldCallAsk, fieldCallLogs, fieldCallTimeout, fieldCallLimit                             = 13, 14, 15, 16
	fieldCancelID, fieldCancelTimeout                                                         = 1, 2
	fieldEvents, fieldEventID, fieldEventReply, fieldEventProgress                            = 1, 1, 2, 3
	fieldEventReleased, fieldEventOngoing, fieldEventHolding, fieldEventNotification          = 4, 5, 6, 7
	fieldEventSeq, fieldEventRequest, fieldEventResumed                                       = 8, 9, 10
	fieldNotificationMethod, fieldNotificationParams                                          = 1, 2
	fieldRequestID, fieldRequestMethod, fieldRequestParams                                    = 1, 2, 3
	fieldReplyResult, fieldReplyError, fieldReplyFailure, fieldReplyLarge, fieldFetchResponse = 1, 2, 3, 4, 1
)

// encodeCall returns a command, which is one or two pieces of a CallsRequest:
// commands one after the other are one message. Long params are not copied.
func encodeCall(id uint64, r *fleet.CallRequest) parts {
	notifications, noMeta := toVarint(r.Notifications), toVarint(r.NoMeta)
	requestID, traceparent := text(r.Trace.RequestID), text(r.Trace.Traceparent)
	call := sizeVarint(fieldCallID, id) + sizeBytes(fieldCallReplica, len(r.Replica)) + sizeBytes(fieldCallMethod, len(r.Method)) +
		sizeBytes(fieldCallParams, len(r.Params)) + sizeBytes(fieldCallRequestID, len(requestID)) +
		sizeBytes(fieldCallTraceparent, len(traceparent)) + sizeVarint(fieldCallNotifications, notifications) +
		sizeVarint(fieldCallNoMeta, noMeta)
	var more []byte // of few calls
	if r.Stream.ID != "" || r.Logs {
		more = appendStream(nil, r)
		call += len(more)
	}
	command := protowire.SizeTag(fieldCommandCall) + protowire.SizeBytes(call)
	size := protowire.SizeTag(fieldCommands) + protowire.SizeBytes(command)

	copied := len(r.Params) < keepFrom
	if !copied {
		size -= len(r.Params)
	}
	buf := buffers.Get(size)
	b := (*buf)[:0]
	b = appendHead(b, fieldCommands, command)
	b = appendHead(b, fieldCommandCall, call)
	b = appendVarint(b, fieldCallID, id)
	b = appendString(b, fieldCallReplica, string(r.Replica))
	b = appendString(b, fieldCallMethod, r.Method)
	b = appendString(b, fieldCallRequestID, requestID)
	b = appendString(b, fieldCallTraceparent, traceparent)
	b = appendVarint(b, fieldCallNotifications, notifications)
	b = appendVarint(b, fieldCallNoMeta, noMeta)
	b = append(b, more...)
	if len(r.Params) > 0 {
		b = appendHead(b, fieldCallParams, len(r.Params))
	}
	if copied {
		*buf = append(b, r.Params...)
		return parts{mem.NewBuffer(buf, &buffers)}
	}
	*buf = b
	return parts{mem.NewBuffer(buf, &buffers), mem.SliceBuffer(r.Params)}
}

// appendStream appends the fields of a call that concern its stream.
func appendStream(b []byte, r *fleet.CallRequest) []byte {
	b = appendString(b, fieldCallStream, text(string(r.Stream.ID)))
	b = appendString(b, fieldCallOwner, text(r.Stream.Owner))
	b = appendVarint(b, fieldCallWindow, milliseconds(r.Stream.Window))
	b = appendVarint(b, fieldCallKeep, toVarint(r.Stream.Keep))
	b = appendVarint(b, fieldCallAsk, toVarint(r.Ask))
	b = appendVarint(b, fieldCallLogs, toVarint(r.Logs))
	b = appendVarint(b, fieldCallTimeout, milliseconds(r.Timeout))
	return appendVarint(b, fieldCallLimit, milliseconds(r.Limit))
}

// milliseconds rounds up, since 0 means something else.
func milliseconds(d time.Duration) uint64 {
	return uint64(max(0, (d+time.Millisecond-1)/time.Millisecond))
}

func encodeCancel(id uint64, timeout bool) parts {
	var inner [24]byte
	cancel := appendVarint(inner[:0], fieldCancelID, id)
	if timeout {
		cancel = appendVarint(cancel, fieldCancelTimeout, 1)
	}
	command := protowire.SizeTag(fieldCommandCancel) + protowire.SizeBytes(len(cancel))
	b := appendHead(make([]byte, 0, 32), fieldCommands, command)
	return parts{mem.SliceBuffer(append(appendHead(b, fieldCommandCancel, len(cancel)), cancel...))}
}

// appendEvent appends an event to a CallsResponse's pieces. The bytes of a
// result, and of a notification's params, are not copied. large, if set, is sent
// in place of the event's result.
func appendEvent(p parts, id uint64, e *fleet.CallEvent, large *fleetpb.Large) parts {
	// The event's message is head, followed by body as its last field, if any.
	field, head, body := protowire.Number(fieldEventReleased), []byte(nil), []byte(nil)
	bodyField := protowire.Number(0)
	switch {
	case e.Kind == fleet.CallProgress:
		field = fieldEventProgress
	case e.Kind == fleet.CallNotification:
		field, bodyField, body = fieldEventNotification, fieldNotificationParams, e.Params
		head = appendString(nil, fieldNotificationMethod, text(e.Method))
	case e.Kind == fleet.CallAsk:
		field, bodyField, body = fieldEventRequest, fieldRequestParams, e.Params
		head = appendString(append(appendHead(nil, fieldRequestID, len(e.ID)), e.ID...), fieldRequestMethod, text(e.Method))
	case e.Kind == fleet.CallResumed:
		field = fieldEventResumed
	case e.Kind == fleet.CallReleased:
	case large != nil:
		field, head = fieldEventReply, mustMarshal(&fleetpb.Reply{Outcome: &fleetpb.Reply_Large{Large: large}})
	case e.Err != nil:
		field, head = fieldEventReply, mustMarshal(&fleetpb.Reply{Outcome: &fleetpb.Reply_Failure{Failure: toFailure(e.Err)}})
	case e.Error != nil:
		field, bodyField, body = fieldEventReply, fieldReplyError, e.Error
	default:
		field, bodyField, body = fieldEventReply, fieldReplyResult, e.Result
	}
	msg := len(head)
	if bodyField != 0 {
		msg += protowire.SizeTag(bodyField) + protowire.SizeBytes(len(body))
	}
	event := sizeVarint(fieldEventID, id) + sizeVarint(fieldEventOngoing, uint64(e.Ongoing)) +
		protowire.SizeTag(field) + protowire.SizeBytes(msg)
	if e.Holding {
		event += sizeVarint(fieldEventHolding, 1)
	}
	event += sizeVarint(fieldEventSeq, e.Seq)
	b := make([]byte, 0, 48+len(head))
	b = appendHead(b, fieldEvents, event)
	b = appendVarint(b, fieldEventID, id)
	b = appendVarint(b, fieldEventOngoing, uint64(e.Ongoing))
	if e.Holding {
		b = appendVarint(b, fieldEventHolding, 1)
	}
	b = appendVarint(b, fieldEventSeq, e.Seq)
	b = append(appendHead(b, field, msg), head...)
	if bodyField == 0 {
		return append(p, mem.SliceBuffer(b))
	}
	b = appendHead(b, bodyField, len(body))
	return append(p, mem.SliceBuffer(b), mem.SliceBuffer(body))
}

// encodeChunk returns a FetchResultResponse around b, which is not copied.
func encodeChunk(b []byte) parts {
	return parts{mem.SliceBuffer(appendHead(make([]byte, 0, 8), fieldFetchResponse, len(b))), mem.SliceBuffer(b)}
}

func appendHead(b []byte, f protowire.Number, size int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, f, protowire.BytesType), uint64(size))
}

func toVarint(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

func appendVarint(b []byte, f protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, f, protowire.VarintType), v)
}

func appendString(b []byte, f protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return append(appendHead(b, f, len(s)), s...)
}

func sizeVarint(f protowire.Number, v uint64) int {
	if v == 0 {
		return 0
	}
	return protowire.SizeTag(f) + protowire.SizeVarint(v)
}

func sizeBytes(f protowire.Number, n int) int {
	if n == 0 {
		return 0
	}
	return protowire.SizeTag(f) + protowire.SizeBytes(n)
}

// mustMarshal encodes a message that cannot fail to encode, since its text is valid
// UTF-8.
func mustMarshal(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic("rpc: " + err.Error())
	}
	return b
}
