package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// writeTimeout is how long a client may take no byte of its answer.
const writeTimeout = 30 * time.Second

// response is a ResponseWriter that knows what was answered, and that gives
// every write its own deadline. (One for the whole answer would end large
// results for slow clients; one set earlier would be over before a slow tool
// has answered.)
type response struct {
	http.ResponseWriter
	requestID string
	accepts   []string // the client's Accept-Encoding
	noBody    bool     // the request is a HEAD
	zip       *gzip.Writer
	status    int
	started   bool  // the header is written
	broken    bool  // the answer broke off
	gone      bool  // the client left before there was one
	err       error // what was answered, if it is an error
	held      int64 // bytes reserved for its body
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *response) WriteHeader(status int) {
	if !w.started && status >= 200 {
		w.started, w.status = true, status
		w.startGzip(status)
		w.extend()
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(p []byte) (int, error) {
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

// extend gives the next write its time.
func (w *response) extend() { w.setWriteDeadline(time.Now().Add(writeTimeout)) }

// rest lifts the deadline while there is nothing to write: in HTTP/2 one that
// passes ends the stream, written to or not.
func (w *response) rest() { w.setWriteDeadline(time.Time{}) }

// setWriteDeadline does nothing to writers in tests that have no deadlines.
func (w *response) setWriteDeadline(t time.Time) {
	if d, ok := w.ResponseWriter.(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = d.SetWriteDeadline(t)
	}
}

// json answers with a value.
func (w *response) json(status int, v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		// An api type with raw JSON that is none.
		w.err = errors.Join(w.err, err)
		status = http.StatusInternalServerError
		b.Reset()
		_ = enc.Encode(map[string]string{"detail": errInternal.detail, "code": errInternal.code, "request_id": w.requestID})
	}
	w.raw(status, b.Bytes())
}

// raw answers with rendered JSON.
func (w *response) raw(status int, body []byte) {
	w.head(status, int64(len(body)))
	_, _ = w.Write(body)
}

var jsonType = []string{"application/json"} // shared: nobody changes it

// headOf begins an answer of another type.
func (w *response) headOf(status int, media string, length int64) {
	h := w.Header()
	h.Set("Content-Type", media)
	h.Set("Content-Length", strconv.FormatInt(length, 10))
	w.WriteHeader(status)
}

func (w *response) head(status int, length int64) {
	h := w.Header()
	h["Content-Type"] = jsonType
	if length >= 0 {
		h["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	}
	w.WriteHeader(status)
}

var (
	resultHead = []byte(`{"result":`)
	resultTail = []byte(`}`)
)

// result answers with a tool's result, as it came.
func (w *response) result(raw []byte) {
	w.head(http.StatusOK, int64(len(resultHead)+len(raw)+len(resultTail)))
	_, _ = w.Write(resultHead)
	_ = w.inPieces(raw)
	_, _ = w.Write(resultTail)
}

// piece is how much is written under one deadline.
const piece = 256 << 10

// inPieces writes under rolling deadlines.
func (w *response) inPieces(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), piece)
		if n < len(b) {
			w.extend()
		}
		if _, err := w.Write(b[:n]); err != nil {
			w.broken = true
			return err
		}
		b = b[n:]
	}
	return nil
}

var pieces = sync.Pool{New: func() any { return new([piece]byte) }}

// stream answers with a large result while it comes. Without a first piece
// there is no 200. When it breaks off later the connection is cut, so that the
// client sees that this is no whole answer. It closes the result's stream.
func (w *response) stream(res fleet.CallResult) error {
	defer res.Stream.Close()
	buf := pieces.Get().(*[piece]byte)
	defer pieces.Put(buf)
	n, err := readSome(res.Stream, buf[:])
	if n == 0 {
		if err == io.EOF { //nolint:errorlint // bare, as below
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	length := int64(-1)
	if res.StreamSize > 0 {
		length = int64(len(resultHead)+len(resultTail)) + res.StreamSize
	}
	w.head(http.StatusOK, length)
	_, _ = w.Write(resultHead)
	sent := int64(0)
	for {
		// Checked first: bytes that are announced must not be filled up with
		// a part of more.
		if sent += int64(n); res.StreamSize > 0 && sent > res.StreamSize {
			break
		}
		if w.inPieces(buf[:n]) != nil || err != nil {
			break
		}
		w.rest()
		n, err = readSome(res.Stream, buf[:])
		w.extend()
	}
	// Only a bare EOF is the end: one inside another error tells of a loss.
	//nolint:errorlint
	if w.broken || err != io.EOF || res.StreamSize > 0 && sent != res.StreamSize {
		w.err = err
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(resultTail)
	return nil
}

// readSome reads at least a byte, or says why not.
func readSome(r io.Reader, b []byte) (int, error) {
	for {
		if n, err := r.Read(b); n > 0 || err != nil {
			return n, err
		}
	}
}
