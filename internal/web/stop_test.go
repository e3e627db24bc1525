package web

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// A server that stops says so first, hands leadership over while it serves on, lets
// requests end, and ends those that take too long.
func TestStop(t *testing.T) {
	ends := errors.New("released by the test")
	for _, tt := range []struct {
		name  string
		delay time.Duration
		drain time.Duration
		slow  bool  // the request outlasts drain
		cause error // of the end of the request
		steps []string
	}{
		{"with a delay", time.Millisecond, time.Minute, false, ends, []string{"leaving", "handed over", "stopping"}},
		{"without a delay", 0, time.Minute, false, ends, []string{"leaving", "stopping", "handed over"}},
		{"a request takes too long", 0, time.Millisecond, true, nil, []string{"leaving", "stopping", "handed over"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var steps []string
			leaving, stopping := make(chan struct{}), make(chan struct{})
			handedOver := make(chan struct{})
			note := func(step string, c <-chan struct{}) {
				select {
				case <-c:
					if !slices.Contains(steps, step) {
						steps = append(steps, step)
					}
				default:
				}
			}
			began, ended := make(chan struct{}), make(chan error, 1)
			release := handedOver // the last thing that is waited for
			if tt.slow {
				release = nil
			}
			handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				close(began)
				select {
				case <-release:
					ended <- ends
				case <-r.Context().Done():
					ended <- nil
				}
			})
			requests, endRequests := context.WithCancelCause(t.Context())
			defer endRequests(nil)
			server := NewServer(requests, handler, slog.New(slog.DiscardHandler))
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan error, 1)
			go func() { served <- server.Serve(l) }()
			go func() {
				if resp, err := http.Get("http://" + l.Addr().String()); err == nil {
					resp.Body.Close()
				}
			}()
			<-began
			server.Stop(t.Context(), nil, Shutdown{
				Leaving: leaving, Stopping: stopping, EndRequests: endRequests,
				HandOver: func(context.Context) error {
					mu.Lock()
					defer mu.Unlock()
					note("leaving", leaving)
					note("stopping", stopping)
					if !slices.Contains(steps, "handed over") { // it may be tried twice
						steps = append(steps, "handed over")
						close(handedOver)
					}
					return nil
				},
				Delay: tt.delay, Drain: tt.drain, Log: slog.New(slog.DiscardHandler),
			})
			mu.Lock()
			defer mu.Unlock()
			note("stopping", stopping)
			if !slices.Equal(steps, tt.steps) {
				t.Errorf("steps %q, want %q", steps, tt.steps)
			}
			if cause := <-ended; !errors.Is(cause, tt.cause) {
				t.Errorf("the request ended with %v, want %v", cause, tt.cause)
			}
			if err := <-served; !errors.Is(err, http.ErrServerClosed) {
				t.Errorf("Serve returned %v", err)
			}
		})
	}
}
