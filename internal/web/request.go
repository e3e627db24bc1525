package web

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/rand/v2"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// HeaderRequestID is the header with the id of a request. Like the other names
// here it has net/http's canonical form.
const (
	HeaderRequestID   = "X-Request-Id"
	headerTimeout     = "X-Request-Timeout"
	headerTraceparent = "Traceparent"
)

// requestID returns the client's id if it fits in a header and a log line, else a
// new one.
func requestID(r *http.Request) string {
	if id := r.Header.Get(HeaderRequestID); id != "" && len(id) <= 128 && Printable(id) {
		return id
	}
	return newRequestID()
}

func newRequestID() string {
	// It need not be hard to guess: it protects nothing.
	b := binary.BigEndian.AppendUint64(nil, rand.Uint64())
	return hex.EncodeToString(binary.BigEndian.AppendUint64(b, rand.Uint64()))
}

// Traceparent returns the client's traceparent as it came, or "" if it cannot be one.
func Traceparent(r *http.Request) string {
	if t := r.Header.Get(headerTraceparent); len(t) >= 55 && len(t) <= 256 && Printable(t) {
		return t
	}
	return ""
}

// headerSize returns the size of the request's line and headers, in the form in
// which clients commonly send them.
func headerSize(r *http.Request) int {
	n := len(r.Method) + len(" ") + len(r.RequestURI) + len(" HTTP/1.1\r\n") + len("Host: \r\n") + len(r.Host) + len("\r\n")
	for name, values := range r.Header {
		for _, value := range values {
			n += len(name) + len(": ") + len(value) + len("\r\n")
		}
	}
	return n
}

// Printable reports whether all of s is printable ASCII.
func Printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// ClientTimeout returns how long the client wants to wait: X-Request-Timeout is a
// Go duration or a number of seconds. It returns 0 without that header.
func ClientTimeout(r *http.Request) (time.Duration, error) {
	values := r.Header[headerTimeout]
	if len(values) == 0 {
		return 0, nil
	}
	text := strings.TrimSpace(values[0])
	d, err := time.ParseDuration(text)
	if err != nil {
		seconds, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(seconds) {
			return 0, BadRequest("header X-Request-Timeout must be a duration like 30s or a number of seconds, got %s", Shorten(text))
		}
		d = time.Duration(min(seconds, 1e9) * float64(time.Second))
	}
	if d <= 0 {
		return 0, BadRequest("header X-Request-Timeout must be more than 0, got %s", Shorten(text))
	}
	return d, nil
}

// Shorten quotes text of a client for an error message, at most 64 bytes of it.
func Shorten(s string) string {
	if len(s) > 64 {
		return strconv.Quote(s[:64]) + "..."
	}
	return strconv.Quote(s)
}

const (
	typeJSON = "application/json"
	typeForm = "application/x-www-form-urlencoded" // sent by curl -d with any body
)

// checkPost is CheckMedia for the body of a POST; see ReadJSON.
func checkPost(r *http.Request) error {
	if text := r.Header.Get("Content-Type"); text == "" || isForm(text) {
		return checkCoding(r)
	}
	return CheckMedia(r, typeJSON)
}

// checkForm refuses a body with the type of a form that is not a JSON object.
func checkForm(r *http.Request, body []byte) error {
	body = bytes.TrimLeft(body, " \t\r\n")
	if text := r.Header.Get("Content-Type"); text != typeJSON && !bytes.HasPrefix(body, []byte("{")) && isForm(text) {
		return UnsupportedMedia("the body must be a JSON object, of the Content-Type application/json; got %s", Shorten(text))
	}
	return nil
}

func isForm(text string) bool {
	media, _, _ := strings.Cut(text, ";")
	return strings.EqualFold(strings.TrimSpace(media), typeForm)
}

// CheckMedia refuses bodies of another media type or character set than UTF-8.
func CheckMedia(r *http.Request, want string) error {
	text := r.Header.Get("Content-Type")
	if text != want { // the usual case needs no parser
		media, params, err := mime.ParseMediaType(text)
		switch charset := params["charset"]; {
		case err != nil || media != want:
			return UnsupportedMedia("Content-Type must be %s, got %s", want, Shorten(text))
		case charset != "" && !strings.EqualFold(charset, "utf-8") && !strings.EqualFold(charset, "utf8"):
			return UnsupportedMedia("charset must be utf-8, got %s", Shorten(charset))
		}
	}
	return checkCoding(r)
}

// checkCoding refuses compressed bodies.
func checkCoding(r *http.Request) error {
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return UnsupportedMedia("Content-Encoding %s is not supported", Shorten(coding))
	}
	return nil
}
