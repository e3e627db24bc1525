package httpapi

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func gunzip(t *testing.T, body io.Reader) []byte {
	t.Helper()
	z, err := gzip.NewReader(body)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGzip(t *testing.T) {
	result := func(n int) []byte { return []byte(`{"a":"` + strings.Repeat("x", n-len(`{"result":{"a":""}}`)) + `"}`) }
	for name, tt := range map[string]struct {
		method, path, accept string
		result               []byte
		stream               bool
		want                 bool
		vary                 bool
	}{
		"over 1 KiB":              {"POST", "/call", "gzip", result(1025), false, true, true},
		"1 KiB":                   {"POST", "/call", "gzip", result(1024), false, false, false},
		"not accepted":            {"POST", "/call", "", result(2000), false, false, true},
		"refused":                 {"POST", "/call", "gzip;q=0, *", result(2000), false, false, true},
		"large":                   {"POST", "/call", "gzip", result(3 << 20), false, true, true},
		"while it comes":          {"POST", "/call", "gzip", result(3 << 20), true, true, true},
		"servers":                 {"GET", "/api/v1/servers", "gzip", nil, false, true, true},
		"HEAD":                    {"HEAD", "/api/v1/servers", "gzip", nil, false, false, true},
		"a large error":           {"POST", "/" + strings.Repeat("x", 60), "gzip", nil, false, false, false},
		"what is small otherwise": {"GET", "/healthz", "gzip", nil, false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture()
			for i := range 10 {
				f.state.servers = append(f.state.servers, api.Server{Name: fleet.ServerName(fmt.Sprint("s", i)), Spec: []byte(`{"image":"x"}`), Reason: strings.Repeat("why ", 50)})
			}
			f.router.f = func(context.Context, fleet.Call) (fleet.CallResult, error) {
				if tt.stream {
					return fleet.CallResult{Stream: io.NopCloser(bytes.NewReader(tt.result)), StreamSize: int64(len(tt.result))}, nil
				}
				return fleet.CallResult{Result: tt.result}, nil
			}
			w := f.do(tt.method, tt.path, `{"tool_args":{}}`, "Accept-Encoding", tt.accept)
			h := w.Header()
			if got := h.Get("Content-Encoding") == "gzip"; got != tt.want || got && h.Get("Content-Length") != "" || (h.Get("Vary") == "Accept-Encoding") != tt.vary {
				t.Fatalf("got %d %v, want compressed: %v", w.Code, h, tt.want)
			}
			if tt.want && tt.result != nil {
				if size, got := w.Body.Len(), gunzip(t, w.Body); string(got) != `{"result":`+string(tt.result)+`}` || size > len(got)/2 {
					t.Errorf("%d bytes became %d", size, len(got))
				}
			}
			if tt.path == "/api/v1/servers" && h.Get("Etag") != f.do("GET", tt.path, "").Header().Get("Etag") {
				t.Errorf("the ETag is %s", h.Get("Etag"))
			}
		})
	}
}

