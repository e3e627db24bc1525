package reconcile

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func TestBackoffDoublesToTheCap(t *testing.T) {
	var b backoff
	now := t0
	for _, want := range []time.Duration{100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000} {
		b.recordFailure(ending{started: now, at: now.Add(time.Millisecond), why: "x"}, noJitter)
		if want *= time.Millisecond; b.delay != want || !b.notBefore.Equal(now.Add(time.Millisecond+want)) {
			t.Fatalf("delay = %v until %v, want %v", b.delay, b.notBefore.Sub(now), want)
		}
		now = b.notBefore
	}
}

// A server that runs only while it is called, and does not start, is tried less often.
func TestBackoffHoldsOff(t *testing.T) {
	var b backoff
	now := t0
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		b.recordFailure(ending{started: now, at: now.Add(time.Millisecond), why: "x"}, noJitter)
		held := b
		if held.holdOff(); !held.notBefore.Equal(b.bumpedAt.Add(want * time.Second)) {
			t.Fatalf("held off for %v, want %v", held.notBefore.Sub(b.bumpedAt), want*time.Second)
		}
		now = held.notBefore
	}
	works := backoff{delay: time.Second, bumpedAt: t0, notBefore: t0.Add(time.Second)}
	if works.holdOff(); !works.notBefore.Equal(t0.Add(time.Second)) {
		t.Errorf("one that has started is held off for %v", works.notBefore.Sub(t0))
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
		b.recordFailure(ending{started: t0, at: t0.Add(time.Duration(i+1) * time.Millisecond), why: "x"}, noJitter)
	}
	if b.delay != backoffFirst || b.unreplaced != 20 {
		t.Errorf("delay = %v, unreplaced = %d; want 100ms and 20", b.delay, b.unreplaced)
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
			b.recordFailure(ending{started: t0.Add(-2 * time.Minute), ready: ready, at: t0, why: "x"}, noJitter)
			if b.delay != tt.want || b.failing != tt.failing {
				t.Errorf("delay = %v, failing = %v; want %v, %v", b.delay, b.failing, tt.want, tt.failing)
			}
		})
	}
}

// A probe must hold for a while before others follow it.
func TestBackoffProof(t *testing.T) {
	b := backoff{delay: 2 * time.Second, bumpedAt: t0, failing: true, unstarted: true}
	b.recordReady(t0.Add(-time.Minute), t0.Add(time.Hour)) // READY since before the failure: proves nothing
	if !b.failing || !b.unstarted {
		t.Error("an older replica proved the revision")
	}
	ready := t0.Add(3 * time.Second)
	b.recordReady(ready, ready.Add(time.Second))
	if !b.failing || b.unstarted {
		t.Errorf("failing = %v, unstarted = %v; want a start that succeeded and proves nothing yet", b.failing, b.unstarted)
	}
	b.recordReady(ready, ready.Add(2*time.Second))
	if b.failing {
		t.Error("still failing after the proof")
	}
}

// Replicas that served calls are replaced soon, however often they die.
func TestBackoffInUse(t *testing.T) {
	b := backoff{delay: 20 * time.Second, failing: true, unstarted: true}
	now := t0
	for _, want := range []time.Duration{250, 250, 250} {
		b.recordFailure(ending{started: now, ready: now.Add(time.Millisecond), at: now.Add(2 * time.Millisecond), served: true}, noJitter)
		if want *= time.Millisecond; b.delay != want || b.hopeless() {
			t.Fatalf("delay = %v, hopeless = %v; want %v and hope", b.delay, b.hopeless(), want)
		}
		now = b.notBefore
	}
	b = backoff{}
	for i, want := range []time.Duration{100, 200, 250, 250} {
		now = b.notBefore.Add(time.Millisecond)
		b.recordFailure(ending{started: now, ready: now, at: now, served: true}, noJitter)
		if want *= time.Millisecond; b.delay != want || b.failing {
			t.Errorf("crash %d: delay = %v, failing = %v; want %v and not", i, b.delay, b.failing, want)
		}
	}
}

// A replica that was READY, served and died between two looks did start.
func TestBackoffOfShortLives(t *testing.T) {
	a := newAttempts(slog.New(slog.DiscardHandler), noJitter, newHistory())
	for range 10 {
		u := &unit{id: "r", server: "s", rev: 1, startedAt: t0}
		r := &fleet.Replica{ReadyAt: t0.Add(time.Millisecond), Load: fleet.Load{Total: 3}, Reason: "exit code 3"}
		why := failure(u, r)
		a.recordFailure(u, r, why, t0.Add(time.Second))
		if !strings.Contains(why, "failed") {
			t.Errorf("reason %q, want that it failed, not that it did not start", why)
		}
	}
	if b := a.of("s", 1); b.hopeless() || b.failing || !b.everReady || b.delay > backoffInUse {
		t.Errorf("%+v, want a revision that works", b)
	}
}

