package agent

import (
	"sync/atomic"
	"time"
)

const (
	// loadDelay is how long after a call has begun or ended the loads are reported, so
	// that a controller knows a change within 100 ms. Controllers learn the load also
	// from every reply. The others learn it from these reports alone.
	loadDelay = 80 * time.Millisecond
	// countDelay is how often the counts of a replica are reported whose number of
	// running calls stays the same.
	countDelay = 250 * time.Millisecond
)

// loadNotice tells Run that loads have changed. A call costs one atomic read, unless it
// is the first since Run has looked.
type loadNotice struct {
	posted atomic.Bool
	look   chan struct{}
}

// post is called after each change of a load.
func (n *loadNotice) post() {
	if !n.posted.Load() && n.posted.CompareAndSwap(false, true) {
		notify(n.look)
	}
}

// publishLoads reports the loads and counts that have changed. It returns false if some
// of the counts are to be reported later.
func (a *Agent) publishLoads() (all bool) {
	a.loadNotice.posted.Store(false) // later changes are looked at again
	all = true
	now := time.Now()
	a.live.Range(func(_, v any) bool {
		r := v.(*replica)
		all = a.board.load(r.order.ID, r.load(), &r.counts, now) && all
		return true
	})
	return all
}
