package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
)

// writeTimeout is how long a client may take no byte of its answer.
const writeTimeout = 30 * time.Second

// Response is a ResponseWriter that remembers what was answered, and that gives
// every write its own deadline. (One for the whole answer would end large
// results for slow clients; one set earlier would be over before a slow tool
// has answered.)
type Response struct {
	http.ResponseWriter
	mux       *Mux
	path      *path // that was asked for
	requestID string
	accepts   []string // the client's Accept-Encoding
	noBody    bool     // the request is a HEAD
	zip       *gzip.Writer
	status    int
	started   bool  // the header is written
	broken    bool  // the answer broke off
	gone      bool  // the client left before there was one
	unread    bool  // the request's body was refused
	err       error // what was answered, if it is an error
	held      int64 // bytes reserved for the request's body
}

// RequestID returns the id of the request: the client's own, or a new one.
func (w *Response) RequestID() string { return w.requestID }

// Started reports whether the answer has begun.
func (w *Response) Started() bool { return w.started }

// Unwrap is for http.ResponseController.
func (w *Response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *Response) WriteHeader(status int) {
	if !w.started && status >= 200 {
		w.started, w.status = true, status
		w.startGzip(status)
		w.StartDeadline()
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *Response) Write(p []byte) (int, error) {
	if !w.started {
		w.WriteHeader(http.StatusOK)
	}
	if w.zip != nil {
		return w.zip.Write(p)
	}
	n, err := w.ResponseWriter.Write(p)
	if errors.Is(err, http.ErrBodyNotAllowed) {
		return len(p), nil // HEAD
	}
	return n, err
}

// Flush sends what was written, if the connection can.
func (w *Response) Flush() error {
	if err := http.NewResponseController(w.ResponseWriter).Flush(); !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// StartDeadline gives the next write its time.
func (w *Response) StartDeadline() { w.setWriteDeadline(time.Now().Add(writeTimeout)) }

// ClearDeadline lifts the deadline while there is nothing to write. In HTTP/2 a
// deadline that passes ends the stream even if nothing is written.
func (w *Response) ClearDeadline() { w.setWriteDeadline(time.Time{}) }

// setWriteDeadline does nothing to writers in tests that have no deadlines.
func (w *Response) setWriteDeadline(t time.Time) {
	if d, ok := w.ResponseWriter.(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = d.SetWriteDeadline(t)
	}
}

// JSON answers with a value. It returns an error, and has answered nothing, if
// the value holds raw JSON that is not valid.
func (w *Response) JSON(status int, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	w.BeginJSON(status, int64(b.Len()))
	_, _ = w.Write(b.Bytes())
	return nil
}

// Begin begins an answer of any type. The length is -1 when it is not known.
func (w *Response) Begin(status int, media string, length int64) {
	w.begin(status, []string{media}, length)
}

var jsonType = []string{typeJSON} // shared: nobody changes it

// BeginJSON begins an answer of JSON. The length is -1 when it is not known.
func (w *Response) BeginJSON(status int, length int64) { w.begin(status, jsonType, length) }

func (w *Response) begin(status int, media []string, length int64) {
	h := w.Header()
	h["Content-Type"] = media
	if length >= 0 {
		h["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	}
	w.WriteHeader(status)
}

// piece is how much is written under one deadline.
const piece = 256 << 10

var pieces = sync.Pool{New: func() any { return new([piece]byte) }}

// WriteAll writes any amount, each piece of it under its own deadline.
func (w *Response) WriteAll(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), piece)
		if n < len(b) {
			w.StartDeadline()
		}
		if _, err := w.Write(b[:n]); err != nil {
			w.broken = true
			return err
		}
		b = b[n:]
	}
	return nil
}

// Copy writes what r has, as it comes. It returns the first error of either side.
func (w *Response) Copy(r io.Reader) error {
	buf := pieces.Get().(*[piece]byte)
	defer pieces.Put(buf)
	for {
		n, err := w.readNext(r, buf[:])
		if err := w.WriteAll(buf[:n]); err != nil {
			return err
		}
		//nolint:errorlint // as in Stream
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Stream answers 200 with JSON as it comes: head, what r has, and tail. The size
// is how much r has, 0 when that is not known. Until r has a first byte nothing
// is answered.
func (w *Response) Stream(head []byte, r io.Reader, size int64, tail []byte) error {
	buf := pieces.Get().(*[piece]byte)
	defer pieces.Put(buf)
	n, err := readSome(r, buf[:])
	//nolint:errorlint // Only a bare EOF is the end: an error that wraps one is a loss.
	if n == 0 && err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if n == 0 {
		return err
	}
	length := int64(-1)
	if size > 0 {
		length = int64(len(head)) + size + int64(len(tail))
	}
	w.BeginJSON(http.StatusOK, length)
	_, _ = w.Write(head)
	for sent := int64(0); ; {
		// Checked before the write: a part of too much must not look whole.
		if sent += int64(n); size > 0 && sent > size {
			return fmt.Errorf("more came than the %d bytes that were announced", size)
		}
		if err := w.WriteAll(buf[:n]); err != nil {
			return err
		}
		//nolint:errorlint // as above
		if err == io.EOF && (size <= 0 || sent == size) {
			break
		}
		if err != nil {
			return err
		}
		n, err = w.readNext(r, buf[:])
	}
	_, _ = w.Write(tail)
	return nil
}

// readNext reads what comes next, while no write is due.
func (w *Response) readNext(r io.Reader, b []byte) (int, error) {
	w.ClearDeadline()
	defer w.StartDeadline()
	return readSome(r, b)
}

// readSome reads at least a byte, or returns why not.
func readSome(r io.Reader, b []byte) (int, error) {
	for {
		if n, err := r.Read(b); n > 0 || err != nil {
			return n, err
		}
	}
}
