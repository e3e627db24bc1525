package top

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	tea "charm.land/bubbletea/v2"
)

// The screen ends with a key, or with its context. The goroutine that reads has ended
// by then.
func TestLive(t *testing.T) {
	before, _ := readings()
	for name, end := range map[string]func(io.Writer, context.CancelFunc){
		"by a key":     func(in io.Writer, _ context.CancelFunc) { _, _ = in.Write([]byte("q")) },
		"by a context": func(_ io.Writer, cancel context.CancelFunc) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			in, keys := io.Pipe()
			defer keys.Close()
			var out bytes.Buffer
			var reads, running atomic.Int32
			cfg := Config{In: in, Out: &out, Interval: time.Millisecond, Read: func(context.Context) (Reading, error) {
				running.Add(1)
				defer running.Add(-1)
				if reads.Add(1) == 3 {
					go end(keys, cancel)
				}
				return before, nil
			}}
			if err := Live(ctx, cfg); err != nil {
				t.Error(err)
			}
			if reads.Load() < 3 || running.Load() != 0 {
				t.Errorf("%d readings, %d still run", reads.Load(), running.Load())
			}
		})
	}
	failing := errors.New("refused")
	if err := Live(t.Context(), Config{Read: func(context.Context) (Reading, error) { return Reading{}, failing }}); !errors.Is(err, failing) {
		t.Errorf("the first reading fails: %v", err)
	}
}

// poll reads once in each interval, and goes on after a failure.
func TestPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
		defer cancel()
		reads := 0
		var got []tea.Msg
		poll(ctx, Config{Interval: 2 * time.Second, Read: func(context.Context) (Reading, error) {
			if reads++; reads == 2 {
				return Reading{}, errors.New("refused")
			}
			return Reading{At: time.Now()}, nil
		}}, func(m tea.Msg) { got = append(got, m) })
		if len(got) != 3 {
			t.Fatalf("%d messages: %v", len(got), got)
		}
		if failed, ok := got[1].(failedMsg); !ok || failed.err.Error() != "refused" {
			t.Errorf("got %v", got[1])
		}
		if read, ok := got[2].(readMsg); !ok || time.Since(read.reading.At) != time.Second {
			t.Errorf("got %v", got[2])
		}
	})
}
