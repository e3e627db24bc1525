package up

import (
	"maps"
	"slices"
	"sync"
)

// ring has the current addresses of the controllers. New children join at these.
type ring struct {
	mu sync.Mutex
	at map[string]address // by name
}

func newRing() *ring { return &ring{at: map[string]address{}} }

// set sets the address of a controller.
func (r *ring) set(name string, at address) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at[name] = at
}

// others returns the gossip addresses of all controllers except one, in the
// order of their names.
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

// httpAddresses returns the HTTP addresses of all controllers.
func (r *ring) httpAddresses() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for at := range maps.Values(r.at) {
		out = append(out, dialAddress(at.HTTP))
	}
	return out
}
