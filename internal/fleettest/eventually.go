package fleettest

import (
	"context"
	"testing"
	"time"
)

// patience is how long Eventually waits: far longer than anything takes, since
// the machine may be busy with other tests.
const patience = 60 * time.Second

// Eventually asks until the answer is nil, and fails the test with the last
// refusal when patience ends.
func Eventually(t testing.TB, ask func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain: %v", err)
		case <-tick.C:
		}
	}
}
