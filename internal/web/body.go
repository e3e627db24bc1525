package web

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

const (
	// pooled is the size of the buffers that are reused. A larger body gets
	// memory of its own.
	pooled = 64 << 10
	// bodyPiece is how much of a large body must arrive within bodyTimeout. It
	// is also all that is allocated before the client has sent as much: a
	// Content-Length alone reserves nothing.
	bodyPiece   = 256 << 10
	bodyTimeout = 30 * time.Second
	// maxDrain is how much of a refused body is still read, so that a client
	// that sends all of it before it reads sees the answer.
	maxDrain     = 64 << 20
	drainTimeout = 10 * time.Second
	drainIdle    = time.Second
)

var bodies = sync.Pool{New: func() any { return new([pooled]byte) }}

// Body is the whole body of a request.
type Body struct {
	Bytes  []byte
	buffer *[pooled]byte // that Bytes is a part of; nil: Bytes has its own memory
}

// Free returns the buffer to its pool. Nothing may refer to the bytes any more.
func (b *Body) Free() {
	if b.buffer != nil {
		bodies.Put(b.buffer)
		b.buffer, b.Bytes = nil, nil
	}
}

// Keep returns bytes that stay valid, and frees the body.
func (b *Body) Keep() []byte {
	kept := b.Bytes
	if b.buffer != nil {
		kept = bytes.Clone(kept)
	}
	b.Free()
	b.Bytes = nil
	return kept
}

// ReadBody reads the whole body. It refuses a body that is too large by itself or
// together with the bodies of other requests.
func (w *Response) ReadBody(r *http.Request) (Body, error) {
	size, limit := r.ContentLength, w.mux.cfg.MaxBody
	if size > limit {
		return Body{}, w.RefuseBody(errTooLarge(limit))
	}
	buffer := bodies.Get().(*[pooled]byte)
	b, err := w.fill(r.Body, buffer[:0], size, limit)
	if err != nil {
		bodies.Put(buffer)
		return Body{}, err
	}
	if len(b) > 0 && &b[0] != &buffer[0] {
		bodies.Put(buffer)
		return Body{Bytes: b}, nil
	}
	return Body{Bytes: b, buffer: buffer}, nil
}

// ReadJSON reads the body of a POST. It accepts JSON, and also an object without
// a Content-Type or with that of a form, which is what curl -d sends. Web pages
// of other origins can send such requests too; they were refused before.
func (w *Response) ReadJSON(r *http.Request) (Body, error) {
	if err := checkPost(r); err != nil {
		return Body{}, w.RefuseBody(err)
	}
	b, err := w.ReadBody(r)
	if err == nil {
		err = checkForm(r, b.Bytes)
	}
	if err != nil {
		b.Free()
	}
	return b, err
}

// fill reads r to its end, into b or into something larger. The size is -1 if it
// was not announced. At the end of the body net/http lifts the read deadline
// itself and goes on reading, to see the client leave.
func (w *Response) fill(r io.Reader, b []byte, size, limit int64) ([]byte, error) {
	due := bodyPiece
	for {
		if len(b) == cap(b) {
			room := roomFor(b, size, limit)
			if !w.reserve(room) {
				return nil, w.RefuseBody(errBusy)
			}
			b = append(make([]byte, 0, room), b...)
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case int64(len(b)) > limit:
			return nil, w.RefuseBody(errTooLarge(limit))
		case err == io.EOF:
			return b, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, errSlowBody
		case err != nil:
			return nil, errCutBody
		}
		if len(b) >= due {
			due = len(b) + bodyPiece
			w.setReadDeadline(time.Now().Add(bodyTimeout))
		}
	}
}

// roomFor returns the next capacity of b: the announced size once a part of it
// has arrived, else twice the present one. One byte more than allowed is enough
// to see that a body is too large.
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

// reserve counts n bytes for this body until the request ends: a call may need
// its arguments again as long as it may be repeated. It reports whether the
// bodies of all requests stay within their limit.
func (w *Response) reserve(n int64) bool {
	more := n - w.bodyMemory
	if w.mux.bodyMemory.Add(more) > w.mux.cfg.MaxBodyMemory {
		w.mux.bodyMemory.Add(-more)
		return false
	}
	w.bodyMemory = n
	return true
}

func (w *Response) setReadDeadline(t time.Time) {
	if d, ok := w.ResponseWriter.(interface{ SetReadDeadline(time.Time) error }); ok {
		_ = d.SetReadDeadline(t)
	}
}

// RefuseBody returns err, and records that the body was not read to its end. The
// error is then answered at once, while the client may still be sending, and the
// connection is closed.
func (w *Response) RefuseBody(err error) error {
	w.bodyUnread = true
	return err
}

// beginRefusal prepares an answer that is sent before the body was read. It
// reports whether that is possible: else net/http reads a part of the body first.
func (w *Response) beginRefusal() bool {
	if http.NewResponseController(w.ResponseWriter).EnableFullDuplex() != nil {
		return false
	}
	w.Header().Set("Connection", "close")
	return true
}

// drain sends the answer and then reads some of the refused body. Closing a
// connection while bytes still arrive would discard the answer.
func (w *Response) drain(r *http.Request) {
	if http.NewResponseController(w.ResponseWriter).Flush() != nil || r.Header.Get("Expect") != "" {
		return // with Expect: 100-continue the client sends nothing now
	}
	buf := pieces.Get().(*[piece]byte)
	defer pieces.Put(buf)
	start := time.Now()
	for drained := 0; drained < maxDrain && time.Since(start) < drainTimeout; {
		w.setReadDeadline(time.Now().Add(drainIdle))
		n, err := r.Body.Read(buf[:])
		if err != nil {
			return
		}
		drained += n
	}
}