// A compressed result that breaks off does not look whole.
func TestGzipBroken(t *testing.T) {
	f := newFixture()
	f.router.f = func(context.Context, fleet.Call) (fleet.CallResult, error) {
		text := strings.Repeat("0123456789", 100_000)
		return fleet.CallResult{Stream: &breaking{Reader: strings.NewReader(text), err: fleet.ErrReplicaLost}, StreamSize: 2_000_000}, nil
	}
	srv := f.serve(t)
	resp, err := http.Post(srv.URL+"/call", "application/json", strings.NewReader(`{"tool_args":{}}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); !resp.Uncompressed || err == nil {
		t.Errorf("got %d bytes, compressed: %v, %v", len(got), resp.Uncompressed, err)
	}
}

// Streams come at once, as they are; a 304 has no body to compress.
func TestStreamsAreNotCompressed(t *testing.T) {
	f := newFixture()
	f.events.record("started", "main")
	f.state.replicas = []api.Replica{{ID: "r1"}}
	f.config.Logs = logsFunc(func(ctx context.Context, _ fleet.ReplicaID, _ int, _ bool, on func(fleet.LogLine)) error {
		on(fleet.LogLine{Text: "line"})
		<-ctx.Done()
		return nil
	})
	f.config.Registry = nil
	f.build()
	srv := f.serve(t)
	for path, want := range map[string]string{"/api/v1/events": "id: 3-1\n", "/api/v1/replicas/r1/logs?follow": "line\n"} {
		ctx, cancel := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+path, nil)
		req.Header.Set("Accept", "text/event-stream")
		req.Header.Set("Accept-Encoding", "gzip")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != want || resp.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: %q, %v, %v", path, got, err, resp.Header)
		}
		cancel()
		resp.Body.Close()
	}
	tag := f.do("GET", "/api/v1/servers", "").Header().Get("Etag")
	if w := f.do("GET", "/api/v1/servers", "", "If-None-Match", tag, "Accept-Encoding", "gzip"); w.Code != http.StatusNotModified || w.Body.Len() > 0 || w.Header().Get("Content-Encoding") != "" {
		t.Errorf("got %d %v %q", w.Code, w.Header(), w.Body)
	}
}

// What a follower passes on is compressed for its client.
func TestGzipOfForwarded(t *testing.T) {
	leader := newFixture()
	for i := range 10 {
		leader.state.servers = append(leader.state.servers, api.Server{Name: fleet.ServerName(fmt.Sprint("s", i)), Spec: []byte(`{"image":"x"}`), Reason: strings.Repeat("why ", 50)})
	}
	follower := newFixture()
	follower.desired.become(follows(leader.serve(t).Listener.Addr().String()))
	w := follower.do("GET", "/api/v1/servers", "", "Accept-Encoding", "gzip")
	if w.Header().Get("Content-Encoding") != "gzip" || !bytes.Equal(gunzip(t, w.Body), leader.do("GET", "/api/v1/servers", "").Body.Bytes()) {
		t.Errorf("got %d %v", w.Code, w.Header())
	}
}

// The kept compressors never mix answers up.
func TestManyGzippedAtOnce(t *testing.T) {
	f := newFixture()
	f.config.Router = routerFunc(func(_ context.Context, c fleet.Call) (fleet.CallResult, error) {
		if bytes.Contains(c.Params, []byte("break")) {
			return fleet.CallResult{Stream: io.NopCloser(&breaking{Reader: bytes.NewReader(c.Params), err: errors.New("lost")})}, nil
		}
		return fleet.CallResult{Result: c.Params}, nil
	})
	f.config.Registry = nil
	f.build()
	var wg sync.WaitGroup
	for c := range 8 {
		wg.Go(func() {
			for i := range 50 {
				text := strings.Repeat(fmt.Sprint(c, "-", i, " "), 300)
				if i%5 == 0 {
					r := httptest.NewRequest("POST", "/call", strings.NewReader(`{"tool_args":{"t":"break `+text+`"}}`))
					r.Header = http.Header{"Content-Type": {"application/json"}, "Accept-Encoding": {"gzip"}}
					func() {
						defer func() { _ = recover() }() // http.ErrAbortHandler
						f.handler.ServeHTTP(httptest.NewRecorder(), r)
					}()
					continue
				}
				w := f.do("POST", "/call", `{"tool_args":{"t":"`+text+`"}}`, "Accept-Encoding", "gzip")
				if got := gunzip(t, w.Body); string(got) != `{"result":{"name":"echo","arguments":{"t":"`+text+`"}}}` {
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
				var text strings.Builder
				for i := 0; text.Len() < size; i++ {
					fmt.Fprintf(&text, "line %d of what a tool may well say; ", i*7919)
				}
				result := []byte(`{"content":[{"type":"text","text":"` + text.String() + `"}]}`)
				f := newFixture(func(c *config) {
					c.Router = routerFunc(func(context.Context, fleet.Call) (fleet.CallResult, error) {
						return fleet.CallResult{Result: result}, nil
					})
				})
				body := []byte(`{"tool_name":"echo","tool_args":{}}`)
				r, _ := http.NewRequest("POST", "/call", nil)
				r.Header.Set("Content-Type", "application/json")
				if accept != "" {
					r.Header.Set("Accept-Encoding", accept)
				}
				r.ContentLength = int64(len(body))
				w := &sink{header: http.Header{}}
				rd := bytes.NewReader(body)
				r.Body = io.NopCloser(rd)
				b.ReportAllocs()
				for b.Loop() {
					rd.Reset(body)
					clear(w.header)
					f.handler.ServeHTTP(w, r)
				}
			})
		}
	}
}
