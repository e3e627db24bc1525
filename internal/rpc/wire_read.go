package rpc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetpb"
)

const methodToolsCall = "tools/call" // parsed without an allocation

// command starts a call or, if cancel is set, cancels one.
type command struct {
	id              uint64
	cancel, timeout bool
	req             fleet.CallRequest
}

// commands is a CallsRequest. It is reused for the next message. The requests in it
// stay valid.
type commands []command

func (cs *commands) parse(data mem.BufferSlice) error {
	*cs = (*cs)[:0]
	m := read(data)
	defer m.free()
	for c := m.fields(); c.next(&m); {
		if c.num != fieldCommands {
			continue
		}
		var cmd command
		for c := c.inside(); c.next(&m); {
			switch c.num {
			case fieldCommandCall:
				cmd.call(&m, c.inside())
			case fieldCommandCancel:
				cmd.end(&m, c.inside())
			}
		}
		*cs = append(*cs, cmd)
	}
	return m.err
}

func (cmd *command) call(m *message, c cursor) {
	for c.next(m) {
		switch c.num {
		case fieldCallID:
			cmd.id = c.varint
		case fieldCallReplica:
			cmd.req.Replica = fleet.ReplicaID(c.bytes)
		case fieldCallMethod:
			if cmd.req.Method = methodToolsCall; string(c.bytes) != methodToolsCall {
				cmd.req.Method = string(c.bytes)
			}
		case fieldCallParams:
			cmd.req.Params = m.keep(c.bytes)
		case fieldCallRequestID:
			cmd.req.Trace.RequestID = string(c.bytes)
		case fieldCallTraceparent:
			cmd.req.Trace.Traceparent = string(c.bytes)
		case fieldCallNotifications:
			cmd.req.Notifications = c.varint != 0
		case fieldCallNoMeta:
			cmd.req.NoMeta = c.varint != 0
		case fieldCallStream:
			cmd.req.Stream.ID = fleet.StreamID(c.bytes)
		case fieldCallOwner:
			cmd.req.Stream.Owner = string(c.bytes)
		case fieldCallWindow:
			cmd.req.Stream.Window = duration(c.varint)
		case fieldCallKeep:
			cmd.req.Stream.Keep = c.varint != 0
		case fieldCallAsk:
			cmd.req.Ask = c.varint != 0
		case fieldCallLogs:
			cmd.req.Logs = c.varint != 0
		case fieldCallTimeout:
			cmd.req.Timeout = duration(c.varint)
		case fieldCallLimit:
			cmd.req.Limit = duration(c.varint)
		}
	}
}

// duration returns so many milliseconds, a year at most.
func duration(ms uint64) time.Duration {
	const year = 365 * 24 * time.Hour
	return time.Duration(min(ms, uint64(year.Milliseconds()))) * time.Millisecond
}

func (cmd *command) end(m *message, c cursor) {
	cmd.cancel = true
	for c.next(m) {
		switch c.num {
		case fieldCancelID:
			cmd.id = c.varint
		case fieldCancelTimeout:
			cmd.timeout = c.varint != 0
		}
	}
}

// event is a fleet.CallEvent of the call with this id.
type event struct {
	id      uint64
	seq     uint64
	kind    fleet.CallEventKind
	ongoing int
	holding bool
	result  []byte
	errObj  []byte
	failure *fleetpb.Failure
	large   *fleetpb.Large
	note    *note
}

// note is a notification, or a request of the server, that belongs to a call.
type note struct {
	id     []byte // of a request
	method string
	params []byte
}

func (n *note) size() int { return len(n.method) + len(n.params) }

// events is a CallsResponse, as commands is a CallsRequest.
type events []event

func (es *events) parse(data mem.BufferSlice) error {
	*es = (*es)[:0]
	m := read(data)
	defer m.free()
	for c := m.fields(); c.next(&m); {
		if c.num != fieldEvents {
			continue
		}
		var e event
		for c := c.inside(); c.next(&m); {
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
			case fieldEventNotification:
				e.notification(&m, c.inside())
			case fieldEventSeq:
				e.seq = c.varint
			case fieldEventRequest:
				e.request(&m, c.inside())
			case fieldEventResumed:
				e.kind = fleet.CallResumed
			case fieldEventReply:
				e.reply(&m, c.inside())
			}
		}
		*es = append(*es, e)
	}
	return m.err
}

