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

// Body is a request's body, whole.
type Body struct {
	Bytes  []byte
	buffer *[pooled]byte // where the bytes are, if it is to be used again
}

// Free gives the buffer back: nothing may refer to the bytes any more.
func (b *Body) Free() {
	if b.buffer != nil {
		bodies.Put(b.buffer)
		b.buffer, b.Bytes = nil, nil
	}
}

// Keep returns the bytes for as long as anybody may want them. The body is empty
// then.
func (b *Body) Keep() []byte {
	kept := b.Bytes
	if b.buffer != nil {
		kept = bytes.Clone(kept)
	}
	b.Free()
	b.Bytes = nil
	return kept
}

// ReadBody reads the whole body. It refuses one that is too large by itself, or
// together with those of other requests.
func (w *Response) ReadBody(r *http.Request) (Body, error) {
	size, limit := r.ContentLength, w.mux.cfg.MaxBody
	if size > limit {
		return Body{}, w.LeaveBody(errTooLarge(limit))
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

// ReadJSON reads the body of a POST, which is JSON whatever curl says of it:
// without a type, or with that of a form, it is taken if it is an object. Pages
// of other origins, which can send such requests too, were refused before.
func (w *Response) ReadJSON(r *http.Request) (Body, error) {
	if err := checkPost(r); err != nil {
		return Body{}, w.LeaveBody(err)
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

// fill reads until the end into b, or into something larger. size is -1 when
// nobody has said how much will come. At the end net/http itself lifts the
// deadline, and reads on to see the client leave.
func (w *Response) fill(r io.Reader, b []byte, size, limit int64) ([]byte, error) {
	due := bodyPiece
	for {
		if len(b) == cap(b) {
			room := roomFor(b, size, limit)
			if !w.hold(room) {
				return nil, w.LeaveBody(errBusy)
			}
			b = append(make([]byte, 0, room), b...)
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case int64(len(b)) > limit:
			return nil, w.LeaveBody(errTooLarge(limit))
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
func (w *Response) hold(n int64) bool {
	more := n - w.held
	if w.mux.held.Add(more) > w.mux.cfg.MaxHeld {
		w.mux.held.Add(-more)
		return false
	}
	w.held = n
	return true
}

func (w *Response) setReadDeadline(t time.Time) {
	if d, ok := w.ResponseWriter.(interface{ SetReadDeadline(time.Time) error }); ok {
		_ = d.SetReadDeadline(t)
	}
}

// LeaveBody returns err, and remembers that the body was not read. The client
// may be sending it: it will be answered at once, and the connection closed.
func (w *Response) LeaveBody(err error) error {
	w.unread = true
	return err
}

// beginRefusal prepares an answer that is sent before the body was read. It
// reports false if net/http will read a part of the body first.
func (w *Response) beginRefusal() bool {
	if http.NewResponseController(w.ResponseWriter).EnableFullDuplex() != nil {
		return false
	}
	w.Header().Set("Connection", "close")
	return true
}

// drain sends the answer and then reads some of the body that was refused:
// closing a connection on which bytes still come would destroy the answer.
func (w *Response) drain(r *http.Request) {
	if http.NewResponseController(w.ResponseWriter).Flush() != nil || r.Header.Get("Expect") != "" {
		return // a client that expects to be asked sends nothing now
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
