package httpapi

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
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

// Streams are not compressed, so that nothing delays them. A 304 has no body.
func TestStreamsAreNotCompressed(t *testing.T) {
	f := newFixture()
	f.events.record("started", "main")
	f.state.replicas = []api.Replica{{ID: "r1"}}
	f.config.Logs = logsFunc(func(ctx context.Context, _ fleet.ReplicaID, _ int, _ bool, on func([]fleet.LogLine) error) error {
		if err := on([]fleet.LogLine{{Text: "line"}}); err != nil {
			return err
		}
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
	for i := range 10 {
		f.state.servers = append(f.state.servers, api.Server{Name: fleet.ServerName(fmt.Sprint("s", i)), Spec: []byte(`{"image":"x"}`), Reason: strings.Repeat("why ", 50)})
	}
	if w := f.do("GET", "/api/v1/servers", "", "Accept-Encoding", "gzip"); w.Header().Get("Content-Encoding") != "gzip" || w.Header().Get("Etag") != tag {
		t.Errorf("got %d %v, want it compressed with the ETag %s", w.Code, w.Header(), tag)
	}
	if w := f.do("GET", "/api/v1/servers", "", "If-None-Match", tag, "Accept-Encoding", "gzip"); w.Code != http.StatusNotModified || w.Body.Len() > 0 || w.Header().Get("Content-Encoding") != "" {
		t.Errorf("got %d %v %q", w.Code, w.Header(), w.Body)
	}
}

// A follower compresses the leader's answer for its client.
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
