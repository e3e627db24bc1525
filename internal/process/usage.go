package process

import (
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/proctab"
)

// tableCache keeps the process table for a moment, because reading it costs the same for
// one replica as for all.
type tableCache struct {
	mu    sync.Mutex
	table []proctab.Process
	at    time.Time
}

// tableAge is how old the table may be. Replicas are looked at every two seconds.
const tableAge = time.Second

func (t *tableCache) get() []proctab.Process {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.at) > tableAge {
		t.table, t.at = proctab.Table(), time.Now()
	}
	return t.table
}

// Consumed implements fleet.Metered: the sum of the first process and its descendants.
func (c *child) Consumed() (cpu time.Duration, memory int64, ok bool) {
	root := c.root()
	if root == nil {
		return 0, 0, false
	}
	u, ok := proctab.UsageOf(c.table.get(), root)
	return u.CPU, u.Memory, ok
}
