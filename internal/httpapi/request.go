package httpapi

import (
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

const typeJSON = "application/json"

// checkMedia refuses bodies that are not said to be of this type, in UTF-8.
func checkMedia(r *http.Request, want string) error {
	text := r.Header.Get("Content-Type")
	if text != want { // else spare the parser
		media, params, err := mime.ParseMediaType(text)
		switch charset := params["charset"]; {
		case text == "":
			return errMediaType("the request has no Content-Type; it must be %s", want)
		case err != nil || media != want:
			return errMediaType("Content-Type must be %s, got %s", want, shorten(text))
		case charset != "" && !strings.EqualFold(charset, "utf-8") && !strings.EqualFold(charset, "utf8"):
			return errMediaType("charset must be utf-8, got %s", shorten(charset))
		}
	}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return errMediaType("Content-Encoding %s is not supported", shorten(coding))
	}
	return nil
}
