package stdio_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/stdio"
)

// BenchmarkCall has C callers, each with one call under way, as goroutines that wait for Done.
func BenchmarkCall(b *testing.B) {
	for _, over := range []struct {
		name  string
		start func(testing.TB) *conversation
	}{
		{"pipe", func(t testing.TB) *conversation { return overPipes(t, stdio.Config{}) }},
		{"process", func(t testing.TB) *conversation { c, _ := overProcess(t, stdio.Config{}); return c }},
	} {
		for _, callers := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("%s/C=%d", over.name, callers), func(b *testing.B) { benchmarkCalls(b, over.start(b), callers) })
		}
	}
}

func benchmarkCalls(b *testing.B, c *conversation, callers int) {
	params := text(1024)
	left := make(chan struct{}, b.N)
	for range b.N {
		left <- struct{}{}
	}
	close(left)
	b.ReportAllocs()
	b.ResetTimer()
	done := make(chan error, callers)
	for range callers {
		go func() {
			replies := make(chan stdio.Reply, 1)
			call := &stdio.Call{Method: "echo", Params: params, Done: func(r stdio.Reply) { replies <- r }}
			for range left {
				if _, err := c.Start(call); err != nil {
					done <- err
					return
				}
				if r := <-replies; r.Err != nil || len(r.Result) != len(params) {
					done <- fmt.Errorf("reply of %d bytes: %w", len(r.Result), errors.Join(r.Err, errWrong))
					return
				}
			}
			done <- nil
		}()
	}
	for range callers {
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

var errWrong = errors.New("not what was sent")
