package silence

import (
	"context"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
)

func TestLonger(t *testing.T) {
	const interval = time.Second
	for _, c := range []struct {
		name                 string
		quiet, elapsed, want time.Duration
		heard                bool
	}{
		{"quiet goes on", 3 * time.Second, time.Second, 4 * time.Second, false},
		{"the tick is a little late", 3 * time.Second, 1500 * time.Millisecond, 4500 * time.Millisecond, false},
		{"the process was paused", 3 * time.Second, time.Hour, 5 * time.Second, false},
		{"heard", 3 * time.Second, time.Second, 0, true},
		{"heard, and paused", 3 * time.Second, time.Hour, 0, true},
	} {
		if got := longer(c.quiet, c.elapsed, interval, c.heard); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestGuard(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var g Guard
		began := time.Now()
		go func() {
			for range 20 {
				time.Sleep(time.Second)
				g.Heard()
			}
		}()
		quiet, lost := g.Wait(t.Context(), func() time.Duration { return 5 * time.Second })
		if took := time.Since(began); !lost || quiet != 5500*time.Millisecond || took < 25*time.Second || took > 26*time.Second {
			t.Errorf("lost %t, quiet for %v, after %v", lost, quiet, took)
		}
	})
}

// The limit may fall while it is quiet.
func TestGuardLimitFalls(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var g Guard
		began := time.Now()
		_, lost := g.Wait(t.Context(), func() time.Duration {
			if time.Since(began) < 20*time.Second {
				return time.Minute
			}
			return 10 * time.Second
		})
		if took := time.Since(began); !lost || took > 24*time.Second {
			t.Errorf("lost %t after %v", lost, took)
		}
	})
}

func TestGuardEnds(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var g Guard
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if quiet, lost := g.Wait(ctx, func() time.Duration { return time.Minute }); lost {
			t.Errorf("lost after %v, though the context had ended", quiet)
		}
	})
}
