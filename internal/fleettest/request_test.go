package fleettest

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

// The worker's log has the ids that the client sent, so that one request can be
// followed through the fleet.
func TestRequestIDReachesTheWorker(t *testing.T) {
	lines := make(chan string, 10)
	about := writerFunc(func(b []byte) {
		if strings.Contains(string(b), "request_id=") {
			lines <- string(b)
		}
	})
	log := slog.New(slog.NewTextHandler(about, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c := Start(t, Options{Workers: 1, File: echoFile(1, ""), WorkerLog: log})
	c.AwaitReady(1)
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+c.Controller("c1").Addresses.HTTP+"/call",
		strings.NewReader(`{"tool_name":"echo","tool_args":{}}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Request-ID", "the-clients-own")
	r.Header.Set("traceparent", trace)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("status %s", res.Status)
	}
	for {
		select {
		case line := <-lines:
			if strings.Contains(line, "request_id=the-clients-own traceparent="+trace) && strings.Contains(line, `msg="call ended"`) {
				return
			}
		default:
			t.Fatal("no line of the worker's names the request") // it is written before the answer is
		}
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) {
	f(b)
	return len(b), nil
}

// A call that a server could not digest is refused, and the answer names the
// key of the fleet file that says so.
func TestRequestTooLarge(t *testing.T) {
	c := Start(t, Options{Workers: 1, File: echoFile(1, "")})
	c.AwaitReady(1)
	call := func(bytes int) error {
		_, err := c.Call(t.Context(), "echo", api.CallRequest{ToolName: "echo", ToolArgs: args(`{"text":%q}`, strings.Repeat("x", bytes))})
		return err
	}
	if err := call(1 << 20); err != nil {
		t.Error(err)
	}
	err := call(10 << 20)
	if e := new(api.Error); !errors.As(err, &e) || e.Status != http.StatusRequestEntityTooLarge || e.Code != api.CodeTooLarge || !strings.Contains(e.Detail, "max_request_bytes") {
		t.Errorf("10 MiB: %v, want 413 that names max_request_bytes", err)
	}
	if err := call(1); err != nil {
		t.Error(err)
	}
}
