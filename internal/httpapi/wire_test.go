package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func post(t *testing.T, url, body string) *http.Response {
	t.Helper()
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// A full queue refuses a call whose body has not come, and keeps the connection of
// a client whose body is small.
func TestOverloadedBeforeTheBody(t *testing.T) {
	for _, c := range []struct {
		name  string
		size  int
		sent  string // of the body
		close bool
	}{
		{name: "nothing of a large body has come", size: 1 << 20, close: true},
		{name: "a small body that is not JSON", size: 9, sent: "{{{{{{{{{"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture()
			f.router.full = busyError{fleet.ErrOverloaded}
			srv := f.serve(t)
			conn, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			answers := bufio.NewReader(conn)
			for range 2 {
				fmt.Fprintf(conn, "POST /call HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", c.size, c.sent)
				resp, err := http.ReadResponse(answers, nil)
				if err != nil {
					t.Fatal(err)
				}
				wantError(t, resp.StatusCode, resp.Header, resp.Body, 503, api.CodeOverloaded, "")
				if got := resp.Header.Get("Retry-After"); got != "3" {
					t.Errorf("Retry-After %q, want 3", got)
				}
				if resp.Close != c.close {
					t.Fatalf("the connection is closed: %v, want %v", resp.Close, c.close)
				}
				if c.close {
					return
				}
			}
		})
	}
}

// A client that leaves ends its call.
func TestClientLeaves(t *testing.T) {
	f := newFixture()
	began, ended := make(chan struct{}), make(chan error, 1)
	f.router.f = func(ctx context.Context, _ fleet.Call) (fleet.CallResult, error) {
		close(began)
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return fleet.CallResult{}, fmt.Errorf("worker says: %w", fleet.ErrReplicaLost)
	}
	srv := f.serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "POST", srv.URL+"/call", strings.NewReader(`{"tool_args":{}}`))
	req.Header.Set("Content-Type", "application/json")
	go func() {
		<-began
		cancel()
	}()
	if resp, err := http.DefaultClient.Do(req); err == nil {
		resp.Body.Close()
		t.Fatalf("answered %s", resp.Status)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("call ended with %v", err)
	}
	waitFor(t, "the request to be counted", func() bool {
		return strings.Contains(f.do("GET", "/metrics", "").Body.String(), `{route="/call",status="499"} 1`)
	})
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
		time.Sleep(time.Millisecond) // poll
	}
}

func TestReadTimeoutDoesNotEndCalls(t *testing.T) {
	f := newFixture()
	release := make(chan struct{})
	f.router.f = func(ctx context.Context, _ fleet.Call) (fleet.CallResult, error) {
		select {
		case <-release:
			return fleet.CallResult{Result: []byte("{}")}, nil
		case <-ctx.Done():
			return fleet.CallResult{}, context.Cause(ctx)
		}
	}
	f.state.replicas = []api.Replica{{ID: "r1"}}
	f.config.Logs = logsFunc(func(ctx context.Context, _ fleet.ReplicaID, _ int, _ bool, on func([]fleet.LogLine) error) error {
		if err := on(nil); err != nil {
			return err
		}
		select {
		case <-release:
			return on([]fleet.LogLine{{Text: "late"}})
		case <-ctx.Done():
		}
		return nil
	})
	f.config.Registry = nil
	f.build()
	const timeout = 100 * time.Millisecond
	srv := f.serve(t, func(s *http.Server) { s.ReadTimeout = timeout })
	time.AfterFunc(4*timeout, func() { close(release) })
	var wg sync.WaitGroup
	wg.Go(func() {
		resp := post(t, srv.URL+"/call", `{"tool_args":{}}`)
		if got, err := io.ReadAll(resp.Body); resp.StatusCode != 200 || string(got) != `{"result":{}}` {
			t.Errorf("call: %s %s %v", resp.Status, got, err)
		}
	})
	wg.Go(func() {
		resp, err := http.Get(srv.URL + "/api/v1/replicas/r1/logs?follow")
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		if got, err := io.ReadAll(resp.Body); string(got) != "late\n" {
			t.Errorf("logs: %q %v", got, err)
		}
	})
	wg.Wait()
}

