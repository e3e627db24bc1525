package web

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func TestPacerAnswersABurstAtOnceAndSpreadsTheRest(t *testing.T) {
	p, now := newPacer(), time.Unix(1000, 0)
	for i := range refusalsAtOnce {
		if d := p.next(now); d != 0 {
			t.Fatalf("refusal %d of a burst waits for %v, want 0", i+1, d)
		}
	}
	last := time.Duration(0)
	for i := range refusalsPerSecond - 1 {
		d := p.next(now)
		if d <= last || d > maxHoldBack {
			t.Fatalf("refusal %d after the burst waits for %v, want more than %v and at most %v", i+1, d, last, maxHoldBack)
		}
		last = d
	}
	for range 10 * refusalsPerSecond {
		if d := p.next(now); d < last || d > maxHoldBack {
			t.Fatalf("a refusal beyond all turns waits for %v, want about %v", d, maxHoldBack)
		}
	}
	// Those that went out of turn must not delay what comes later.
	if d := p.next(now.Add(2 * maxHoldBack)); d != 0 {
		t.Errorf("after a quiet time a refusal waits for %v, want 0", d)
	}
}

// overloadedMux refuses every call, and has used up its burst.
func overloadedMux(leaving <-chan struct{}) *Mux {
	m := NewMux(Config{Log: slog.New(slog.DiscardHandler), Leaving: leaving},
		Post("/call", Call, func(*Response, *http.Request) error { return fleet.ErrOverloaded }))
	for m.refusals.next(time.Now()) < maxHoldBack {
	}
	return m
}

func TestRefusalsForOverloadAreHeldBack(t *testing.T) {
	for _, c := range []struct {
		name    string
		timeout string
		prepare func(cancel context.CancelFunc, leave func())
		want    time.Duration
	}{
		{name: "a hammering client", want: maxHoldBack},
		{name: "a client that waits for a moment only", timeout: "200ms", want: 100 * time.Millisecond},
		{name: "a client that leaves", prepare: func(cancel context.CancelFunc, _ func()) { time.AfterFunc(10*time.Millisecond, cancel) }, want: 10 * time.Millisecond},
		{name: "a controller that stops", prepare: func(_ context.CancelFunc, leave func()) { time.AfterFunc(20*time.Millisecond, leave) }, want: 20 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				leaving := make(chan struct{})
				m := overloadedMux(leaving)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if c.prepare != nil {
					c.prepare(cancel, func() { close(leaving) })
				}
				r := httptest.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/call", nil)
				if c.timeout != "" {
					r.Header.Set("X-Request-Timeout", c.timeout)
				}
				start, w := time.Now(), httptest.NewRecorder()
				m.ServeHTTP(w, r)
				if took := time.Since(start); took < c.want-2*time.Millisecond || took > c.want {
					t.Errorf("the refusal took %v, want %v", took, c.want)
				}
				if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "1" {
					t.Errorf("got %d, Retry-After %q, want 503 and 1", w.Code, w.Header().Get("Retry-After"))
				}
			})
		})
	}
}

func TestManyHammeringClientsCauseFewRefusals(t *testing.T) {
	const clients, seconds = 700, 3
	synctest.Test(t, func(t *testing.T) {
		m := overloadedMux(nil)
		end := time.Now().Add(seconds * time.Second)
		var wg sync.WaitGroup
		refused := make([]int, clients)
		for i := range clients {
			wg.Go(func() {
				for time.Now().Before(end) {
					m.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/call", nil))
					refused[i]++
					time.Sleep(20 * time.Millisecond)
				}
			})
		}
		wg.Wait()
		all := 0
		for _, n := range refused {
			all += n
		}
		if most := clients * (seconds + 1); all > most {
			t.Errorf("%d clients were refused %d times in %d s, want at most %d", clients, all, seconds, most)
		}
	})
}
