package store

import (
	"fmt"
	"maps"
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Change is what an Apply did to one server.
type Change struct {
	Server   fleet.ServerName
	Kind     ChangeKind
	Revision fleet.Revision // after the change; of a removed server its last
}

// ChangeKind tells the changes apart.
type ChangeKind string

// The kinds of change.
const (
	Added   ChangeKind = "added"
	Revised ChangeKind = "revised" // new template, new revision
	Tuned   ChangeKind = "tuned"   // counts or limits only: same revision, applied in place
	Removed ChangeKind = "removed"
)

// Apply makes exactly these servers desired: what is not listed goes. It
// returns what changed, by name; servers that stay as they are, are not among
// it. An equal template keeps its revision, a changed one gets the number after
// the highest the name ever had. The change is durable when Apply returns, or
// has not happened.
func (s *Store) Apply(servers map[fleet.ServerName]fleet.Spec, defaultServer fleet.ServerName) ([]Change, error) {
	if _, ok := servers[defaultServer]; defaultServer != "" && !ok {
		return nil, fmt.Errorf("default server %q: %w", defaultServer, fleet.ErrUnknownServer)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.state
	next.DefaultServer = defaultServer
	next.Servers = make(map[fleet.ServerName]desired, len(servers))
	next.LastRevision = maps.Clone(s.state.LastRevision)
	if next.LastRevision == nil {
		next.LastRevision = make(map[fleet.ServerName]fleet.Revision)
	}
	var changes []Change
	for _, name := range slices.Sorted(maps.Keys(servers)) {
		spec := servers[name]
		old, existed := s.state.Servers[name]
		d := desired{Revision: old.Revision, Spec: spec}
		if !existed || old.Spec.Hash() != spec.Hash() {
			d.Revision = next.LastRevision[name] + 1
			next.LastRevision[name] = d.Revision
		}
		next.Servers[name] = d
		switch {
		case !existed:
			changes = append(changes, Change{name, Added, d.Revision})
		case d.Revision != old.Revision:
			changes = append(changes, Change{name, Revised, d.Revision})
		case counts(spec) != counts(old.Spec):
			changes = append(changes, Change{name, Tuned, d.Revision})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.state.Servers)) {
		if _, stays := servers[name]; !stays {
			changes = append(changes, Change{name, Removed, s.state.Servers[name].Revision})
		}
	}
	if len(changes) == 0 && defaultServer == s.state.DefaultServer {
		return nil, nil
	}
	if err := s.save(next); err != nil {
		return nil, err
	}
	s.board.Post()
	return changes, nil
}

// tuning is the part of a spec that applies to running replicas.
type tuning struct {
	replicas, perNode, ongoing, queued int
	timeout, duration                  int64
	tool                               string
}

func counts(s fleet.Spec) tuning {
	return tuning{s.Replicas, s.MaxReplicasPerNode, s.MaxOngoingRequests, s.MaxQueuedRequests,
		int64(s.CallTimeout), int64(s.MaxCallDuration), s.DefaultTool}
}
