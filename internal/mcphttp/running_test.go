package mcphttp

import (
	"context"
	"errors"
	"testing"
)

// Of two requests with one id the later one can be cancelled, also once the earlier one has
// been answered.
func TestRunningTwice(t *testing.T) {
	var r running
	key := callKey{id: "1"}
	_, _, firstDone := r.add(context.Background(), key)
	_, _, otherDone := r.add(context.Background(), callKey{id: "2"})
	second, _, secondDone := r.add(context.Background(), key)
	firstDone()
	if !r.cancel(key) || !errors.Is(context.Cause(second), errCancelled) {
		t.Errorf("the second one goes on: %v", context.Cause(second))
	}
	secondDone()
	if r.cancel(key) {
		t.Error("it can be cancelled after its end")
	}
	if otherDone(); len(r.calls) > 0 {
		t.Errorf("left: %v", r.calls)
	}
}
