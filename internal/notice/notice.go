// Package notice wakes any number of subscribers when something may have changed.
// A notice carries no data: its receiver reads the current state. So notices that
// arrive while one is waiting become one, and a slow subscriber delays nobody. The
// package starts no goroutine.
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

// Subscribe returns a channel that receives a value after every later Post, and a
// function that ends the subscription. Read the current state once after
// subscribing: earlier notices are not repeated.
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
