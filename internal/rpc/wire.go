package rpc

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetpb"
)

// The messages of the hot path, Calls and FetchResult, are written and read
// here by hand: the same bytes as the generated code's, without its
// allocations and without copying results. Everything else goes through the
// generated code. wire_test.go holds the two against each other.

// codec is gRPC's proto codec, plus the types of this file.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(grpcproto.Name)} }

// parts is an encoded message in pieces. Sending it gives the pieces away.
type parts mem.BufferSlice

// parser is a message that reads itself. data is only lent.
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

// Field numbers of worker.proto, for this file only.
const (
	fieldCommands, fieldCommandCall, fieldCommandCancel                                       = 1, 1, 2
	fieldCallID, fieldCallReplica, fieldCallMethod, fieldCallParams                           = 1, 2, 3, 4
	fieldCallRequestID, fieldCallTraceparent                                                  = 5, 6
	fieldCancelID, fieldCancelTimeout                                                         = 1, 2
	fieldEvents, fieldEventID, fieldEventReply, fieldEventProgress                            = 1, 1, 2, 3
	fieldEventReleased, fieldEventOngoing, fieldEventHolding                                  = 4, 5, 6
	fieldReplyResult, fieldReplyError, fieldReplyFailure, fieldReplyLarge, fieldFetchResponse = 1, 2, 3, 4, 1
)

const methodToolsCall = "tools/call" // read without an allocation

// encodeCall returns a command that is a piece of a CallsRequest: pieces one
// after the other are one message.
func encodeCall(id uint64, r *fleet.CallRequest) mem.Buffer {
	requestID, traceparent := text(r.RequestID), text(r.Traceparent)
	call := sizeVarint(fieldCallID, id) + sizeBytes(fieldCallReplica, len(r.Replica)) + sizeBytes(fieldCallMethod, len(r.Method)) +
		sizeBytes(fieldCallParams, len(r.Params)) + sizeBytes(fieldCallRequestID, len(requestID)) +
		sizeBytes(fieldCallTraceparent, len(traceparent))
	command := protowire.SizeTag(fieldCommandCall) + protowire.SizeBytes(call)
	size := protowire.SizeTag(fieldCommands) + protowire.SizeBytes(command)

	pool := mem.DefaultBufferPool()
	buf := pool.Get(size)
	b := (*buf)[:0]
	b = appendHead(b, fieldCommands, command)
	b = appendHead(b, fieldCommandCall, call)
	b = appendVarint(b, fieldCallID, id)
	b = appendString(b, fieldCallReplica, string(r.Replica))
	b = appendString(b, fieldCallMethod, r.Method)
	b = appendString(b, fieldCallRequestID, requestID)
	b = appendString(b, fieldCallTraceparent, traceparent)
	if len(r.Params) > 0 {
		b = append(appendHead(b, fieldCallParams, len(r.Params)), r.Params...)
	}
	*buf = b
	return mem.NewBuffer(buf, pool)
}

func encodeCancel(id uint64, timeout bool) mem.Buffer {
	var inner [24]byte
	cancel := appendVarint(inner[:0], fieldCancelID, id)
	if timeout {
		cancel = appendVarint(cancel, fieldCancelTimeout, 1)
	}
	command := protowire.SizeTag(fieldCommandCancel) + protowire.SizeBytes(len(cancel))
	b := appendHead(make([]byte, 0, 32), fieldCommands, command)
	return mem.SliceBuffer(append(appendHead(b, fieldCommandCancel, len(cancel)), cancel...))
}

