package reconcile

import (
	"testing"
	"time"
)

func middle() float64 { return 0.5 }

func TestBackoffDoublesToTheCap(t *testing.T) {
	var b backoff
	now := t0
	for _, want := range []time.Duration{100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000} {
		b.fail(now, time.Time{}, now.Add(time.Millisecond), "x", middle)
		if want *= time.Millisecond; b.delay != want || !b.notBefore.Equal(now.Add(time.Millisecond+want)) {
			t.Fatalf("delay = %v until %v, want %v", b.delay, b.notBefore.Sub(now), want)
		}
		now = b.notBefore
	}
}

func TestBackoffJitter(t *testing.T) {
	for _, tt := range []struct {
		jitter float64
		want   time.Duration
	}{{0, 80 * time.Millisecond}, {0.5, 100 * time.Millisecond}, {0.999999999, 120 * time.Millisecond}} {
		if got := spread(100*time.Millisecond, func() float64 { return tt.jitter }).Round(time.Microsecond); got != tt.want {
			t.Errorf("spread with %v = %v, want %v", tt.jitter, got, tt.want)
		}
	}
}

// Replicas of one round that fail one after the other are one reason to wait.
func TestBackoffCountsARoundOnce(t *testing.T) {
	var b backoff
	for i := range 20 {
		b.fail(t0, time.Time{}, t0.Add(time.Duration(i+1)*time.Millisecond), "x", middle)
	}
	if b.delay != backoffFirst || b.owed != 20 {
		t.Errorf("delay = %v, owed = %d; want 100ms and 20", b.delay, b.owed)
	}
	if want := t0.Add(120 * time.Millisecond); !b.notBefore.Equal(want) {
		t.Errorf("not before %v, want 100ms after the last", b.notBefore.Sub(t0))
	}
}

func TestBackoffResets(t *testing.T) {
	long := backoff{delay: 20 * time.Second, bumpedAt: t0.Add(-time.Hour)}
	tests := []struct {
		name    string
		ready   time.Duration // before the failure; 0: never
		healthy time.Duration // since when any was READY and none failed; 0: none
		want    time.Duration
		failing bool
	}{
		{"never ready", 0, 0, backoffMax, true},
		{"ready for a moment", time.Second, time.Second, backoffMax, true},
		{"ready for a while", 30 * time.Second, 30 * time.Second, backoffMax, false},
		{"ready for a minute", 61 * time.Second, 61 * time.Second, backoffFirst, false},
		{"a new one fails after a calm minute", 0, 61 * time.Second, backoffFirst, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := long
			var ready time.Time
			if tt.ready > 0 {
				ready = t0.Add(-tt.ready)
			}
			if tt.healthy > 0 {
				b.healthy = t0.Add(-tt.healthy)
			}
			b.fail(t0.Add(-2*time.Minute), ready, t0, "x", middle)
			if b.delay != tt.want || b.failing != tt.failing {
				t.Errorf("delay = %v, failing = %v; want %v, %v", b.delay, b.failing, tt.want, tt.failing)
			}
		})
	}
}

// A probe must hold for a while before others follow it.
func TestBackoffProof(t *testing.T) {
	b := backoff{delay: 2 * time.Second, bumpedAt: t0, failing: true, unstarted: true}
	b.see(t0.Add(-time.Minute), t0.Add(time.Hour)) // READY since before the failure: proves nothing
	if !b.failing || !b.unstarted {
		t.Error("an older replica proved the revision")
	}
	ready := t0.Add(3 * time.Second)
	b.see(ready, ready.Add(time.Second))
	if !b.failing || b.unstarted {
		t.Errorf("failing = %v, unstarted = %v; want a start that succeeded and proves nothing yet", b.failing, b.unstarted)
	}
	b.see(ready, ready.Add(2*time.Second))
	if b.failing {
		t.Error("still failing after the proof")
	}
}
