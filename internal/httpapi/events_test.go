package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

func TestEventList(t *testing.T) {
	f := newFixture()
	f.events.keep = 5
	w := f.do("GET", "/api/v1/events", "")
	if want := `{"events":[],"gap":false,"last":""}` + "\n"; w.Code != 200 || w.Body.String() != want {
		t.Errorf("none: got %d %s", w.Code, w.Body)
	}
	for i := range 7 { // 3-1 to 3-7, of which 3-3 to 3-7 are kept
		f.events.record([]string{"started", "stopped"}[i%2], []string{"a", "a", "b"}[i%3])
	}
	for _, tc := range []struct {
		query string
		ids   string
		gap   bool
	}{
		{"", "3-3 3-4 3-5 3-6 3-7", false},
		{"?limit=2", "3-6 3-7", false},
		{"?limit=0", "", false},
		{"?since=3-5", "3-6 3-7", false},
		{"?since=3-7", "", false},
		{"?since=3-3&limit=1", "3-7", true}, // what is missing in between was asked for
		{"?since=3-1", "3-3 3-4 3-5 3-6 3-7", true},
		{"?since=nonsense", "3-3 3-4 3-5 3-6 3-7", true},
		{"?server=b", "3-3 3-6", false},
		{"?kind=started", "3-3 3-5 3-7", false},
		{"?kind=started&kind=stopped", "3-3 3-4 3-5 3-6 3-7", false},
		{"?kind=other,stopped&server=a", "3-4", false},
		{"?server=b&limit=1", "3-6", false},
	} {
		got := wantOK[api.Events](t, f.do("GET", "/api/v1/events"+tc.query, ""), 200)
		var ids []string
		for _, e := range got.Events {
			ids = append(ids, e.ID)
		}
		if strings.Join(ids, " ") != tc.ids || got.Gap != tc.gap || got.Last != "3-7" {
			t.Errorf("%s: got %v, gap %v, last %s; want %s, %v", tc.query, ids, got.Gap, got.Last, tc.ids, tc.gap)
		}
	}
	for _, q := range []string{"limit=-1", "limit=x", "limit=10001", "since=a%0ab", "since=" + strings.Repeat("9", 65)} {
		name, _, _ := strings.Cut(q, "=")
		w := f.do("GET", "/api/v1/events?"+q, "")
		wantError(t, w.Code, w.Header(), w.Body, 400, api.CodeBadRequest, name)
		w = f.do("GET", "/api/v1/events?"+q, "", "Accept", "text/event-stream")
		wantError(t, w.Code, w.Header(), w.Body, 400, api.CodeBadRequest, name)
	}
}

// stream opens a stream of events and returns its frames, each without the
// empty line at its end.
func stream(t *testing.T, f *fixture, url string, headers ...string) (next func() string) {
	t.Helper()
	srv := f.serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "GET", srv.URL+url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html, text/event-stream;q=0.9")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("got %s %v", resp.Status, resp.Header)
	}
	lines := bufio.NewScanner(resp.Body)
	return func() string {
		var frame []string
		for lines.Scan() {
			if lines.Text() == "" {
				return strings.Join(frame, "\n")
			}
			frame = append(frame, lines.Text())
		}
		if err := lines.Err(); err != nil {
			return err.Error()
		}
		return "end"
	}
}

// wantFrame checks a frame with an event.
func wantFrame(t *testing.T, frame, id, kind string) {
	t.Helper()
	if kind == api.EventGap {
		rest, ok := strings.CutPrefix(frame, "event: gap\ndata: ")
		var e api.Event
		if !ok || json.Unmarshal([]byte(rest), &e) != nil || e.Kind != "gap" || e.ID != "" || e.Message == "" {
			t.Fatalf("got %q, want a gap", frame)
		}
		return
	}
	rest, ok := strings.CutPrefix(frame, "id: "+id+"\ndata: ")
	var e api.Event
	if !ok || json.Unmarshal([]byte(rest), &e) != nil || e.ID != id || string(e.Kind) != kind {
		t.Fatalf("got %q, want %s %s", frame, id, kind)
	}
}

func TestEventStream(t *testing.T) {
	f := newFixture()
	f.events.keep = 3
	for range 4 {
		f.events.record("started", "a")
	}
	next := stream(t, f, "/api/v1/events?limit=2&server=a")
	wantFrame(t, next(), "3-3", "started")
	wantFrame(t, next(), "3-4", "started")
	f.events.record("started", "b") // not wanted
	f.events.record("stopped", "a")
	wantFrame(t, next(), "3-6", "stopped")
	f.stop()
	if got := next(); got != "end" {
		t.Errorf("after the stop: %q", got)
	}
}

