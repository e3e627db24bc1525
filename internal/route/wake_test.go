package route

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// A server that rests is woken as soon as a call waits for it, and again every
// second until none does.
func TestRunWakes(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newBench(t, Server{Resting: true})
		var mu sync.Mutex
		woken := 0
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		running.Go(func() {
			_ = b.router.Run(ctx, slog.New(slog.DiscardHandler), func(_ context.Context, name fleet.ServerName) error {
				mu.Lock()
				defer mu.Unlock()
				woken++
				if name != "s" {
					t.Errorf("woke %q", name)
				}
				return errors.New("there is no leader")
			})
		})
		expect := func(when string, want int) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if woken != want {
				t.Errorf("%s: woken %d times, want %d", when, woken, want)
			}
		}
		time.Sleep(time.Minute)
		expect("nothing waits", 0)
		p := b.call("{}")
		expect("a call waits", 1)
		time.Sleep(3 * wakeRetry)
		expect("it still waits", 4)
		w := &worker{name: "w"}
		b.replicas(Replica{ID: "r", Backend: w})
		w.next(t).ok()
		if _, err := p.wait(t); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		expect("it was answered", 4)
	})
}
