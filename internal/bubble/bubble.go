// Package bubble runs synctest bubbles so that the race detector can stand
// them. It is for tests only.
package bubble

import (
	"runtime"
	"testing"
	"testing/synctest"
)

// Test is synctest.Test on one processor. In Go 1.26 all timers of a bubble
// share one context of the race detector, and two threads that run such timers
// at the same moment corrupt it: the test binary dies of SIGSEGV, once in ten
// runs of a simulation (golang/go#78156 looks like it). Races are found all the
// same, since they are told from the order of events, not from their timing.
func Test(t *testing.T, f func(*testing.T)) {
	t.Helper()
	before := runtime.GOMAXPROCS(1)
	defer runtime.GOMAXPROCS(before)
	synctest.Test(t, f)
}
