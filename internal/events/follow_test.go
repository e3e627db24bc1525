package events

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
)

// source serves its log as the events stream of a controller does.
type source struct {
	log *Log

	mu     sync.Mutex
	down   bool
	asked  []time.Time
	sinces []string
}

func (f *source) comesUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = false
}

// requests are when it was asked, and for what follows which ids.
func (f *source) requests() ([]time.Time, []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked), slices.Clone(f.sinces)
}

// ask notes a request.
func (f *source) ask(since string) (down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked, f.sinces = append(f.asked, time.Now()), append(f.sinces, since)
	return f.down
}

func (f *source) fetch(ctx context.Context, since string, on func(Event)) error {
	if f.ask(since) {
		return errors.New("connection refused")
	}
	look, cancel := f.log.Subscribe()
	defer cancel()
	for {
		events, _ := f.log.Since(since)
		for _, e := range events {
			on(e)
			since = e.ID
		}
		select {
		case <-look:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func TestFollow(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		up := &source{log: New(10)}
		up.log.Lead(2)
		up.log.Record(Event{Message: "before"})
		l := New(10)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Follow(ctx, up.fetch) }()
		synctest.Wait()
		wantSince(t, l, "", "2-1", false)
		up.log.Record(Event{Message: "after"})
		synctest.Wait()
		wantSince(t, l, "2-1", "2-2", false)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Follow ended with %v", err)
		}
		if asked, _ := up.requests(); len(asked) != 1 {
			t.Errorf("asked %d times, want once", len(asked))
		}
	})
}

func TestFollowBacksOff(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		up := &source{log: New(10), down: true}
		l := New(10)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Follow(ctx, up.fetch) }()
		time.Sleep(time.Minute) // of the bubble's clock
		synctest.Wait()
		asked, _ := up.requests()
		if n := len(asked); n < 30 || n > 70 {
			t.Errorf("asked %d times in a minute without a leader, want one every 1 to 2 s", n)
		}
		if wait := asked[1].Sub(asked[0]); wait > firstPause {
			t.Errorf("the second attempt came after %s, want it soon", wait)
		}
		// A new leader is found within the longest pause, and goes on after
		// what is here.
		l.Import(Event{ID: "2-4"})
		up.comesUp()
		up.log.Lead(3)
		up.log.Record(Event{})
		time.Sleep(maxPause)
		synctest.Wait()
		wantSince(t, l, "2-4", "3-1", false)
		_, sinces := up.requests()
		if since := sinces[len(sinces)-1]; since != "2-4" {
			t.Errorf("asked for what follows %q, want 2-4", since)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Follow ended with %v", err)
		}
	})
}

// A leader that answers nothing, again and again, is not asked in a hurry.
func TestFollowEmptyStreams(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, asked := New(10), 0
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := l.Follow(ctx, func(context.Context, string, func(Event)) error { asked++; return nil })
		if err != nil || asked > 70 {
			t.Errorf("asked %d times in a minute, %v", asked, err)
		}
	})
}