// A server that exits with code 0 while idle has not failed, whether that is known
// at once or later. One that does so as soon as it is READY has failed. One that
// served calls is started again at once, and one that did not rests longer each
// time.
func TestBackoffOfIdleServers(t *testing.T) {
	clean := &fleet.Exit{}
	tests := []struct {
		name   string
		ready  time.Duration // for how long
		exit   *fleet.Exit
		served bool
		excuse bool
		wait   time.Duration // at least, after ten of them
	}{
		{"idle after calls", 2 * time.Second, clean, true, true, backoffFirst},
		{"idle", 2 * time.Second, clean, false, true, backoffMax},
		{"never ready", 0, clean, false, false, 10 * time.Second},
		{"at once", time.Second, clean, false, false, 10 * time.Second},
		{"code 1", 3 * time.Second, &fleet.Exit{Code: 1}, false, false, 10 * time.Second},
		{"signal", 3 * time.Second, &fleet.Exit{Signal: "SIGTERM"}, false, false, 10 * time.Second},
		{"out of memory", 3 * time.Second, &fleet.Exit{OOM: true}, false, false, 10 * time.Second},
		{"not known", 3 * time.Second, &fleet.Exit{Err: "no answer"}, false, false, 10 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, late := range []bool{false, true} {
				var b backoff
				now := t0
				for range 10 {
					e := ending{started: now, at: now.Add(tt.ready), exit: tt.exit, served: tt.served}
					if tt.ready > 0 {
						e.ready = now
					}
					if late {
						a := newAttempts(slog.New(slog.DiscardHandler), noJitter, newHistory())
						*a.of("s", 1) = b
						u := &unit{server: "s", rev: 1, startedAt: e.started, readyAt: e.ready}
						load := fleet.Load{}
						if tt.served {
							load.Total = 7
						}
						a.recordFailure(u, &fleet.Replica{Load: load}, "x", e.at)
						a.explainFailure(u, &fleet.Replica{Load: load, Exit: tt.exit})
						b = *a.of("s", 1)
					} else {
						b.recordFailure(e, noJitter)
					}
					now = b.notBefore
				}
				wait := b.notBefore.Sub(b.failedAt)
				if tt.excuse && (wait != tt.wait || b.hopeless() || b.failing || !b.resting()) {
					t.Errorf("told late: %v: waits %v, failing %v; want %v and not", late, wait, b.failing, tt.wait)
				}
				if !tt.excuse && (wait < tt.wait || b.resting()) {
					t.Errorf("told late: %v: waits %v, rests: %v; want a long back-off", late, wait, b.resting())
				}
			}
		})
	}
}

// The rest of a server that nobody needs grows, ends with a call, and is no
// longer because several replicas end together.
func TestBackoffRests(t *testing.T) {
	var b backoff
	now := t0
	life := func(served bool) time.Duration { // of three replicas, of which one serves or none
		start := now
		now = now.Add(3 * time.Second)
		for i := range 3 {
			b.recordFailure(ending{started: start, ready: start, at: now.Add(time.Duration(i) * time.Millisecond), exit: &fleet.Exit{}, served: served && i == 1}, noJitter)
		}
		rest := b.notBefore.Sub(b.failedAt)
		b.unreplaced, now = 3, b.notBefore
		return rest
	}
	for _, want := range []time.Duration{100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000} {
		if got := life(false); got != want*time.Millisecond {
			t.Fatalf("rests %v, want %v", got, want*time.Millisecond)
		}
	}
	if got := life(true); got != backoffFirst {
		t.Errorf("rests %v after a life with a call, want %v", got, backoffFirst)
	}
	life(false)
	life(false)
	if b.wake(now.Add(-10 * time.Millisecond)); !b.notBefore.Equal(now.Add(-10 * time.Millisecond)) {
		t.Errorf("called, it waits until %v later", b.notBefore.Sub(now))
	}
	if got := life(false); got != 2*backoffFirst {
		t.Errorf("rests %v after it was woken for nothing, want %v", got, 2*backoffFirst)
	}
}

// A call does not end the wait of a server that fails.
func TestBackoffOfFailuresIsNotWoken(t *testing.T) {
	b := backoff{}
	for range 5 {
		b.recordFailure(ending{started: b.notBefore, at: b.notBefore.Add(time.Second), exit: &fleet.Exit{Code: 1}}, noJitter)
	}
	before := b
	if b.wake(b.failedAt); b != before {
		t.Errorf("woken, it is %+v, was %+v", b, before)
	}
}

// At first it is not known why a replica ended. One of a resting server is assumed
// to have ended like those before it, until it is known to have failed.
func TestBackoffPresumesRest(t *testing.T) {
	a := newAttempts(slog.New(slog.DiscardHandler), noJitter, newHistory())
	b := a.of("s", 1)
	at := t0
	end := func(exit *fleet.Exit) (presumed, known time.Duration) {
		u := &unit{server: "s", rev: 1, startedAt: at, readyAt: at}
		at = at.Add(3 * time.Second)
		a.recordFailure(u, &fleet.Replica{}, "x", at)
		presumed = b.notBefore.Sub(at)
		if b.failing && b.rest > 0 {
			t.Error("it is taken for one that cannot start")
		}
		a.explainFailure(u, &fleet.Replica{Exit: exit})
		known = b.notBefore.Sub(at)
		at = b.notBefore
		return presumed, known
	}
	for range 5 {
		end(&fleet.Exit{})
	}
	if presumed, known := end(&fleet.Exit{}); presumed != 1600*time.Millisecond || known != 3200*time.Millisecond {
		t.Errorf("waits %v, then %v; want 1.6s and 3.2s", presumed, known)
	}
	if presumed, known := end(&fleet.Exit{Code: 1}); presumed != 3200*time.Millisecond || known > backoffInUse || b.rest != 0 {
		t.Errorf("waits %v, then %v with a rest of %v; want 3.2s, and soon once it has failed", presumed, known, b.rest)
	}
}