func (e *event) reply(m *message, c cursor) {
	e.kind = fleet.CallReply
	for c.next(m) {
		switch c.num {
		case fieldReplyResult:
			e.result = m.keep(c.bytes)
		case fieldReplyError:
			e.errObj = m.keep(c.bytes)
		case fieldReplyFailure:
			e.failure = new(fleetpb.Failure)
			m.fail(proto.Unmarshal(c.bytes, e.failure))
		case fieldReplyLarge:
			e.large = new(fleetpb.Large)
			m.fail(proto.Unmarshal(c.bytes, e.large))
		}
	}
}

func (e *event) notification(m *message, c cursor) {
	e.kind, e.note = fleet.CallNotification, new(note)
	for c.next(m) {
		switch c.num {
		case fieldNotificationMethod:
			e.note.method = string(c.bytes)
		case fieldNotificationParams:
			e.note.params = m.keep(c.bytes)
		}
	}
}

func (e *event) request(m *message, c cursor) {
	e.kind, e.note = fleet.CallAsk, new(note)
	for c.next(m) {
		switch c.num {
		case fieldRequestID:
			e.note.id = m.keep(c.bytes)
		case fieldRequestMethod:
			e.note.method = string(c.bytes)
		case fieldRequestParams:
			e.note.params = orNil(m.keep(c.bytes))
		}
	}
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
	m := read(data) // with fields that we do not know
	defer m.free()
	for c := m.fields(); c.next(&m); {
		if c.num == fieldFetchResponse {
			ch.r = mem.BufferSlice{mem.SliceBuffer(m.keep(c.bytes))}.Reader()
		}
	}
	return m.err
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

// message is an encoded message that is being read.
type message struct {
	buf   mem.Buffer // nil: the bytes are ours to keep
	bytes []byte
	err   error
}

// keepFrom is the size from which a message in several pieces, which has to be
// copied into one in any case, is copied so that it can be kept. It is almost
// always one field then.
const keepFrom = 32 << 10

func read(data mem.BufferSlice) message {
	if len(data) > 1 && data.Len() >= keepFrom {
		pieces := make([][]byte, len(data))
		for i, piece := range data {
			pieces[i] = piece.ReadOnlyData()
		}
		return message{bytes: bytes.Join(pieces, nil)} // unlike Materialize it clears nothing first
	}
	buf := data.MaterializeToBuffer(&buffers)
	return message{buf: buf, bytes: buf.ReadOnlyData()}
}

func (m *message) free() {
	if m.buf != nil {
		m.buf.Free()
	}
}

// keep returns bytes of the message that stay valid. They are never nil.
func (m *message) keep(b []byte) []byte {
	if m.buf == nil && len(b) > len(m.bytes)/2 {
		return b[:len(b):len(b)]
	}
	return append(make([]byte, 0, len(b)), b...)
}

func (m *message) fail(err error) {
	if err != nil && m.err == nil {
		m.err = fmt.Errorf("malformed message: %w", err)
	}
}

func (m *message) fields() cursor { return cursor{rest: m.bytes} }

// cursor iterates over the fields of one message inside the whole. For each field it
// has the number, and the varint or the bytes, which must not be kept.
type cursor struct {
	num    protowire.Number
	varint uint64
	bytes  []byte
	rest   []byte
}

// inside iterates over the fields of the message in this field.
func (c *cursor) inside() cursor { return cursor{rest: c.bytes} }

// next moves to the next field. It reports false at the end, and always once
// anything in m was malformed.
func (c *cursor) next(m *message) bool {
	if len(c.rest) == 0 || m.err != nil {
		return false
	}
	num, typ, n := protowire.ConsumeTag(c.rest)
	if n < 0 {
		m.fail(protowire.ParseError(n))
		return false
	}
	c.rest = c.rest[n:]
	c.num, c.varint, c.bytes = num, 0, nil
	switch typ {
	case protowire.VarintType:
		c.varint, n = protowire.ConsumeVarint(c.rest)
	case protowire.BytesType:
		c.bytes, n = protowire.ConsumeBytes(c.rest)
	default:
		n = protowire.ConsumeFieldValue(num, typ, c.rest)
		c.num = 0 // no field of ours has another type
	}
	if n < 0 {
		m.fail(protowire.ParseError(n))
		return false
	}
	c.rest = c.rest[n:]
	return true
}
