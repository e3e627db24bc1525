package load

import "github.com/mcpfleet/mcpfleet/internal/fleet"

// subscription is one watch of the loads. The Watcher's mutex guards changed.
type subscription struct {
	look    chan struct{}
	changed map[fleet.ServerName]bool // since it was taken last
}

// Subscribe begins a watch. look receives a value when a load, or what is missing,
// has changed. take returns what has changed since it was called last; the first
// call returns everything. cancel ends the watch.
func (w *Watcher) Subscribe() (look <-chan struct{}, take func() fleet.LoadNews, cancel func()) {
	s := &subscription{look: make(chan struct{}, 1), changed: make(map[fleet.ServerName]bool)}
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range w.loads {
		s.changed[name] = true
	}
	w.subs[s] = true
	return s.look, func() fleet.LoadNews { return w.take(s) }, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.subs, s)
	}
}

func (w *Watcher) take(s *subscription) fleet.LoadNews {
	w.mu.Lock()
	defer w.mu.Unlock()
	news := fleet.LoadNews{Servers: make(map[fleet.ServerName]fleet.ServerLoad, len(s.changed)), Missing: w.missing}
	for name := range s.changed {
		news.Servers[name] = w.loads[name]
	}
	clear(s.changed)
	return news
}

// publish replaces the loads, and wakes the subscribers if anything has changed.
func (w *Watcher) publish(loads map[fleet.ServerName]fleet.ServerLoad, missing string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var changed []fleet.ServerName
	for name, l := range loads {
		if l != w.loads[name] {
			changed = append(changed, name)
		}
	}
	for name := range w.loads {
		if _, still := loads[name]; !still {
			changed = append(changed, name)
		}
	}
	news := len(changed) > 0 || missing != w.missing
	w.loads, w.missing = loads, missing
	if !news {
		return
	}
	for s := range w.subs {
		for _, name := range changed {
			s.changed[name] = true
		}
		select {
		case s.look <- struct{}{}:
		default: // one is waiting already
		}
	}
}
