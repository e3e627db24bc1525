package web

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// gzipFrom is the size from which answers are compressed. Smaller ones fit into
// one packet anyway.
const gzipFrom = 1024

// zippers are reused, as each has hundreds of KiB of tables.
var zippers = sync.Pool{New: func() any {
	z, err := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant
	}
	return z
}}

var (
	varyEncoding = []string{"Accept-Encoding"} // shared: nobody changes them
	encodedGzip  = []string{"gzip"}
)

// startGzip compresses the body if the client accepts that and the body is JSON
// and larger than gzipFrom or of unknown size. Streams of events and logs, which
// must not be delayed, are not JSON. The ETag stays as it is: clients send it in
// If-Match, and it names what is stored rather than how it was sent.
func (w *Response) startGzip(status int) {
	if status < http.StatusOK || status == http.StatusNoContent || status == http.StatusNotModified {
		return
	}
	h := w.Header()
	if media := h["Content-Type"]; len(media) == 0 || !isJSON(media[0]) || len(h["Content-Encoding"]) > 0 {
		return
	}
	if length := h["Content-Length"]; len(length) > 0 {
		if n, err := strconv.ParseInt(length[0], 10, 64); err != nil || n <= gzipFrom {
			return
		}
	}
	h["Vary"] = varyEncoding
	if w.noBody || !acceptsGzip(w.accepts) {
		return
	}
	delete(h, "Content-Length")
	h["Content-Encoding"] = encodedGzip
	w.zip = zippers.Get().(*gzip.Writer)
	w.zip.Reset(w.ResponseWriter)
}

func isJSON(media string) bool {
	media, _, _ = strings.Cut(media, ";")
	return media == "application/json" || strings.HasSuffix(media, "+json")
}

// endGzip writes the end of a compressed body. If the body broke off, it sends
// what there is without an end, so that the client does not take it for all.
func (w *Response) endGzip() {
	if w.zip == nil {
		return
	}
	w.StartDeadline()
	if !w.broken {
		if w.zip.Close() != nil {
			w.broken = true
		}
	} else if w.zip.Flush() == nil {
		_ = http.NewResponseController(w.ResponseWriter).Flush()
	}
	w.zip.Reset(io.Discard)
	zippers.Put(w.zip)
	w.zip = nil
}

// acceptsGzip reports whether Accept-Encoding headers allow gzip.
func acceptsGzip(headers []string) bool {
	any := false // from "*"
	for _, header := range headers {
		for item := range strings.SplitSeq(header, ",") {
			name, params, _ := strings.Cut(item, ";")
			switch name = strings.TrimSpace(name); {
			case strings.EqualFold(name, "gzip"), strings.EqualFold(name, "x-gzip"):
				return hasWeight(params)
			case name == "*":
				any = hasWeight(params)
			}
		}
	}
	return any
}

// hasWeight reports whether the parameters of an encoding allow it: q is not 0.
func hasWeight(params string) bool {
	for param := range strings.SplitSeq(params, ";") {
		key, value, _ := strings.Cut(param, "=")
		if strings.EqualFold(strings.TrimSpace(key), "q") {
			q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return err == nil && q > 0
		}
	}
	return true
}
