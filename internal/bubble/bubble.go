// Package bubble runs synctest bubbles in a way that works with the race
// detector. It is for tests only.
package bubble

import (
	"runtime"
	"testing"
	"testing/synctest"
)

// Test is synctest.Test on one processor. In Go 1.26 all timers of a bubble share
// one context of the race detector, and two threads that run such timers at the
// same moment corrupt it. The test binary then dies of SIGSEGV, in about one of
// ten runs of a simulation (golang/go#78156 may be the same bug). Races are still
// found: the detector goes by the order of events, not by their timing.
func Test(t *testing.T, f func(*testing.T)) {
	t.Helper()
	before := runtime.GOMAXPROCS(1)
	defer runtime.GOMAXPROCS(before)
	synctest.Test(t, f)
}
