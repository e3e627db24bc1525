package controller

import (
	"slices"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Calls go to what is wanted, and to what it replaces only until the rollout is
// over.
func TestWantedReplicas(t *testing.T) {
	replica := func(id fleet.ReplicaID, rev fleet.Revision, gen uint64) *fleet.Replica {
		return &fleet.Replica{ID: id, Revision: rev, Generation: gen}
	}
	serving := []*fleet.Replica{
		replica("old", 1, 0), replica("before the restart", 2, 0), replica("current", 2, 1),
		replica("rolled back from", 3, 1), replica("newer than known", 4, 1),
	}
	revisions := []desired.Revision{{Number: 1}, {Number: 2}, {Number: 3}}
	for name, tt := range map[string]struct {
		server desired.Server
		want   []fleet.ReplicaID
	}{
		"rolling": {
			desired.Server{Revision: 2, Stable: 1, Generation: 1, Rollout: &desired.Rollout{From: 1, To: 2}},
			[]fleet.ReplicaID{"old", "before the restart", "current", "rolled back from", "newer than known"},
		},
		"over": {
			desired.Server{Revision: 2, Stable: 2, Generation: 1},
			[]fleet.ReplicaID{"current", "newer than known"},
		},
		"never rolled out": {
			desired.Server{Revision: 2, Generation: 1},
			[]fleet.ReplicaID{"old", "before the restart", "current", "rolled back from", "newer than known"},
		},
	} {
		tt.server.Revisions = revisions
		var got []fleet.ReplicaID
		for _, r := range wanted(&tt.server, slices.Clone(serving)) {
			got = append(got, r.ID)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: calls go to %q, want %q", name, got, tt.want)
		}
	}
}
