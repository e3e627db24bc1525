//go:build linux

package partition

import (
	"fmt"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/test/harness"
)

// eventually waits until check returns nil, and logs how long that took.
func eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	begin := time.Now()
	if err := harness.Poll(harness.Patience, check); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	t.Logf("%s after %s", what, time.Since(begin).Round(time.Millisecond))
}

// throughout polls for this long, and fails the test unless check always returns
// nil.
func throughout(t testing.TB, d time.Duration, what string, check func() error) {
	t.Helper()
	over := time.NewTimer(d)
	defer over.Stop()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	begin := time.Now()
	for {
		if err := check(); err != nil {
			t.Fatalf("%s: no more after %s: %v", what, time.Since(begin).Round(time.Millisecond), err)
		}
		select {
		case <-over.C:
			return
		case <-tick.C:
		}
	}
}

// differ returns an error unless two values print alike.
func differ(what string, got, want any) error {
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		return fmt.Errorf("%s: got %s, want %s", what, g, w)
	}
	return nil
}
