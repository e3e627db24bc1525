package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// logWorld is a fleet with the server web, whose replicas come and go.
type logWorld struct {
	mu       sync.Mutex
	down     bool                // connections break
	replicas []string            // running replicas
	ended    []string            // ended replicas in JSON, newest first
	forgot   bool                // the list lacks the server until it is requested alone
	removed  bool                // the server is removed
	log      map[string][]string // lines with times, by replica
	over     map[string]bool     // the log is complete
	changed  chan struct{}       // closed by a change
}

func (w *logWorld) change(do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do()
	close(w.changed)
	w.changed = make(chan struct{})
}

// ServeHTTP implements http.Handler.
func (w *logWorld) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	down, replicas, ended, removed, forgot := w.down, w.replicas, w.ended, w.removed, w.forgot
	w.mu.Unlock()
	id, isLog := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/api/v1/replicas/"), "/logs")
	switch {
	case down:
		panic(http.ErrAbortHandler)
	case isLog:
		w.serveLog(rw, r, id)
	case r.URL.Path == "/api/v1/replicas":
		var list []string
		for _, id := range replicas {
			list = append(list, fmt.Sprintf(`{"id":%q,"server":"web","phase":"READY"}`, id))
		}
		fmt.Fprintf(rw, `{"replicas":[%s]}`, strings.Join(list, ","))
	case removed && r.URL.Path == "/api/v1/servers/web":
		rw.WriteHeader(http.StatusNotFound)
		io.WriteString(rw, `{"detail":"there is no server web","code":"unknown_server"}`)
	case r.URL.Path == "/api/v1/servers/web":
		io.WriteString(rw, `{"name":"web"}`)
		w.change(func() { w.forgot = false })
	case removed, forgot:
		io.WriteString(rw, `{"servers":[]}`)
	default:
		fmt.Fprintf(rw, `{"servers":[{"name":"web","state":"UNAVAILABLE","reason":"exit code 7","spec":{},"last_ended":[%s]}]}`, strings.Join(ended, ","))
	}
}

