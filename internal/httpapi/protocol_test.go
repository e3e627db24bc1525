package httpapi

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// What net/http refuses by itself is told as all errors are.
func TestRefusalsOfNetHTTP(t *testing.T) {
	// No refusal waits for the end of this time.
	srv := newFixture().serve(t, func(s *http.Server) { s.ReadHeaderTimeout = time.Hour })
	filled := func(size int) string {
		head := "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Filler: "
		const end = "\r\n\r\n"
		return head + strings.Repeat("f", size-len(head)-len(end)) + end
	}
	for name, tt := range map[string]struct {
		request      string
		status       int
		code, detail string
	}{
		"no HTTP":                 {"hello, who is there?\r\n\r\n", 400, api.CodeBadRequest, "no valid HTTP"},
		"a line and no more":      {"GET /\r\n", 400, api.CodeBadRequest, "no valid HTTP"},
		"one letter":              {"?\n", 400, api.CodeBadRequest, "no valid HTTP"},
		"TLS":                     {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x01\r\n\r\n", 400, api.CodeBadRequest, "no valid HTTP"},
		"no Host":                 {"GET /tools HTTP/1.1\r\n\r\n", 400, api.CodeBadRequest, "missing required Host header"},
		"two Hosts":               {"GET /tools HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, api.CodeBadRequest, ""},
		"malformed Host":          {"GET /tools HTTP/1.1\r\nHost: a b\r\n\r\n", 400, api.CodeBadRequest, "malformed Host header"},
		"bad path":                {"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400, api.CodeBadRequest, "no valid HTTP"},
		"bad header name":         {"GET /tools HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n", 400, api.CodeBadRequest, ""},
		"bad header value":        {"GET /tools HTTP/1.1\r\nHost: x\r\nA: \x01\r\n\r\n", 400, api.CodeBadRequest, ""},
		"bad length":              {"POST /call HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n", 400, api.CodeBadRequest, ""},
		"transfer encoding":       {"POST /call HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501, api.CodeBadRequest, "Transfer-Encoding"},
		"version":                 {"GET /tools HTTP/3.7\r\nHost: x\r\n\r\n", 505, api.CodeBadRequest, "HTTP/1.1"},
		"expectation":             {"POST /call HTTP/1.1\r\nHost: x\r\nExpect: more\r\nContent-Length: 2\r\n\r\n", 417, api.CodeBadRequest, "100-continue"},
		"64 KiB of headers":       {filled(64 << 10), 200, "", ""},
		"more headers":            {filled(64<<10 + 1), 431, api.CodeHeadersTooLarge, "65536 bytes"},
		"far more headers":        {filled(1 << 20), 431, api.CodeHeadersTooLarge, "65536 bytes"},
		"after a good request":    {"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /tools HTTP/1.1\r\n\r\n", 400, api.CodeBadRequest, "Host"},
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
			if strings.HasPrefix(tt.request, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET") {
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

// What a handler writes is never taken for an answer of net/http, whatever it
// looks like.
func TestHandlersWriteWhatTheyLike(t *testing.T) {
	const like = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request"
	f := newFixture()
	f.state.replicas = []api.Replica{{ID: "r1"}}
	f.config.Logs = logsFunc(func(_ context.Context, _ fleet.ReplicaID, _ int, _ bool, on func(fleet.LogLine)) error {
		for range 1000 {
			on(fleet.LogLine{Text: like})
		}
		return nil
	})
	f.config.Registry = nil
	f.build()
	srv := f.serve(t)
	for range 3 { // over one connection
		resp, err := http.Get(srv.URL + "/api/v1/replicas/r1/logs?follow")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(body) != strings.Repeat(like+"\n", 1000) {
			t.Errorf("got %d bytes, %v", len(body), err)
		}
	}
}

// HTTP/2 without TLS serves calls, errors and streams as HTTP/1.1 does.
func TestHTTP2WithoutTLS(t *testing.T) {
	f := newFixture()
	f.events.record("started", "main")
	srv := f.serve(t)
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	send := func(method, path, media, body string) *http.Response {
		t.Helper()
		req, _ := http.NewRequestWithContext(t.Context(), method, srv.URL+path, strings.NewReader(body))
		req.Header.Set("Content-Type", media)
		req.Header.Set("Accept", "text/event-stream")
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
		resp := send("POST", "/call", "application/json", `{"tool_args":{"a":"`+text+`"}}`)
		if got, err := io.ReadAll(resp.Body); err != nil || string(got) != `{"result":{"name":"echo","arguments":{"a":"`+text+`"}}}` {
			t.Errorf("a call of %d bytes: %.80s, %v", len(text), got, err)
		}
	}
	resp := send("POST", "/call", "text/plain", `{}`)
	wantError(t, resp.StatusCode, resp.Header, resp.Body, 415, api.CodeMediaType, "text/plain")
	resp = send("POST", "/call", "application/json", strings.Repeat(" ", web.DefaultMaxBody+1))
	wantError(t, resp.StatusCode, resp.Header, resp.Body, 413, api.CodeTooLarge, "")
	stream := bufio.NewReader(send("GET", "/api/v1/events", "", "").Body)
	for _, id := range []string{"3-1", "3-2"} {
		if line, err := stream.ReadString('\n'); line != "id: "+id+"\n" {
			t.Fatalf("got %q, %v", line, err)
		}
		for range 2 {
			if _, err := stream.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		f.events.record("stopped", fmt.Sprint("of ", id))
	}
}
