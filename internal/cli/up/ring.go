package up

import (
	"maps"
	"slices"
	"sync"
)

// ring is where the controllers gossip, as they last told. Whoever starts asks
// it where to join.
type ring struct {
	mu sync.Mutex
	at map[string]string // by name
}

func newRing() *ring { return &ring{at: map[string]string{}} }

// tell notes where a controller gossips.
func (r *ring) tell(name, gossip string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at[name] = gossip
}

// others returns the addresses of all controllers but the one named, by their
// names.
func (r *ring) others(than string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(r.at)) {
		if name != than {
			out = append(out, r.at[name])
		}
	}
	return out
}
