// Package notice says "look again" to any number of subscribers. A notice
// carries nothing: whoever gets one rereads the truth, so notices that arrive
// while one is waiting are one notice, and a slow subscriber delays nobody.
// The package starts no goroutine.
package notice

import "sync"

// Board is where notices are posted. The zero value is ready; all methods may
// be called at once.
type Board struct {
	mu   sync.Mutex
	subs map[chan struct{}]struct{}
}

// Post wakes every subscriber. It never blocks.
func (b *Board) Post() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for ch := range b.subs {
		select {
		case ch <- struct{}{}:
		default: // one is waiting already
		}
	}
}

// Subscribe returns a channel that gets a value after every Post that follows,
// and a function that ends the subscription. Read the truth once after
// subscribing: what was posted before is not repeated.
func (b *Board) Subscribe() (look <-chan struct{}, cancel func()) {
	ch := make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.subs == nil {
		b.subs = make(map[chan struct{}]struct{})
	}
	b.subs[ch] = struct{}{}
	return ch, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.subs, ch)
	}
}