func TestEventStreamResumes(t *testing.T) {
	for _, tc := range []struct {
		name, query string
		headers     []string
		want        []string // ids, or gap
	}{
		{"from the start", "", nil, []string{"3-2", "3-3", "3-4"}},
		{"since", "?since=3-3", nil, []string{"3-4"}},
		{"the header counts", "?since=3-2&limit=1", []string{"Last-Event-ID", "3-2"}, []string{"3-3", "3-4"}},
		{"unknown id", "", []string{"Last-Event-ID", "2-77"}, []string{"gap", "3-2", "3-3", "3-4"}},
		{"no id at all", "", []string{"Last-Event-ID", "?!"}, []string{"gap", "3-2", "3-3", "3-4"}},
		{"too old", "?since=3-1&kind=stopped", nil, []string{"gap"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture()
			f.events.keep = 3
			for range 4 {
				f.events.record("started", "a")
			}
			next := stream(t, f, "/api/v1/events"+tc.query, tc.headers...)
			for _, id := range tc.want {
				kind := "started"
				if id == "gap" {
					kind = api.EventGap
				}
				wantFrame(t, next(), id, kind)
			}
			f.events.record("stopped", "z")
			wantFrame(t, next(), "3-5", "stopped")
		})
	}
}

// A gap in a log without events is reported once.
func TestGapOfAnEmptyLog(t *testing.T) {
	f := newFixture()
	next := stream(t, f, "/api/v1/events", "Last-Event-ID", "9-9")
	wantFrame(t, next(), "", api.EventGap)
	f.events.record("started", "a")
	wantFrame(t, next(), "3-1", "started")
}

// A heartbeat has the id of the newest event, if the client did not select that.
func TestHeartbeat(t *testing.T) {
	f := newFixture()
	f.events.record("started", "b")
	w := &frames{header: http.Header{}}
	s := eventStream{w: &web.Response{ResponseWriter: w}, o: eventOptions{server: "a", limit: -1}}
	if err := s.writeNew(f.events); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{": heartbeat\nid: 3-1\n\n", ": heartbeat\n\n"} {
		w.text.Reset()
		if err := s.beat(); err != nil || w.text.String() != want {
			t.Errorf("got %q, %v; want %q", w.text.String(), err, want)
		}
	}
}

type frames struct {
	header http.Header
	text   strings.Builder
}

func (f *frames) Header() http.Header         { return f.header }
func (f *frames) WriteHeader(int)             {}
func (f *frames) Write(p []byte) (int, error) { return f.text.Write(p) }
func (f *frames) Flush()                      {}

// A client that stops reading is cut off, however many events come.
func TestSlowEventReader(t *testing.T) {
	f := newFixture()
	f.events.keep = 10
	ended := make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		f.handler.ServeHTTP(hasty{w}, r)
	})
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	defer func() { srv.Close(); <-done }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	fmt.Fprint(conn, "GET /api/v1/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
	long := strings.Repeat("x", 64<<10)
	limit := time.After(time.Minute)
	for {
		select {
		case <-ended:
			return
		case <-limit:
			t.Fatal("the stream is still open")
		default:
			f.events.record("started", long)
		}
	}
}

// hasty gives every write a short deadline.
type hasty struct{ http.ResponseWriter }

func (h hasty) Unwrap() http.ResponseWriter { return h.ResponseWriter }

func (h hasty) SetWriteDeadline(time.Time) error {
	return http.NewResponseController(h.ResponseWriter).SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
}

func (h hasty) Flush() { _ = http.NewResponseController(h.ResponseWriter).Flush() }

func (h hasty) FlushError() error { return http.NewResponseController(h.ResponseWriter).Flush() }

// The Go client follows events across a restart of its controller.
func TestFollowEvents(t *testing.T) {
	f := newFixture()
	var broken int
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := web.NewServer(t.Context(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if broken++; broken%2 == 0 {
			panic(http.ErrAbortHandler)
		}
		ctx, cancel := context.WithTimeout(r.Context(), 100*time.Millisecond)
		defer cancel()
		f.handler.ServeHTTP(w, r.WithContext(ctx))
	}), f.config.Log)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	defer func() { srv.Close(); <-done }()
	client, err := api.NewClient(l.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	f.events.record("started", "a")
	var got []string
	err = client.FollowEvents(ctx, api.EventOptions{Limit: 5}, func(e api.Event) {
		got = append(got, e.ID)
		if len(got) == 5 {
			cancel()
			return
		}
		time.AfterFunc(time.Duration(len(got))*60*time.Millisecond, func() { f.events.record("started", "a") })
	})
	if err != nil || strings.Join(got, " ") != "3-1 3-2 3-3 3-4 3-5" {
		t.Errorf("got %v, %v", got, err)
	}
	if err := client.FollowEvents(t.Context(), api.EventOptions{Limit: 10_001}, func(api.Event) {}); err == nil {
		t.Error("a refused request was repeated")
	}
}
