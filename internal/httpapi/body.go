package httpapi

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

const (
	// pooled bodies are read into buffers that are used again; those of
	// unusual size are left to the collector.
	pooled = 64 << 10
	// bodyPiece of a large body must come within bodyTimeout. No more than
	// that is allocated before it came: a header alone costs us nothing.
	bodyPiece   = 256 << 10
	bodyTimeout = 30 * time.Second
	// After a refusal this much of the body is still read, so that a client
	// that sends first and reads later gets to see it.
	maxDrain     = 64 << 20
	drainTimeout = 10 * time.Second
	drainIdle    = time.Second
)

var bodies = sync.Pool{New: func() any { return new([pooled]byte) }}

// body is a request's body, whole.
type body struct {
	bytes  []byte
	buffer *[pooled]byte // where the bytes are, if it is to be used again
}

// free gives the buffer back: nothing may refer to the bytes any more.
func (b *body) free() {
	if b.buffer != nil {
		bodies.Put(b.buffer)
		b.buffer, b.bytes = nil, nil
	}
}

// readBody reads the whole body, if it is no larger than a body may be and all
// of them together are not too large.
func (h *Handler) readBody(w *response, r *http.Request) (body, error) {
	size, limit := r.ContentLength, h.cfg.MaxBody
	if size > limit {
		return body{}, errTooLarge(limit)
	}
	buffer := bodies.Get().(*[pooled]byte)
	b, err := h.fill(w, r.Body, buffer[:0], size, limit)
	if err != nil {
		bodies.Put(buffer)
		return body{}, err
	}
	if len(b) > 0 && &b[0] != &buffer[0] {
		bodies.Put(buffer)
		return body{bytes: b}, nil
	}
	return body{bytes: b, buffer: buffer}, nil
}

// fill reads until the end into b, or into something larger. size is -1 when
// nobody has said how much will come. At the end net/http itself lifts the
// deadline, and reads on to see the client leave.
func (h *Handler) fill(w *response, r io.Reader, b []byte, size, limit int64) ([]byte, error) {
	due := bodyPiece
	for {
		if len(b) == cap(b) {
			room := roomFor(b, size, limit)
			if !h.hold(w, room) {
				return nil, errBusy
			}
			b = append(make([]byte, 0, room), b...)
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case int64(len(b)) > limit:
			return nil, errTooLarge(limit)
		case err == io.EOF:
			return b, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, errSlowBody
		case err != nil:
			return nil, errCutBody
		}
		if len(b) >= due {
			due = len(b) + bodyPiece
			setReadDeadline(w, time.Now().Add(bodyTimeout))
		}
	}
}

// roomFor is how large b should become: for all that was promised once a part
// of it has come, else twice as much. One byte more than there may be shows
// that there is more.
func roomFor(b []byte, size, limit int64) int64 {
	room := int64(2 * cap(b))
	if size >= 0 && len(b) >= pooled {
		room = max(size, int64(len(b))) + 1
		if len(b) < bodyPiece {
			room = min(room, bodyPiece)
		}
	}
	return max(min(room, limit+1), int64(len(b))+1)
}

// hold reserves room for a body of n bytes, until the request ends: the
// arguments in it are needed as long as the call may be sent again. It reports
// false when large bodies take too much memory already.
func (h *Handler) hold(w *response, n int64) bool {
	more := n - w.held
	if h.held.Add(more) > h.cfg.MaxHeld {
		h.held.Add(-more)
		return false
	}
	w.held = n
	return true
}

func setReadDeadline(w *response, t time.Time) {
	if d, ok := w.ResponseWriter.(interface{ SetReadDeadline(time.Time) error }); ok {
		_ = d.SetReadDeadline(t)
	}
}

// refuse answers before the body was read, and then reads some of it: closing
// a connection on which bytes still come would destroy the answer too.
func refuse(w *response, r *http.Request, err error) {
	rc := http.NewResponseController(w.ResponseWriter)
	// Else net/http itself would read a part of the body before it answers.
	if rc.EnableFullDuplex() != nil {
		w.fail(err)
		return
	}
	w.Header().Set("Connection", "close")
	w.fail(err)
	if rc.Flush() != nil || r.Header.Get("Expect") != "" {
		return // a client that expects to be asked sends nothing now
	}
	buf := pieces.Get().(*[piece]byte)
	defer pieces.Put(buf)
	start := time.Now()
	for drained := 0; drained < maxDrain && time.Since(start) < drainTimeout; {
		setReadDeadline(w, time.Now().Add(drainIdle))
		n, err := r.Body.Read(buf[:])
		if err != nil {
			return
		}
		drained += n
	}
}

// callBody is what POST /call takes. The name is nil when the body has none.
type callBody struct {
	name *string
	args []byte // a part of the body
}

// parseCall checks the whole body and finds its parts. Other keys mean
// nothing; of duplicate keys the last one counts.
func parseCall(raw []byte) (callBody, error) {
	fields, err := mcp.Fields(raw, "tool_name", "tool_args")
	if err != nil {
		var wrong *mcp.TypeError
		if errors.As(err, &wrong) {
			return callBody{}, badRequest("the body must be an object, got %s", wrong.Got)
		}
		return callBody{}, badRequest("%v", err)
	}
	name, args := fields[0], fields[1]
	if args == nil || mcp.IsNull(args) {
		return callBody{}, badRequest("must include 'tool_args'")
	}
	if t := mcp.TypeOf(args); t != "object" {
		return callBody{}, badRequest("'tool_args' must be an object, got %s", t)
	}
	call := callBody{args: args}
	if name != nil && !mcp.IsNull(name) {
		text, err := mcp.String(name)
		if err != nil {
			return callBody{}, badRequest("'tool_name' must be a string, got %s", mcp.TypeOf(name))
		}
		call.name = &text
	}
	return call, nil
}

// oneLine takes line ends out of params, which are valid JSON and ours to
// change. Valid strings hold no bare CR or LF; those that there are stand
// between values, where a space means the same. So no caller can forge a
// second message.
func oneLine(params []byte) []byte {
	for _, end := range [...]byte{'\n', '\r'} {
		rest := params
		for i := bytes.IndexByte(rest, end); i >= 0; i = bytes.IndexByte(rest, end) {
			rest[i] = ' '
			rest = rest[i+1:]
		}
	}
	return params
}
