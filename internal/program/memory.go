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
	// idleBytes allocated in a period are housekeeping (the leader of three idle
	// controllers allocates half as much, and would keep 16 MiB of garbage),
	// busyBytes since memory was last given back are worth giving back.
	idleBytes, busyBytes = 8 << 20, 4 << 20
)

// ReturnMemory gives memory back to the system whenever the process falls idle
// after work, until ctx ends: the runtime by itself would take minutes, and
// with a rare collector keep what the last burst needed. The returned function
// waits for that end.
func ReturnMemory(ctx context.Context) (wait func()) {
	var owned sync.WaitGroup
	owned.Go(func() {
		tick := time.NewTicker(memoryPeriod)
		defer tick.Stop()
		sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
		watch := new(idleness)
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			metrics.Read(sample)
			if watch.look(sample[0].Value.Uint64()) {
				debug.FreeOSMemory()
			}
		}
	})
	return owned.Wait
}

// idleness finds the end of work in the bytes ever allocated.
type idleness struct {
	last, given uint64
}

// look tells whether memory should be given back now.
func (i *idleness) look(allocated uint64) bool {
	idle := allocated-i.last < idleBytes
	i.last = allocated
	if !idle || allocated-i.given < busyBytes {
		return false
	}
	i.given = allocated
	return true
}
