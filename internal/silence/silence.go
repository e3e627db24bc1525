// Package silence notices that nothing has been heard from a peer for too long.
package silence

import (
	"context"
	"sync/atomic"
	"time"
)

// ticks is how often a Guard looks in the time of its first limit.
const ticks = 10

// Guard notices silence. Only time in which this process ran counts: after it was
// paused, what its peers sent meanwhile is still to be read. The zero value is ready.
// Heard may be called at any time, and by many; Wait by one at a time.
type Guard struct{ heard atomic.Bool }

// Heard records that something was heard.
func (g *Guard) Heard() { g.heard.Store(true) }

// Wait returns once nothing has been heard for longer than limit, which is asked again
// as time goes by and must not be 0, or once ctx has ended. It reports how long nothing
// was heard, to a tenth of the first limit, and whether that was too long.
func (g *Guard) Wait(ctx context.Context, limit func() time.Duration) (quiet time.Duration, lost bool) {
	interval := limit() / ticks
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return quiet, false
		case <-tick.C:
		}
		now := time.Now()
		quiet = longer(quiet, now.Sub(last), interval, g.heard.Swap(false))
		if last = now; quiet > limit() {
			return quiet, true
		}
	}
}

// longer returns how long it has been quiet at a tick that comes elapsed after the one
// before it. A tick that comes late shows that the process did not run for a while.
func longer(quiet, elapsed, interval time.Duration, heard bool) time.Duration {
	if heard {
		return 0
	}
	return quiet + min(elapsed, 2*interval) // two, because a busy machine delays ticks, too
}
