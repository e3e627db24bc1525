package web

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

// Refusals by net/http itself have the form of all errors.
func TestRefusalsOfNetHTTP(t *testing.T) {
	// No refusal waits for the end of this time.
	srv := serve(t, newMux(Config{}), func(s *http.Server) { s.ReadHeaderTimeout = time.Hour })
	filled := func(size int) string {
		head := "GET /well HTTP/1.1\r\nHost: x\r\nX-Filler: "
		const end = "\r\n\r\n"
		return head + strings.Repeat("f", size-len(head)-len(end)) + end
	}
	for name, tt := range map[string]struct {
		request      string
		status       int
		code, detail string
	}{
		"not HTTP":                {"hello, who is there?\r\n\r\n", 400, api.CodeBadRequest, "not valid HTTP"},
		"a line and no more":      {"GET /\r\n", 400, api.CodeBadRequest, "not valid HTTP"},
		"one letter":              {"?\n", 400, api.CodeBadRequest, "not valid HTTP"},
		"TLS":                     {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x01\r\n\r\n", 400, api.CodeBadRequest, "not valid HTTP"},
		"no Host":                 {"GET /well HTTP/1.1\r\n\r\n", 400, api.CodeBadRequest, "missing required Host header"},
		"two Hosts":               {"GET /well HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, api.CodeBadRequest, ""},
		"malformed Host":          {"GET /well HTTP/1.1\r\nHost: a b\r\n\r\n", 400, api.CodeBadRequest, "malformed Host header"},
		"bad path":                {"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400, api.CodeBadRequest, "not valid HTTP"},
		"bad header name":         {"GET /well HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n", 400, api.CodeBadRequest, ""},
		"bad header value":        {"GET /well HTTP/1.1\r\nHost: x\r\nA: \x01\r\n\r\n", 400, api.CodeBadRequest, ""},
		"bad length":              {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n", 400, api.CodeBadRequest, ""},
		"transfer encoding":       {"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501, api.CodeBadRequest, "Transfer-Encoding"},
		"version":                 {"GET /well HTTP/3.7\r\nHost: x\r\n\r\n", 505, api.CodeBadRequest, "HTTP/1.1"},
		"expectation":             {"POST /echo HTTP/1.1\r\nHost: x\r\nExpect: more\r\nContent-Length: 2\r\n\r\n", 417, api.CodeBadRequest, "100-continue"},
		"64 KiB of headers":       {filled(64 << 10), 200, "", ""},
		"more headers":            {filled(maxHeader + 1), 431, api.CodeHeadersTooLarge, "65536 bytes"},
		"far more headers":        {filled(1 << 20), 431, api.CodeHeadersTooLarge, "65536 bytes"},
		"after a good request":    {"GET /well HTTP/1.1\r\nHost: x\r\n\r\nGET /well HTTP/1.1\r\n\r\n", 400, api.CodeBadRequest, "Host"},
		"CONNECT, by the handler": {"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n", 404, api.CodeNotFound, ""},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
			go func() { _, _ = io.WriteString(conn, tt.request) }() // it may be refused half way
			r := bufio.NewReader(conn)
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(tt.request, "GET /well HTTP/1.1\r\nHost: x\r\n\r\nGET") {
				if body, err := io.ReadAll(resp.Body); resp.StatusCode != 200 || string(body) != "{\"status\":\"ok\"}\n" || err != nil {
					t.Fatalf("the first: %s %s %v", resp.Status, body, err)
				}
				if resp, err = http.ReadResponse(r, nil); err != nil {
					t.Fatal(err)
				}
			}
			if tt.status == 200 {
				if resp.StatusCode != 200 {
					t.Errorf("got %s", resp.Status)
				}
				return
			}
			wantError(t, resp.StatusCode, resp.Header, resp.Body, tt.status, tt.code, tt.detail)
			if tt.status != 404 && !resp.Close {
				t.Error("the connection is kept")
			}
		})
	}
}

// The answer of a handler is never replaced, even if it looks like one of net/http.
func TestHandlersWriteWhatTheyLike(t *testing.T) {
	const like = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request"
	srv := serve(t, newMux(Config{}, Get("/x", Read, func(w *Response, _ *http.Request) error {
		for range 1000 {
			_, _ = io.WriteString(w, like)
			if err := w.Flush(); err != nil {
				return err
			}
		}
		return nil
	})))
	for range 3 { // over one connection
		resp, err := http.Get(srv.URL + "/x")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(body) != strings.Repeat(like, 1000) {
			t.Errorf("got %d bytes, %v", len(body), err)
		}
	}
}

// HTTP/2 without TLS serves values, errors and streams as HTTP/1.1 does.
func TestHTTP2WithoutTLS(t *testing.T) {
	lines := make(chan string, 1)
	srv := serve(t, newMux(Config{}, Get("/stream", Read, func(w *Response, r *http.Request) error {
		w.Begin(http.StatusOK, "text/plain", -1)
		for {
			select {
			case line := <-lines:
				_, _ = io.WriteString(w, line)
				if err := w.Flush(); err != nil {
					return err
				}
			case <-r.Context().Done():
				return nil
			}
		}
	})))
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	send := func(method, path, media, body string) *http.Response {
		t.Helper()
		req, _ := http.NewRequestWithContext(t.Context(), method, srv.URL+path, strings.NewReader(body))
		req.Header.Set("Content-Type", media)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		if resp.Proto != "HTTP/2.0" {
			t.Errorf("%s %s: %s", method, path, resp.Proto)
		}
		return resp
	}
	for i := range 20 {
		text := strings.Repeat("x", i*10_000)
		resp := send("POST", "/echo", "application/json", text)
		if got, err := io.ReadAll(resp.Body); err != nil || string(got) != text {
			t.Errorf("a body of %d bytes: %.80s, %v", len(text), got, err)
		}
	}
	resp := send("POST", "/echo", "text/plain", `{}`)
	wantError(t, resp.StatusCode, resp.Header, resp.Body, 415, api.CodeMediaType, "text/plain")
	resp = send("POST", "/echo", "application/json", strings.Repeat(" ", DefaultMaxBody+1))
	wantError(t, resp.StatusCode, resp.Header, resp.Body, 413, api.CodeTooLarge, "")
	lines <- "one\n"
	stream := send("GET", "/stream", "", "")
	read := bufio.NewReader(stream.Body)
	for _, want := range []string{"one\n", "two\n"} {
		if line, err := read.ReadString('\n'); line != want {
			t.Fatalf("got %q, %v", line, err)
		}
		lines <- "two\n"
	}
	stream.Body.Close()
}
