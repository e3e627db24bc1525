package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// syncedWriter can be read while it is written. It signals each line on lines.
type syncedWriter struct {
	mu    sync.Mutex
	text  strings.Builder
	lines chan struct{}
}

func (w *syncedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if strings.HasSuffix(string(b), "\n") {
		w.lines <- struct{}{}
	}
	return w.text.Write(b)
}

func (w *syncedWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// Following continues where it stopped when a controller was gone for a while.
func TestEventsFollowed(t *testing.T) {
	var mu sync.Mutex
	var since []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") != "text/event-stream" {
			io.WriteString(w, `{"events":[],"last":""}`)
			return
		}
		mu.Lock()
		since = append(since, r.URL.Query().Get("since"))
		n := len(since)
		mu.Unlock()
		w.Header().Set("Content-Type", "text/event-stream")
		if n == 3 {
			fmt.Fprint(w, "event: gap\ndata: {\"kind\":\"gap\",\"id\":\"\",\"message\":\"\"}\n\n")
		}
		if n <= 3 {
			fmt.Fprintf(w, "id: 7-%d\ndata: {\"id\":\"7-%d\",\"kind\":\"started\",\"server\":\"web\",\"message\":\"m\"}\n\n", n, n)
			return
		}
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, stderr := &syncedWriter{lines: make(chan struct{}, 10)}, &syncedWriter{lines: make(chan struct{}, 10)}
	ended := make(chan error, 1)
	go func() {
		ended <- Execute(ctx, Config{Args: []string{"events", "-f", "-o", "table", "--address", s.URL}, Out: out, Err: stderr, Lookup: func(string) (string, bool) { return "", false }})
	}()
	for range 3 {
		select {
		case <-out.lines:
		case err := <-ended:
			t.Fatalf("ended: %v", err)
		case <-time.After(30 * time.Second):
			t.Fatalf("printed only\n%s", out)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("ended: %v", err)
	}
	for _, want := range []string{"7-1", "7-2", "7-3"} {
		if strings.Count(out.String(), want) != 1 {
			t.Errorf("want %s once in\n%s", want, out)
		}
	}
	if !strings.Contains(stderr.String(), "events may be missing") {
		t.Errorf("does not report the gap: %s", stderr)
	}
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(since[:3], " "); got != " 7-1 7-2" {
		t.Errorf("asked for what came since %q", got)
	}
}

// A wrong address is an error. The command does not wait for a controller there.

func TestEventsOfNobody(t *testing.T) {
	execute(t, refusing(t), "", "events", "-f").wants(t, 1, "", "connection refused")
}
