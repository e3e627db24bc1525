package program

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

const (
	memoryPeriod = 5 * time.Second
	// A process that allocates less than idleBytes in a period is idle. The
	// leader of three idle controllers allocates half as much, and would keep
	// 16 MiB of garbage.
	idleBytes = 8 << 20
	// Returning memory pays off once busyBytes have been allocated since the
	// last time.
	busyBytes = 4 << 20
)

// ReturnMemory returns memory to the operating system whenever the process
// becomes idle after work. The Go runtime alone would take minutes, and with
// the high GOGC of TuneGC it would keep the memory of the last burst. It runs
// until ctx ends; the returned function waits for that.
func ReturnMemory(ctx context.Context) (wait func()) {
	var owned sync.WaitGroup
	owned.Go(func() {
		tick := time.NewTicker(memoryPeriod)
		defer tick.Stop()
		sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
		detector := new(idleDetector)
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			metrics.Read(sample)
			if detector.sample(sample[0].Value.Uint64()) {
				debug.FreeOSMemory()
			}
		}
	})
	return owned.Wait
}

// idleDetector detects the end of a burst of work from the total of bytes
// allocated so far.
type idleDetector struct {
	last     uint64 // the total at the last sample
	returned uint64 // the total when memory was last returned
}

// sample reports whether memory should be returned now.
func (d *idleDetector) sample(allocated uint64) bool {
	idle := allocated-d.last < idleBytes
	d.last = allocated
	if !idle || allocated-d.returned < busyBytes {
		return false
	}
	d.returned = allocated
	return true
}
