package web

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

// A body that is announced as too large is refused before any of it is read. A
// client that sends it all the same can read why.
func TestTooLargeIsRefusedAtOnce(t *testing.T) {
	srv := serve(t, newMux(Config{}))
	conn := dial(t, srv)
	fmt.Fprintf(conn, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", DefaultMaxBody+1)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, resp.StatusCode, resp.Header, resp.Body, 413, api.CodeTooLarge, "16777216 bytes")

	// Sent whole, before anything is read.
	conn = dial(t, srv)
	fmt.Fprintf(conn, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", DefaultMaxBody+1)
	if _, err := conn.Write(make([]byte, DefaultMaxBody+1)); err != nil {
		t.Fatalf("send the body: %v", err)
	}
	resp, err = http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, resp.StatusCode, resp.Header, resp.Body, 413, api.CodeTooLarge, "")
}

// A client that sends all of a refused body before it reads gets the answer. The
// connection is then closed.
func TestUnreadBodies(t *testing.T) {
	large := strings.Repeat(" ", 4<<20)
	m := newMux(Config{MaxBody: 1 << 20, MaxBodyMemory: 1})
	m.hosts = newHostPolicy(nil, nil, nil)
	srv := serve(t, m)
	for name, tt := range map[string]struct {
		header, body string
		status       int
		code         string
	}{
		"media type":   {"Content-Type: text/plain", large, 415, api.CodeMediaType},
		"compressed":   {"Content-Type: application/json\r\nContent-Encoding: gzip", large, 415, api.CodeMediaType},
		"too large":    {"Content-Type: application/json", large, 413, api.CodeTooLarge},
		"no room":      {"Content-Type: application/json", large[:1<<20], 503, api.CodeOverloaded},
		"origin":       {"Origin: http://evil.example", large, 403, api.CodeForbidden},
		"large header": {"X-Filler: " + strings.Repeat("x", maxHeader), large, 431, api.CodeHeadersTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, srv)
			fmt.Fprintf(conn, "POST /echo HTTP/1.1\r\nHost: localhost\r\n%s\r\nContent-Length: %d\r\n\r\n", tt.header, len(tt.body))
			if _, err := io.WriteString(conn, tt.body); err != nil {
				t.Fatalf("send the body: %v", err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			wantError(t, resp.StatusCode, resp.Header, resp.Body, tt.status, tt.code, "")
			if !resp.Close {
				t.Error("the connection is kept")
			}
		})
	}
}

func TestBodySizes(t *testing.T) {
	const limit = 600_000
	srv := serve(t, newMux(Config{MaxBody: limit}))
	for _, size := range []int{100, pooled - 1, pooled, pooled + 1, bodyPiece - 1, bodyPiece, bodyPiece + 1, 500_000, limit, limit + 1, 2 * limit} {
		for _, chunked := range []bool{false, true} {
			text := `"` + strings.Repeat("x", size-2) + `"`
			body := io.Reader(strings.NewReader(text))
			if chunked {
				body = io.MultiReader(body) // of unknown length
			}
			resp, err := http.Post(srv.URL+"/echo", "application/json", body)
			if err != nil {
				t.Fatal(err)
			}
			if size > limit {
				wantError(t, resp.StatusCode, resp.Header, resp.Body, 413, api.CodeTooLarge, "")
			} else if got, err := io.ReadAll(resp.Body); err != nil || string(got) != text {
				t.Errorf("size %d, chunked %v: %d bytes, %v", size, chunked, len(got), err)
			}
			resp.Body.Close()
		}
	}
}

// Large bodies are bounded together, whatever their requests end with. Small ones
// always pass.
func TestLargeBodiesAreBounded(t *testing.T) {
	began, release := make(chan struct{}), make(chan struct{})
	srv := serve(t, newMux(Config{MaxBodyMemory: 1 << 20}, Post("/hold", Call, func(w *Response, r *http.Request) error {
		body, err := w.ReadJSON(r)
		if err != nil {
			return err
		}
		if len(body.Bytes) > pooled {
			began <- struct{}{}
			<-release
		}
		return well(w, r)
	})))
	large := strings.Repeat("x", 600<<10)
	for range 2 { // the second time shows that all was given back
		done := make(chan *http.Response)
		go func() { done <- post(t, srv.URL+"/hold", large) }()
		<-began
		for range 3 {
			resp := post(t, srv.URL+"/hold", large)
			wantError(t, resp.StatusCode, resp.Header, resp.Body, 503, api.CodeOverloaded, "large")
			if resp.Header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		}
		if resp := post(t, srv.URL+"/hold", `{}`); resp.StatusCode != 200 {
			t.Errorf("a small request gave %s", resp.Status)
		}
		release <- struct{}{}
		if resp := <-done; resp.StatusCode != 200 {
			t.Errorf("the first large request gave %s", resp.Status)
		}
	}
}

func TestCutBody(t *testing.T) {
	conn := dial(t, serve(t, newMux(Config{})))
	fmt.Fprintf(conn, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{}")
	_ = conn.CloseWrite()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, resp.StatusCode, resp.Header, resp.Body, 400, api.CodeBadRequest, "ended too soon")
}

func TestSlowBody(t *testing.T) {
	conn := dial(t, serve(t, newMux(Config{}), func(s *http.Server) { s.ReadTimeout = 50 * time.Millisecond }))
	fmt.Fprintf(conn, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, resp.StatusCode, resp.Header, resp.Body, 408, api.CodeSlowRequest, "slowly")
	if _, err := io.ReadAll(conn); err != nil {
		t.Errorf("the connection stays open: %v", err)
	}
}

// The bytes that Keep returns stay valid when the buffer is reused.
func TestKeep(t *testing.T) {
	for _, size := range []int{0, 10, pooled, pooled + 1} {
		var kept [2][]byte
		m := newMux(Config{}, Post("/keep/{i}", Call, func(w *Response, r *http.Request) error {
			body, err := w.ReadBody(r)
			kept[r.PathValue("i")[0]-'0'] = body.Keep()
			body.Free()
			return err
		}))
		do(m, "POST", "/keep/0", strings.Repeat("a", size))
		do(m, "POST", "/keep/1", strings.Repeat("b", size))
		if string(kept[0]) != strings.Repeat("a", size) || string(kept[1]) != strings.Repeat("b", size) {
			t.Errorf("%d bytes: kept %.20q and %.20q", size, kept[0], kept[1])
		}
	}
}

// Pipelined requests are answered in order.
func TestPipelining(t *testing.T) {
	conn := dial(t, serve(t, newMux(Config{})))
	const n = 20
	for i := range n {
		body := fmt.Sprintf(`{"i":%d}`, i)
		fmt.Fprintf(conn, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	r := bufio.NewReader(conn)
	for i := range n {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if want := fmt.Sprintf(`{"i":%d}`, i); err != nil || string(got) != want {
			t.Errorf("got %s, %v; want %s", got, err, want)
		}
	}
}