// appendEvent appends an event to a CallsResponse's pieces. The bytes of a
// result are not copied. large, if set, stands for the event's result.
func appendEvent(p parts, id uint64, e *fleet.CallEvent, large *fleetpb.Large) parts {
	field, reply, body := protowire.Number(fieldEventReleased), []byte(nil), []byte(nil)
	bodyField := protowire.Number(0)
	switch {
	case e.Kind == fleet.CallProgress:
		field = fieldEventProgress
	case e.Kind == fleet.CallReleased:
	case large != nil:
		field, reply = fieldEventReply, mustMarshal(&fleetpb.Reply{Outcome: &fleetpb.Reply_Large{Large: large}})
	case e.Err != nil:
		field, reply = fieldEventReply, mustMarshal(&fleetpb.Reply{Outcome: &fleetpb.Reply_Failure{Failure: toFailure(e.Err)}})
	case e.Error != nil:
		field, bodyField, body = fieldEventReply, fieldReplyError, e.Error
	default:
		field, bodyField, body = fieldEventReply, fieldReplyResult, e.Result
	}
	msg := len(reply)
	if bodyField != 0 {
		msg = protowire.SizeTag(bodyField) + protowire.SizeBytes(len(body))
	}
	event := sizeVarint(fieldEventID, id) + sizeVarint(fieldEventOngoing, uint64(e.Ongoing)) +
		protowire.SizeTag(field) + protowire.SizeBytes(msg)
	if e.Holding {
		event += sizeVarint(fieldEventHolding, 1)
	}
	b := make([]byte, 0, 48+len(reply))
	b = appendHead(b, fieldEvents, event)
	b = appendVarint(b, fieldEventID, id)
	b = appendVarint(b, fieldEventOngoing, uint64(e.Ongoing))
	if e.Holding {
		b = appendVarint(b, fieldEventHolding, 1)
	}
	b = append(appendHead(b, field, msg), reply...)
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

// command is a call or, when cancel is set, the end of one.
type command struct {
	id              uint64
	cancel, timeout bool
	req             fleet.CallRequest
}

// commands is a CallsRequest. It is read into again and again; what was read
// stays valid.
type commands []command

func (cs *commands) parse(data mem.BufferSlice) error {
	*cs = (*cs)[:0]
	return eachField(data, func(c *cursor) {
		if c.num != fieldCommands {
			return
		}
		var cmd command
		c.inside(func(c *cursor) {
			switch c.num {
			case fieldCommandCall:
				c.inside(cmd.call)
			case fieldCommandCancel:
				cmd.cancel = true
				c.inside(cmd.end)
			}
		})
		*cs = append(*cs, cmd)
	})
}

func (m *command) call(c *cursor) {
	switch c.num {
	case fieldCallID:
		m.id = c.varint
	case fieldCallReplica:
		m.req.Replica = fleet.ReplicaID(c.bytes)
	case fieldCallMethod:
		if m.req.Method = methodToolsCall; string(c.bytes) != methodToolsCall {
			m.req.Method = string(c.bytes)
		}
	case fieldCallParams:
		m.req.Params = bytes.Clone(c.bytes)
	case fieldCallRequestID:
		m.req.RequestID = string(c.bytes)
	case fieldCallTraceparent:
		m.req.Traceparent = string(c.bytes)
	}
}

func (m *command) end(c *cursor) {
	switch c.num {
	case fieldCancelID:
		m.id = c.varint
	case fieldCancelTimeout:
		m.timeout = c.varint != 0
	}
}

// event is a fleet.CallEvent of the call with this id.
type event struct {
	id      uint64
	kind    fleet.CallEventKind
	ongoing int
	holding bool
	result  []byte
	errObj  []byte
	failure *fleetpb.Failure
	large   *fleetpb.Large
}

// events is a CallsResponse, as commands is a CallsRequest.
type events []event

func (es *events) parse(data mem.BufferSlice) error {
	*es = (*es)[:0]
	var bad error
	err := eachField(data, func(c *cursor) {
		if c.num != fieldEvents {
			return
		}
		var e event
		c.inside(func(c *cursor) {
			switch c.num {
			case fieldEventID:
				e.id = c.varint
			case fieldEventOngoing:
				e.ongoing = int(int64(c.varint))
			case fieldEventHolding:
				e.holding = c.varint != 0
			case fieldEventProgress:
				e.kind = fleet.CallProgress
			case fieldEventReleased:
				e.kind = fleet.CallReleased
			case fieldEventReply:
				e.kind = fleet.CallReply
				c.inside(func(c *cursor) { bad = errors.Join(bad, e.reply(c)) })
			}
		})
		*es = append(*es, e)
	})
	return errors.Join(err, bad)
}

func (e *event) reply(c *cursor) error {
	switch c.num {
	case fieldReplyResult:
		e.result = append(make([]byte, 0, len(c.bytes)), c.bytes...)
	case fieldReplyError:
		e.errObj = append(make([]byte, 0, len(c.bytes)), c.bytes...)
	case fieldReplyFailure:
		e.failure = new(fleetpb.Failure)
		return proto.Unmarshal(c.bytes, e.failure)
	case fieldReplyLarge:
		e.large = new(fleetpb.Large)
		return proto.Unmarshal(c.bytes, e.large)
	}
	return nil
}

// chunk is a FetchResultResponse that keeps gRPC's own buffers until it is
// read to its end or read into again.
type chunk struct{ r *mem.Reader }

func (ch *chunk) parse(data mem.BufferSlice) error {
	ch.close()
	r := data.Reader()
	if tag, err := r.ReadByte(); err == nil && tag == fieldFetchResponse<<3|byte(protowire.BytesType) {
		if n, err := readUvarint(r); err == nil && n == uint64(r.Remaining()) {
			ch.r = r
			return nil
		}
	}
	r.Close()
	return eachField(data, func(c *cursor) { // with fields that we do not know
		if c.num == fieldFetchResponse {
			ch.r = mem.BufferSlice{mem.SliceBuffer(bytes.Clone(c.bytes))}.Reader()
		}
	})
}

func (ch *chunk) remaining() int {
	if ch.r == nil {
		return 0
	}
	return ch.r.Remaining()
}

func (ch *chunk) close() {
	if ch.r != nil {
		ch.r.Close()
		ch.r = nil
	}
}

func readUvarint(r io.ByteReader) (uint64, error) {
	var v uint64
	for shift := 0; shift < 64; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v, nil
		}
	}
	return 0, errors.New("varint is too long")
}

// cursor walks over the fields of one encoded message. Of each field it has
// the number, and the varint or the bytes, which are only lent.
type cursor struct {
	num    protowire.Number
	varint uint64
	bytes  []byte
	err    *error
}

func eachField(data mem.BufferSlice, visit func(*cursor)) error {
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buf.Free()
	var err error
	walk(buf.ReadOnlyData(), &err, visit)
	return err
}

// inside visits the fields of the message that is this field.
func (c *cursor) inside(visit func(*cursor)) { walk(c.bytes, c.err, visit) }

func walk(b []byte, err *error, visit func(*cursor)) {
	c := cursor{err: err}
	for len(b) > 0 && *err == nil {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			*err = fmt.Errorf("malformed message: %w", protowire.ParseError(n))
			return
		}
		b = b[n:]
		c.num, c.varint, c.bytes = num, 0, nil
		switch typ {
		case protowire.VarintType:
			c.varint, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			c.bytes, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
			c.num = 0 // no field of ours has another type
		}
		if n < 0 {
			*err = fmt.Errorf("malformed message: %w", protowire.ParseError(n))
			return
		}
		b = b[n:]
		visit(&c)
	}
}

func appendHead(b []byte, f protowire.Number, size int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, f, protowire.BytesType), uint64(size))
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

// mustMarshal encodes what cannot fail to encode: its text is valid UTF-8.
func mustMarshal(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic("rpc: " + err.Error())
	}
	return b
}
