package store

import "sync"

// writeGate counts the writes under way, and keeps new ones out while it is
// shut. The zero value is open.
type writeGate struct {
	mu     sync.Mutex
	shuts  int // shut calls that open has not undone
	inside int
	empty  chan struct{} // closed once nobody is inside; nil unless somebody waits for that
}

// enter reports whether a write may begin. If so, leave ends it.
func (g *writeGate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shuts > 0 {
		return false
	}
	g.inside++
	return true
}

func (g *writeGate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside--; g.inside == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

// shut keeps new writes out until open is called as often as shut. It returns a
// channel that is closed once nobody is inside.
func (g *writeGate) shut() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shuts++
	empty := g.empty
	if empty == nil {
		empty = make(chan struct{})
		if g.inside == 0 {
			close(empty)
		} else {
			g.empty = empty
		}
	}
	return empty
}

func (g *writeGate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shuts--
}
