package web

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func TestAcceptsGzip(t *testing.T) {
	for header, want := range map[string]bool{
		"": false, "gzip": true, "GZIP": true, "x-gzip": true, "deflate, gzip;q=1.0, *;q=0.5": true, "*": true, "br , gzip ; q=0.001": true,
		"identity": false, "gzip;q=0": false, "gzip; q=0.000, *": false, "*;q=0": false, "br": false, "gzip;q=x": false, "gzippy": false,
	} {
		if got := acceptsGzip([]string{header}); got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}

func gunzip(t *testing.T, body io.Reader) string {
	t.Helper()
	z, err := gzip.NewReader(body)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestGzip(t *testing.T) {
	text := func(n int) string { return `"` + strings.Repeat("x", n-2) + `"` }
	stream := func(w *Response, _ *http.Request) error {
		return w.Stream(streamHead, strings.NewReader(text(3<<20)), 3<<20, streamTail)
	}
	plain := func(w *Response, _ *http.Request) error {
		w.Begin(http.StatusOK, "text/plain", -1)
		return w.WriteAll([]byte(text(2000)))
	}
	m := newMux(Config{}, Get("/stream", Read, stream), Get("/plain", Read, plain), Get("/long", Read, func(w *Response, _ *http.Request) error {
		return w.JSON(http.StatusOK, text(2000))
	}))
	for name, tt := range map[string]struct {
		method, path, accept string
		body                 string
		want, vary           bool
	}{
		"over 1 KiB":      {"POST", "/echo", "gzip", text(1025), true, true},
		"1 KiB":           {"POST", "/echo", "gzip", text(1024), false, false},
		"not accepted":    {"POST", "/echo", "", text(2000), false, true},
		"refused":         {"POST", "/echo", "gzip;q=0, *", text(2000), false, true},
		"large":           {"POST", "/echo", "gzip", text(3 << 20), true, true},
		"while it comes":  {"GET", "/stream", "gzip", "", true, true},
		"value":           {"GET", "/long", "gzip", "", true, true},
		"HEAD":            {"HEAD", "/long", "gzip", "", false, true},
		"not JSON":        {"GET", "/plain", "gzip", "", false, false},
		"an error":        {"POST", "/" + strings.Repeat("x", 60), "gzip", "", false, false},
		"a small success": {"GET", "/well", "gzip", "", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := do(m, tt.method, tt.path, tt.body, "Accept-Encoding", tt.accept)
			h := w.Header()
			if got := h.Get("Content-Encoding") == "gzip"; got != tt.want || got && h.Get("Content-Length") != "" || (h.Get("Vary") == "Accept-Encoding") != tt.vary {
				t.Fatalf("got %d %v, want compressed: %v", w.Code, h, tt.want)
			}
			if !tt.want {
				return
			}
			plain := do(m, tt.method, tt.path, tt.body).Body.String()
			if size, got := w.Body.Len(), gunzip(t, w.Body); got != plain || size > len(got)/2 {
				t.Errorf("%d bytes became %d", size, len(got))
			}
		})
	}
}

// A compressed answer that breaks off does not look whole.
func TestGzipBroken(t *testing.T) {
	srv := serve(t, newMux(Config{}, Get("/x", Read, func(w *Response, _ *http.Request) error {
		text := strings.Repeat("0123456789", 100_000)
		return w.Stream(streamHead, &breaking{strings.NewReader(text), fleet.ErrReplicaLost}, 2_000_000, streamTail)
	})))
	resp, err := http.Get(srv.URL + "/x")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); !resp.Uncompressed || err == nil {
		t.Errorf("got %d bytes, compressed: %v, %v", len(got), resp.Uncompressed, err)
	}
}

// The pooled compressors never mix answers up.
func TestManyGzippedAtOnce(t *testing.T) {
	m := newMux(Config{}, Post("/break", Read, func(w *Response, r *http.Request) error {
		return w.Stream(streamHead, &breaking{r.Body, errors.New("lost")}, 0, streamTail)
	}))
	var wg sync.WaitGroup
	for c := range 8 {
		wg.Go(func() {
			for i := range 50 {
				text := strings.Repeat(fmt.Sprint(c, "-", i, " "), 300)
				if i%5 == 0 {
					func() {
						defer func() { _ = recover() }() // http.ErrAbortHandler
						do(m, "POST", "/break", text, "Accept-Encoding", "gzip")
						t.Error("the answer did not break off")
					}()
					continue
				}
				w := do(m, "POST", "/echo", text, "Accept-Encoding", "gzip")
				if got := gunzip(t, w.Body); got != text {
					t.Errorf("got %.80s", got)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkGzip(b *testing.B) {
	for _, size := range []int{512, 2 << 10, 64 << 10, 1 << 20} {
		for _, accept := range []string{"", "gzip"} {
			b.Run(fmt.Sprintf("%d/%s", size, accept), func(b *testing.B) {
				var text bytes.Buffer
				for i := 0; text.Len() < size; i++ {
					fmt.Fprintf(&text, "line %d of what a tool may well say; ", i*7919)
				}
				m := newMux(Config{}, Get("/x", Read, func(w *Response, _ *http.Request) error {
					w.BeginJSON(http.StatusOK, int64(text.Len()))
					return w.WriteAll(text.Bytes())
				}))
				r := httptest.NewRequest("GET", "/x", nil)
				if accept != "" {
					r.Header.Set("Accept-Encoding", accept)
				}
				w := &sink{header: http.Header{}}
				b.ReportAllocs()
				for b.Loop() {
					clear(w.header)
					m.ServeHTTP(w, r)
				}
			})
		}
	}
}

type sink struct{ header http.Header }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(int)             {}
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }
