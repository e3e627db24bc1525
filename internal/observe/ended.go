package observe

import (
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	endedPerServer = 10
	endedServers   = 256 // bounds memory, as servers come and go
)

// endedLog keeps the last ended replicas of each server, newest first. Snapshots
// share its lists, so they are replaced and never edited.
type endedLog struct {
	byServer map[fleet.ServerName][]*fleet.Replica
}

func newEndedLog() *endedLog {
	return &endedLog{byServer: make(map[fleet.ServerName][]*fleet.Replica)}
}

// add records an end. Full reports repeat ends, also ones that have dropped off the
// list since, so each is put in its place by time.
func (e *endedLog) add(r *fleet.Replica) {
	if r.Server == "" {
		return // stopped before it started
	}
	old := e.byServer[r.Server]
	if slices.ContainsFunc(old, func(o *fleet.Replica) bool { return o.ID == r.ID && o.EndedAt.Equal(r.EndedAt) }) {
		return
	}
	list := make([]*fleet.Replica, 0, len(old)+1)
	for _, o := range old {
		if o.ID != r.ID {
			list = append(list, o)
		}
	}
	list = append(list, r)
	slices.SortStableFunc(list, func(a, b *fleet.Replica) int { return b.EndedAt.Compare(a.EndedAt) })
	e.byServer[r.Server] = list[:min(len(list), endedPerServer)]
	if len(e.byServer) > endedServers {
		delete(e.byServer, e.stalest())
	}
}

// remove forgets an end that did not happen.
func (e *endedLog) remove(server fleet.ServerName, id fleet.ReplicaID) {
	same := func(r *fleet.Replica) bool { return r.ID == id }
	if old := e.byServer[server]; slices.ContainsFunc(old, same) {
		e.byServer[server] = slices.DeleteFunc(slices.Clone(old), same)
	}
}

// stalest returns the server whose last end is the longest ago.
func (e *endedLog) stalest() (name fleet.ServerName) {
	var at int64
	for server, list := range e.byServer {
		if len(list) == 0 {
			return server
		}
		if t := list[0].EndedAt.UnixNano(); name == "" || t < at {
			name, at = server, t
		}
	}
	return name
}

// addCatalogues adds the hashes of the catalogues that ended replicas name.
func (e *endedLog) addCatalogues(used map[string]bool) {
	for _, list := range e.byServer {
		for _, r := range list {
			used[r.Catalogue] = true
		}
	}
}