// brokenResult is a result that breaks off.
type brokenResult struct {
	io.Reader
	err    error
	closed bool
}

func (b *brokenResult) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		err = b.err
	}
	return n, err
}

func (b *brokenResult) Close() error {
	b.closed = true
	return nil
}

// A reader of logs lasts as long as its client, but no longer than the
// controller.
func TestLogsEndWhenTheControllerStops(t *testing.T) {
	f := newFixture()
	f.config.Logs = logsFunc(func(ctx context.Context, _ fleet.ReplicaID, _ int, _ bool, on func([]fleet.LogLine) error) error {
		if err := on([]fleet.LogLine{{Text: "one"}}); err != nil {
			return err
		}
		<-ctx.Done()
		return context.Cause(ctx)
	})
	f.config.Registry = nil
	f.build()
	srv := f.serve(t)
	resp, err := http.Get(srv.URL + "/api/v1/replicas/r1/logs?follow=true")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	if !lines.Scan() || lines.Text() != "one" {
		t.Fatalf("got %q, %v", lines.Text(), lines.Err())
	}
	f.stop()
	if lines.Scan() {
		t.Errorf("got %q", lines.Text())
	}
	if lines.Err() == nil {
		t.Error("the answer is whole, though the replica goes on")
	}
}

func TestLogs(t *testing.T) {
	f := newFixture()
	more := make(chan string)
	var asked []string
	f.config.Logs = logsFunc(func(ctx context.Context, id fleet.ReplicaID, tail int, follow bool, on func([]fleet.LogLine) error) error {
		asked = append(asked, fmt.Sprint(id, " ", tail, " ", follow))
		if id == "gone" {
			return fmt.Errorf("%w %q", fleet.ErrUnknownReplica, id)
		}
		if err := on(nil); err != nil {
			return err
		}
		switch id {
		case "silent":
			return nil
		case "lost":
			return fleet.ErrReplicaLost
		case "cut":
			return errors.Join(on([]fleet.LogLine{{Text: "one"}}), errors.New("stream broke"))
		}
		err := on([]fleet.LogLine{{Text: "one", Time: time.Unix(1, 5)}, {Text: "two <&>"}})
		for follow && err == nil {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case text := <-more:
				err = on([]fleet.LogLine{{Text: text}})
			}
		}
		return err
	})
	f.config.Registry = nil
	f.build()
	for path, want := range map[string]string{
		"r1/logs":                     "one\ntwo <&>\n",
		"r1/logs?tail=7&follow=false": "one\ntwo <&>\n",
		"r1/logs?tail=99999999999":    "one\ntwo <&>\n",
		"r1/logs?timestamps=true":     "1970-01-01T00:00:01.000000005Z one\n- two <&>\n",
		"silent/logs":                 "",
		"silent/logs?follow":          "",
	} {
		w := f.do("GET", "/api/v1/replicas/"+path, "")
		if w.Code != 200 || w.Body.String() != want || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%s: got %d %q %v, want %q", path, w.Code, w.Body, w.Header(), want)
		}
	}
	for _, want := range []string{"r1 0 false", "r1 7 false", "r1 2147483647 false", "silent 0 true"} {
		if !slices.Contains(asked, want) {
			t.Errorf("asked for %q, want %q among them", asked, want)
		}
	}
	for path, want := range map[string]string{"gone/logs?follow": api.CodeUnknownReplica, "lost/logs": api.CodeReplicaLost} {
		if w := f.do("GET", "/api/v1/replicas/"+path, ""); !strings.Contains(w.Body.String(), want) || w.Code < 400 {
			t.Errorf("%s: got %d %q, want %s", path, w.Code, w.Body, want)
		}
	}

	srv := f.serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", srv.URL+"/api/v1/replicas/r1/logs?follow=true", nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for _, want := range []string{"one", "two <&>", "three", "four"} {
		if want == "three" || want == "four" {
			more <- want
		}
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("got %q, %v; want %q", lines.Text(), lines.Err(), want)
		}
	}
	cancel() // the cleanup waits for the handler to end

	if resp, err := http.Get(srv.URL + "/api/v1/replicas/cut/logs"); err == nil {
		if got, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("broken lines look whole: %q", got)
		}
		resp.Body.Close()
	}
}

