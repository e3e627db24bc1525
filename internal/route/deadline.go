package route

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// deadline ends a call's context with fleet.ErrTimeout. Progress moves it.
type deadline struct {
	start  time.Time
	window time.Duration // from the start, or the last progress, to the deadline
	last   time.Time     // progress does not move the deadline beyond this

	mu      sync.Mutex
	timer   *time.Timer
	at      time.Time
	stopped bool
}

// newDeadline starts the deadline of a call: after the client's timeout or the
// server's, whichever is shorter. It counts from start, which may have been some
// time ago.
func (s *server) newDeadline(wish time.Duration, start, now time.Time, cancel context.CancelCauseFunc) *deadline {
	s.mu.Lock()
	window, longest := s.limits.CallTimeout, s.limits.MaxCallDuration
	s.mu.Unlock()
	if wish > 0 && wish < window {
		window = wish
	}
	d := &deadline{start: start, window: window, last: start.Add(longest)}
	d.at = earlier(start.Add(window), d.last)
	d.timer = time.AfterFunc(d.at.Sub(now), func() { cancel(fleet.ErrTimeout) })
	return d
}

func (d *deadline) progress() {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if at := earlier(now.Add(d.window), d.last); !d.stopped && at.After(d.at) {
		d.at = at
		d.timer.Reset(at.Sub(now))
	}
}

// waits makes the deadline stand still while the call waits for its client, within the
// call's longest duration. After that the call has as much time as after progress.
func (d *deadline) waits(waiting bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return
	}
	now := time.Now()
	if d.at = d.last; !waiting {
		d.at = earlier(now.Add(d.window), d.last)
	}
	d.timer.Reset(d.at.Sub(now))
}

// stop stops the timer. Later progress changes nothing.
func (d *deadline) stop() {
	d.mu.Lock()
	d.stopped = true
	d.timer.Stop()
	d.mu.Unlock()
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// stream ends a call's context when its large result has been read.
type stream struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (s *stream) Close() error {
	err := s.ReadCloser.Close()
	s.cancel(nil)
	return err
}
