package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestBeginnings(t *testing.T) {
	cause := errors.New("why")
	start := time.Now()
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	seconds := func(n int) time.Duration { return time.Duration(n) * time.Second }

	t.Run("it waits", func(t *testing.T) {
		var b beginnings
		for i := range 200 {
			var want beginReport
			switch i {
			case 6, 66, 126, 186:
				want = beginReport{failing: true, after: seconds(i), term: 3}
			}
			if got := b.report(true, 3, 7, at(i)); got != want {
				t.Errorf("after %d s: %+v, want %+v", i, got, want)
			}
		}
		if got, want := b.report(false, 3, 9, at(200)), (beginReport{began: true, after: seconds(200)}); got != want {
			t.Errorf("when one began: %+v, want %+v", got, want)
		}
		if got := b.report(false, 3, 9, at(201)); got != (beginReport{}) {
			t.Errorf("after that: %+v", got)
		}
	})
	t.Run("it fails at once in term after term", func(t *testing.T) {
		var b beginnings
		var said []int
		for i := range 70 {
			if i%4 == 0 {
				b.failed(cause, uint64(i), 7, at(i))
			}
			if got := b.report(false, uint64(i), 7, at(i)); got.failing {
				said = append(said, i)
				if want := (beginReport{failing: true, after: seconds(i), term: uint64(i) / 4 * 4, err: cause}); got != want {
					t.Errorf("after %d s: %+v, want %+v", i, got, want)
				}
			}
		}
		if fmt.Sprint(said) != "[8 68]" {
			t.Errorf("said after %v s, want 8 and 68", said)
		}
	})
	t.Run("soon over", func(t *testing.T) {
		var b beginnings
		for i, lead := range []uint64{7, 7, 7, 7, 9, 9, 9, 9, 9, 9} { // another tenure begins in between
			if got := b.report(i < 4 || i > 5, 3, lead, at(i)); got != (beginReport{}) {
				t.Errorf("after %d s: %+v, want nothing", i, got)
			}
		}
	})
	t.Run("long ago", func(t *testing.T) {
		var b beginnings
		b.failed(cause, 3, 7, at(0))
		for i := 60; i < 66; i++ {
			if got := b.report(true, 5, 7, at(i)); got != (beginReport{}) {
				t.Errorf("after %d s: %+v, want nothing", i, got)
			}
		}
		if got, want := b.report(true, 5, 7, at(66)), (beginReport{failing: true, after: seconds(6), term: 5}); got != want {
			t.Errorf("after 66 s: %+v, want %+v", got, want)
		}
	})
}

// lines is a log handler that keeps its lines.
type lines struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

// with returns the lines that contain a text.
func (l *lines) with(text string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.out.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// A leader whose first entry no majority stores logs that with the cause, and logs
// when a tenure has begun after that.
func TestTenureThatCannotBegin(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	log := &lines{}
	c.tune = func(cfg *Config) {
		calm(cfg)
		cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	}
	disk := startFaulty(c)
	full := c.followers()[0]
	disk(full).refuse(errFull)
	c.kill(c.leader()) // the remaining one leads, and needs the answer of the one with a full disk
	eventually(t, "a leader says that its tenure cannot begin", func() error {
		for _, line := range log.with("its tenure cannot begin") {
			if strings.Contains(line, "level=WARN") && strings.Contains(line, errFull.Error()) && strings.Contains(line, string(full.ID())) {
				return nil
			}
		}
		return fmt.Errorf("said: %q", log.with("its tenure cannot begin"))
	})
	if n := len(log.with("tenure began after failures")); n > 0 {
		t.Errorf("said %d times that one began", n)
	}
	disk(full).refuse(nil)
	eventually(t, "it is said that one began", func() error {
		if len(log.with("tenure began after failures")) == 0 {
			return errors.New("not said")
		}
		return nil
	})
}
