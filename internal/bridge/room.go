package bridge

import (
	"fmt"
	"sync"
)

const (
	maxRequests = 1024      // of the client at once, and answers of the client
	maxBytes    = 256 << 20 // of their lines
	maxPosts    = 256       // notifications that wait
)

// room bounds what of the client is under way. Its methods may be called at any
// time.
type room struct {
	mu    sync.Mutex
	count int
	bytes int
}

// take reports whether there is room for one more line. A lone line always fits.
func (r *room) take(size int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count > 0 && (r.count == maxRequests || r.bytes+size > maxBytes) {
		return false
	}
	r.count++
	r.bytes += size
	return true
}

// shrink gives back the bytes of a line, but not its place.
func (r *room) shrink(size int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bytes -= size
}

func (r *room) leave(size int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count--
	r.bytes -= size
}

func (r *room) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprintf("%d wait, with %d MiB", r.count, r.bytes>>20)
}
