package load

import "github.com/mcpfleet/mcpfleet/internal/fleet"

// Now returns the present load of each server that has calls, and perhaps of others:
// that of the whole fleet while this controller leads. Otherwise it counts the calls
// that this controller sees running, and those that wait here. Callers must not
// change the map.
func (w *Watcher) Now() map[fleet.ServerName]fleet.ServerLoad {
	w.mu.Lock()
	loads := w.loads
	w.mu.Unlock()
	if loads != nil {
		return loads
	}
	loads = make(map[fleet.ServerName]fleet.ServerLoad)
	for name, n := range runningIn(w.cfg.View.Snapshot()) {
		loads[name] = fleet.ServerLoad{Running: n}
	}
	addQueues(loads, w.cfg.Own.Queues())
	return loads
}

// addQueues adds the calls that wait at one controller.
func addQueues(loads map[fleet.ServerName]fleet.ServerLoad, queues map[fleet.ServerName]int) {
	for name, n := range queues {
		l := loads[name]
		l.Queued += n
		loads[name] = l
	}
}