// serveLog follows a log until it is complete or the world goes down.
func (w *logWorld) serveLog(rw http.ResponseWriter, r *http.Request, id string) {
	rw.WriteHeader(http.StatusOK)
	sent := 0
	for {
		w.mu.Lock()
		lines, over, down, changed := w.log[id], w.over[id], w.down, w.changed
		w.mu.Unlock()
		if down {
			panic(http.ErrAbortHandler)
		}
		for ; sent < len(lines); sent++ {
			io.WriteString(rw, lines[sent]+"\n")
		}
		rw.(http.Flusher).Flush()
		if over {
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

// lineChan is a writer that sends whole lines on the channel.
type lineChan chan string

func (c lineChan) Write(b []byte) (int, error) {
	for line := range strings.SplitSeq(strings.TrimSuffix(string(b), "\n"), "\n") {
		c <- line
	}
	return len(b), nil
}

func (c lineChan) wants(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		select {
		case got := <-c:
			if !strings.HasPrefix(got, w) {
				t.Errorf("got %q, want %q", got, w)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("no line came, want %q", w)
		}
	}
}

func newLogWorld(t *testing.T) (*logWorld, func(args ...string) (out, stderr lineChan, wait func() error)) {
	w := &logWorld{log: map[string][]string{}, over: map[string]bool{}, changed: make(chan struct{})}
	s := httptest.NewServer(w)
	t.Cleanup(s.Close)
	return w, func(args ...string) (lineChan, lineChan, func() error) {
		out, stderr, done := make(lineChan, 100), make(lineChan, 100), make(chan error, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		t.Cleanup(cancel)
		go func() {
			done <- Execute(ctx, Config{Args: append(args, "--address", s.URL), Out: out, Err: stderr, Lookup: func(string) (string, bool) { return "", false }})
		}()
		return out, stderr, func() error { return <-done }
	}
}

// A server is followed across restarts, new replicas and a controller that is
// gone for a while. Every line is shown exactly once.
func TestFollowServer(t *testing.T) {
	w, run := newLogWorld(t)
	w.replicas, w.log["web-1-a"] = []string{"web-1-a"}, []string{"2026-01-01T00:00:01Z one", "2026-01-01T00:00:02Z two"}
	w.ended = []string{`{"id":"web-1-old","phase":"FAILED","reason":"long ago","log":["old"]}`}
	out, stderr, wait := run("logs", "-f", "web")
	out.wants(t, "web-1-a  one", "web-1-a  two")

	w.change(func() { w.log["web-1-a"] = append(w.log["web-1-a"], "2026-01-01T00:00:02.5Z two and a half") })
	out.wants(t, "web-1-a  two and a half")
	w.change(func() { w.down = true })
	stderr.wants(t, "mcpfleet: cannot reach a controller, still trying: ")
	w.change(func() {
		w.down, w.forgot, w.log["web-1-a"] = false, true, append(w.log["web-1-a"], "2026-01-01T00:00:03Z three")
	})
	out.wants(t, "web-1-a  three")

	w.change(func() {
		w.replicas, w.log["web-1-b"] = []string{"web-1-a", "web-1-b"}, []string{"2026-01-01T00:00:03Z another"}
	})
	out.wants(t, "web-1-b  another")

	// One replica ends in order. Another one started and ended between two polls.
	w.change(func() {
		w.over["web-1-a"], w.replicas = true, []string{"web-1-b"}
		w.ended = append([]string{`{"id":"web-1-c","phase":"FAILED","reason":"exit code 7","log":["short","life"]}`,
			`{"id":"web-1-a","phase":"STOPPED","reason":"moved","log":["two","two and a half","three"]}`}, w.ended...)
	})
	two := []string{<-stderr, <-stderr}
	slices.Sort(two) // in either order
	if want := []string{"mcpfleet: web-1-a is STOPPED: moved", "mcpfleet: web-1-c is FAILED: exit code 7"}; !slices.Equal(two, want) {
		t.Errorf("stderr: %q, want %q", two, want)
	}
	out.wants(t, "web-1-c  short", "web-1-c  life")

	// A replica ends while no controller can be reached.
	w.change(func() { w.down = true })
	stderr.wants(t, "mcpfleet: cannot reach a controller")
	w.change(func() {
		w.down, w.replicas = false, nil
		w.ended = append([]string{`{"id":"web-1-b","phase":"FAILED","reason":"gone","log":["another","last words"]}`}, w.ended...)
	})
	out.wants(t, "web-1-b  last words")
	stderr.wants(t, "mcpfleet: web-1-b is FAILED: gone", "mcpfleet: web has no replica now, waiting for one: it is UNAVAILABLE: exit code 7")

	w.change(func() { w.replicas, w.log["web-2-d"] = []string{"web-2-d"}, []string{"2026-01-01T00:00:09Z again"} })
	out.wants(t, "web-2-d  again")
	w.change(func() { w.removed, w.replicas, w.over["web-2-d"] = true, nil, true })
	stderr.wants(t, "mcpfleet: web was removed")
	if err := wait(); err != nil {
		t.Error(err)
	}
	if len(out)+len(stderr) > 0 {
		t.Errorf("more came: %d lines and %d on stderr", len(out), len(stderr))
	}
}

// A replica is followed until it has ended. Its lines have no prefix.
func TestFollowReplica(t *testing.T) {
	w, run := newLogWorld(t)
	w.replicas, w.log["web-1-a"] = []string{"web-1-a", "web-1-b"}, []string{"2026-01-01T00:00:01Z one"}
	out, _, wait := run("logs", "-f", "web-1-a")
	out.wants(t, "one")
	w.change(func() { w.down = true })
	w.change(func() { w.down, w.log["web-1-a"] = false, append(w.log["web-1-a"], "2026-01-01T00:00:02Z two") })
	out.wants(t, "two")
	w.change(func() { w.over["web-1-a"] = true })
	if err := wait(); err != nil || len(out) > 0 {
		t.Errorf("%v, and %d lines more", err, len(out))
	}
}

// Without a running replica, the end of the last one is shown, then new ones.
func TestFollowServerThatFails(t *testing.T) {
	w, run := newLogWorld(t)
	w.ended = []string{`{"id":"web-1-b","phase":"FAILED","reason":"exit code 7","log":["no","key"]}`, `{"id":"web-1-a","phase":"FAILED","reason":"exit code 7","log":["older"]}`}
	out, stderr, wait := run("logs", "-f", "web", "--tail", "1")
	out.wants(t, "web-1-b  key")
	stderr.wants(t, "mcpfleet: web-1-b is FAILED: exit code 7", "mcpfleet: web has no replica now")
	w.change(func() { w.replicas, w.log["web-1-c"] = []string{"web-1-c"}, []string{"2026-01-01T00:00:01Z up"} })
	out.wants(t, "web-1-c  up")
	w.change(func() { w.removed, w.replicas, w.over["web-1-c"] = true, nil, true })
	if err := wait(); err != nil {
		t.Error(err)
	}
}

// The log of a replica that ended just before it was read has the time of the
// end on all lines. All are shown.
func TestFollowLinesOfOneTime(t *testing.T) {
	w, run := newLogWorld(t)
	w.replicas, w.over["web-1-a"] = []string{"web-1-a"}, true
	w.log["web-1-a"] = []string{"2026-01-01T00:00:03Z one", "2026-01-01T00:00:03Z two", "2026-01-01T00:00:03Z three"}
	out, _, wait := run("logs", "-f", "web-1-a")
	if err := wait(); err != nil {
		t.Error(err)
	}
	close(out)
	var got []string
	for line := range out {
		got = append(got, line)
	}
	if want := []string{"one", "two", "three"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A replica that ended before its log was read again has a log without times.
// Lines that were shown are not shown twice.
func TestFollowAReplicaThatEndsMeanwhile(t *testing.T) {
	w, run := newLogWorld(t)
	w.replicas, w.log["web-1-a"] = []string{"web-1-a"}, []string{"2026-01-01T00:00:01Z one", "2026-01-01T00:00:02Z two"}
	out, stderr, wait := run("logs", "-f", "web-1-a")
	out.wants(t, "one", "two")
	w.change(func() { w.down = true })
	stderr.wants(t, "mcpfleet: cannot reach a controller, still trying: ")
	w.change(func() {
		w.down, w.over["web-1-a"], w.log["web-1-a"] = false, true, []string{"- one", "- two", "- three"}
	})
	if err := wait(); err != nil {
		t.Error(err)
	}
	out.wants(t, "three")
	if len(out) > 0 {
		t.Errorf("%d lines more, the first is %q", len(out), <-out)
	}
}
