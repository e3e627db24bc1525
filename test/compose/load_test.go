package compose

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

// callTimeout is longer than any call of the load should take, and at most the
// server's call_timeout. A call that takes longer counts as unanswered.
const callTimeout = 60 * time.Second

// load has callers that call without a pause until it is stopped. A call that is
// safe to repeat must never fail. Any other call may only be lost with the replica
// that ran it.
type load struct {
	calls, lost atomic.Int64

	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	errors []error
}

// startLoad starts callers of echo with unique texts, one caller of a slow read-only
// tool, and one of a tool that may not be repeated.
func startLoad(t *testing.T, client *api.Client, callers int) *load {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &load{stop: stop}
	for i := range callers {
		l.every(ctx, func(n int) error { return echo(client, fmt.Sprintf("caller %d, call %d", i, n)) })
	}
	for range 3 {
		l.every(ctx, func(int) error {
			_, err := call(client, "trigger-long-running-operation", map[string]any{"duration": 2, "steps": 2})
			return err
		})
	}
	l.every(ctx, func(int) error {
		_, err := call(client, "toggle-subscriber-updates", map[string]any{})
		var e *api.Error
		if errors.As(err, &e) && e.Code == api.CodeReplicaLost {
			l.lost.Add(1)
			return nil
		}
		return err
	})
	return l
}

func (l *load) every(ctx context.Context, f func(n int) error) {
	l.wg.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			if err := f(n); err != nil {
				l.mu.Lock()
				l.errors = append(l.errors, err)
				l.mu.Unlock()
			}
			l.calls.Add(1)
		}
	})
}

// end waits for the running calls and returns the errors.
func (l *load) end() []error {
	l.stop()
	l.wg.Wait()
	return l.errors
}

// more returns a check that fails until this many more calls are answered.
func (l *load) more(n int64) func(context.Context) error {
	target := l.calls.Load() + n
	return func(context.Context) error {
		if now := l.calls.Load(); now < target {
			return fmt.Errorf("%d calls answered, want %d", now, target)
		}
		return nil
	}
}

// call has a timeout of its own, since the call may outlive the load.
func call(client *api.Client, tool string, args map[string]any) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	raw, err := json.Marshal(args)
	if err != nil {
		return "", err
	}
	start := time.Now()
	result, err := client.Call(ctx, "", api.CallRequest{ToolName: tool, ToolArgs: raw})
	if err != nil {
		return "", fmt.Errorf("%s after %v: %w", tool, time.Since(start).Round(time.Millisecond), err)
	}
	var out struct {
		Content []struct{ Text string }
		IsError bool
	}
	if err := json.Unmarshal(result, &out); err != nil {
		return "", fmt.Errorf("%s: decode result: %w", tool, err)
	}
	if out.IsError || len(out.Content) == 0 {
		return "", fmt.Errorf("%s: got %s", tool, result)
	}
	return out.Content[0].Text, nil
}

func echo(client *api.Client, text string) error {
	got, err := call(client, "echo", map[string]any{"message": text})
	if err != nil {
		return err
	}
	if want := "Echo: " + text; got != want {
		return fmt.Errorf("echo: got %q, want %q", got, want)
	}
	return nil
}
