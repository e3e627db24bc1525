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

// writeTimeout is how long a client may take to accept one write.
const writeTimeout = 30 * time.Second

// Response is an http.ResponseWriter that records what was answered, and gives
// every write its own deadline. One deadline for the whole answer would end large
// results for slow clients, and one that is set when the request arrives would
// pass before a slow tool has answered.
type Response struct {
	http.ResponseWriter
	mux        *Mux
	path       *path // of the request
	requestID  string
	accepts    []string // the client's Accept-Encoding
	noBody     bool     // the request is a HEAD
	zip        *gzip.Writer
	status     int
	started    bool  // the header is written
	broken     bool  // the answer broke off: its connection must end
	clientGone bool  // the client left before the answer began
	bodyUnread bool  // the request's body was not read to its end
	err        error // that was answered
	bodyMemory int64 // reserved for the request's body
}

// RequestID returns the id of the request.
func (w *Response) RequestID() string { return w.requestID }

// Started reports whether the answer has begun.
func (w *Response) Started() bool { return w.started }

// Unwrap lets http.ResponseController find the connection.
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

// Flush sends what was written so far.
func (w *Response) Flush() error {
	if err := http.NewResponseController(w.ResponseWriter).Flush(); !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// StartDeadline gives the next write writeTimeout from now.
func (w *Response) StartDeadline() { w.setWriteDeadline(time.Now().Add(writeTimeout)) }

// ClearDeadline removes the deadline while there is nothing to write. In HTTP/2 a
// deadline that passes ends the stream even if nothing is being written.
func (w *Response) ClearDeadline() { w.setWriteDeadline(time.Time{}) }

// setWriteDeadline ignores writers without deadlines, as tests have them.
func (w *Response) setWriteDeadline(t time.Time) {
	if d, ok := w.ResponseWriter.(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = d.SetWriteDeadline(t)
	}
}

// JSON answers with a value. If the value cannot be encoded, it returns an error
// and has answered nothing.
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

// piece is how much is written within one deadline.
const piece = 256 << 10

var pieces = sync.Pool{New: func() any { return new([piece]byte) }}

// WriteAll writes b, each piece within its own deadline.
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

// Copy reads r to its end and writes what it reads. It returns the first error of
// either side.
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

// Stream answers 200 with JSON: head, all of r, and tail. It writes while it
// reads, and answers nothing before r has a first byte. The size is the length of
// r, or 0 if it is not known.
func (w *Response) Stream(head []byte, r io.Reader, size int64, tail []byte) error {
	buf := pieces.Get().(*[piece]byte)
	defer pieces.Put(buf)
	n, err := readSome(r, buf[:])
	//nolint:errorlint // Only a bare EOF is the end. An error that wraps it is a loss.
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
		// Before the write: the announced length, once written, looks whole.
		if sent += int64(n); size > 0 && sent > size {
			return fmt.Errorf("result is longer than the announced %d bytes", size)
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

// readNext reads without a write deadline.
func (w *Response) readNext(r io.Reader, b []byte) (int, error) {
	w.ClearDeadline()
	defer w.StartDeadline()
	return readSome(r, b)
}

// readSome reads at least one byte, or returns an error.
func readSome(r io.Reader, b []byte) (int, error) {
	for {
		if n, err := r.Read(b); n > 0 || err != nil {
			return n, err
		}
	}
}