// The pooled buffers of bodies are never mixed up.
func TestManyBodiesAtOnce(t *testing.T) {
	f := newFixture()
	var wg sync.WaitGroup
	f.router = &routed{}
	f.config.Router = routerFunc(func(_ context.Context, c fleet.Call) (fleet.CallResult, error) {
		time.Sleep(time.Duration(len(c.Params)%3) * time.Microsecond)
		return fleet.CallResult{Result: c.Params}, nil
	})
	f.config.Registry = nil
	f.build()
	for c := range 16 {
		wg.Go(func() {
			for i := range 100 {
				text := strings.Repeat(fmt.Sprint(c, "-", i, " "), 1+i*20)
				w := f.do("POST", "/call", `{"tool_args":{"t":"`+text+`"}}`)
				if want := `{"result":{"name":"echo","arguments":{"t":"` + text + `"}}}`; w.Body.String() != want {
					t.Errorf("got %.80s, want %.80s", w.Body, want)
				}
			}
		})
	}
	wg.Wait()
}

type routerFunc func(context.Context, fleet.Call) (fleet.CallResult, error)

func (routerFunc) Await(context.Context, fleet.ServerName, time.Duration, time.Time) error {
	return nil
}

func (routerFunc) Admit(fleet.ServerName) error { return nil }

func (f routerFunc) Call(ctx context.Context, c fleet.Call) (fleet.CallResult, error) {
	return f(ctx, c)
}

func BenchmarkCall(b *testing.B) {
	result := []byte(`{"content":[{"type":"text","text":"` + strings.Repeat("x", 1024) + `"}]}`)
	f := newFixture(func(c *config) {
		c.Router = routerFunc(func(context.Context, fleet.Call) (fleet.CallResult, error) {
			return fleet.CallResult{Result: result}, nil
		})
	})
	body := []byte(`{"tool_name":"echo","tool_args":{"text":"` + strings.Repeat("x", 1024) + `"}}`)
	r, _ := http.NewRequest("POST", "/call", nil)
	r.Header.Set("Content-Type", "application/json")
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
	if w.n == 0 {
		b.Fatal("nothing was written")
	}
}

type sink struct {
	header http.Header
	n      int
}

func (s *sink) Header() http.Header { return s.header }
func (s *sink) WriteHeader(int)     {}
func (s *sink) Write(p []byte) (int, error) {
	s.n += len(p)
	return len(p), nil
}

// A large result is passed on while it arrives, and its stream is closed.
func TestStreamedResults(t *testing.T) {
	large := `{"content":"` + strings.Repeat("0123456789", 300_000) + `"}`
	for _, tc := range []struct {
		name   string
		text   string
		err    error
		status int
		whole  bool
	}{
		{"whole", large, io.EOF, 200, true},
		{"breaks half way", large[:1_000_000], fleet.ErrReplicaLost, 200, false},
		{"never begins", "", fleet.ErrReplicaLost, 502, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture()
			b := &brokenResult{Reader: strings.NewReader(tc.text), err: tc.err}
			f.router.f = func(context.Context, fleet.Call) (fleet.CallResult, error) {
				return fleet.CallResult{Stream: b, StreamSize: int64(len(large))}, nil
			}
			srv := f.serve(t)
			resp := post(t, srv.URL+"/call", `{"tool_args":{}}`)
			got, err := io.ReadAll(resp.Body)
			if whole := err == nil && string(got) == `{"result":`+large+`}`; resp.StatusCode != tc.status || whole != tc.whole || tc.status == 200 && (err == nil) != tc.whole {
				t.Errorf("got %d, %d bytes, %v", resp.StatusCode, len(got), err)
			}
			srv.Close()
			if !b.closed {
				t.Error("the result's stream was not closed")
			}
		})
	}
}
