package fleettest

import (
	"context"
	"testing"
	"time"
)

// patience is how long Eventually waits: far longer than anything takes, since
// the machine may be busy with other tests.
const patience = 60 * time.Second

// Eventually asks until the answer is nil. It fails the test when patience ends, with
// the last refusal that came before.
func Eventually(t testing.TB, ask func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := ask(ctx)
		if err == nil {
			return
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain: %v", last)
		case <-tick.C:
		}
	}
}
