package httpapi

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

// Headers, in net/http's canonical form.
const (
	headerRequestID   = "X-Request-Id"
	headerTimeout     = "X-Request-Timeout"
	headerTraceparent = "Traceparent"
)

// requestID takes the client's id if it can be shown in a header and a log
// line, and else makes one.
func requestID(r *http.Request) string {
	if id := r.Header.Get(headerRequestID); id != "" && len(id) <= 128 && printable(id) {
		return id
	}
	return newRequestID()
}

func newRequestID() string {
	// It tells requests apart and guards nothing.
	b := binary.BigEndian.AppendUint64(nil, rand.Uint64())
	return hex.EncodeToString(binary.BigEndian.AppendUint64(b, rand.Uint64()))
}

// traceparent is passed on as it came; what can be none is dropped.
func traceparent(r *http.Request) string {
	if t := r.Header.Get(headerTraceparent); len(t) >= 55 && len(t) <= 256 && printable(t) {
		return t
	}
	return ""
}

// headerSize is how many bytes the request's line and headers took, as clients
// commonly write them.
func headerSize(r *http.Request) int {
	n := len(r.Method) + len(" ") + len(r.RequestURI) + len(" HTTP/1.1\r\n") + len("Host: \r\n") + len(r.Host) + len("\r\n")
	for name, values := range r.Header {
		for _, value := range values {
			n += len(name) + len(": ") + len(value) + len("\r\n")
		}
	}
	return n
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// clientTimeout reads how long the client wants to wait: a Go duration, or a
// number of seconds. 0 means that it does not say.
func clientTimeout(r *http.Request) (time.Duration, error) {
	values := r.Header[headerTimeout]
	if len(values) == 0 {
		return 0, nil
	}
	text := strings.TrimSpace(values[0])
	d, err := time.ParseDuration(text)
	if err != nil {
		seconds, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(seconds) {
			return 0, badRequest("header X-Request-Timeout must be a duration like 30s or a number of seconds, got %s", shorten(text))
		}
		d = time.Duration(min(seconds, 1e9) * float64(time.Second))
	}
	if d <= 0 {
		return 0, badRequest("header X-Request-Timeout must be more than 0, got %s", shorten(text))
	}
	return d, nil
}

func shorten(s string) string {
	if len(s) > 64 {
		return strconv.Quote(s[:64]) + "..."
	}
	return strconv.Quote(s)
}

const (
	typeJSON = "application/json"
	typeForm = "application/x-www-form-urlencoded" // what curl -d says of any body
)

// checkPost is checkMedia for the body of a POST, which is JSON whatever curl
// says of it: without a type, or with that of a form, it is taken if it is an
// object; see checkForm. Pages of other origins, which can send such requests
// too, were refused before.
func checkPost(r *http.Request) error {
	if text := r.Header.Get("Content-Type"); text == "" || isForm(text) {
		return checkCoding(r)
	}
	return checkMedia(r, typeJSON)
}

// checkForm refuses a body that is said to be a form and is no JSON object.
func checkForm(r *http.Request, body []byte) error {
	body = bytes.TrimLeft(body, " \t\r\n")
	if text := r.Header.Get("Content-Type"); text != typeJSON && !bytes.HasPrefix(body, []byte("{")) && isForm(text) {
		return errMediaType("the body must be a JSON object, of the Content-Type application/json; got %s", shorten(text))
	}
	return nil
}

func isForm(text string) bool {
	media, _, _ := strings.Cut(text, ";")
	return strings.EqualFold(strings.TrimSpace(media), typeForm)
}

// checkMedia refuses bodies that are not said to be of this type, in UTF-8.
func checkMedia(r *http.Request, want string) error {
	text := r.Header.Get("Content-Type")
	if text != want { // else spare the parser
		media, params, err := mime.ParseMediaType(text)
		switch charset := params["charset"]; {
		case err != nil || media != want:
			return errMediaType("Content-Type must be %s, got %s", want, shorten(text))
		case charset != "" && !strings.EqualFold(charset, "utf-8") && !strings.EqualFold(charset, "utf8"):
			return errMediaType("charset must be utf-8, got %s", shorten(charset))
		}
	}
	return checkCoding(r)
}

// checkCoding refuses bodies that are compressed.
func checkCoding(r *http.Request) error {
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return errMediaType("Content-Encoding %s is not supported", shorten(coding))
	}
	return nil
}
