package up

import (
	"maps"
	"slices"
	"sync"
)

// ring is where the controllers listen, as they last told. Whoever starts asks
// it where to join.
type ring struct {
	mu sync.Mutex
	at map[string]address // by name
}

func newRing() *ring { return &ring{at: map[string]address{}} }

// tell notes where a controller listens.
func (r *ring) tell(name string, at address) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at[name] = at
}

// others returns the gossip addresses of all controllers but the one named, by
// their names.
func (r *ring) others(than string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(r.at)) {
		if name != than {
			out = append(out, r.at[name].Gossip)
		}
	}
	return out
}

// fronts returns where all controllers can be asked.
func (r *ring) fronts() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for at := range maps.Values(r.at) {
		out = append(out, reachable(at.HTTP))
	}
	return out
}
