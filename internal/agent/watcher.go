package agent

import (
	"maps"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// watcher is a reader of the board. Only its own goroutine uses its fields, under the
// board's lock, except for the channel.
type watcher struct {
	look       chan struct{}
	version    uint64
	forgets    uint64
	known      map[fleet.ReplicaID]bool
	catalogues map[string]bool // sent before
}

func (b *board) watch() *watcher {
	w := &watcher{look: make(chan struct{}, 1), catalogues: map[string]bool{}}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watchers[w] = struct{}{}
	return w
}

func (b *board) unwatch(w *watcher) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.watchers, w)
	b.left = time.Now()
}

// unwatchedFor reports whether there has been no watcher for d.
func (b *board) unwatchedFor(d time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.watchers) == 0 && time.Since(b.left) >= d
}

// since returns the report of all changes since the watcher's last report, and a full
// report the first time.
func (b *board) since(w *watcher) fleet.Report {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := fleet.Report{Version: b.version, Now: time.Now(), Draining: b.draining, Unfit: b.unfit}
	if w.known == nil {
		w.known = map[fleet.ReplicaID]bool{}
		w.forgets = b.forgets
		node := b.node
		r.Full, r.Node = true, &node
	} else if w.version == b.version {
		return r
	}
	for _, id := range slices.Sorted(maps.Keys(b.entries)) {
		e := b.entries[id]
		if e.version <= w.version {
			continue
		}
		w.known[id] = true
		r.Replicas = append(r.Replicas, e.report)
		if c := e.catalogue; c != nil && !w.catalogues[c.Hash] {
			w.catalogues[c.Hash] = true
			r.Catalogues = append(r.Catalogues, *c)
		}
	}
	if w.forgets != b.forgets {
		w.forgets = b.forgets
		for id := range w.known {
			if b.entries[id] == nil {
				delete(w.known, id)
				r.Forgotten = append(r.Forgotten, id)
			}
		}
		slices.Sort(r.Forgotten)
	}
	w.version = b.version
	return r
}
