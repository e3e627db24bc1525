package sessions

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

type connected struct{ observe.Worker }

// A session gets a spare that answers at once, if there is one: of the wanted revision,
// warm, and where few sessions are.
func TestOrderOfSpares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Hour)
		snap := &observe.Snapshot{Nodes: map[fleet.NodeID]observe.Node{}, Replicas: map[fleet.ReplicaID]*fleet.Replica{}}
		for _, node := range []fleet.NodeID{"n1", "n2"} {
			snap.Nodes[node] = observe.Node{Connected: true, Worker: connected{}}
		}
		add := func(id fleet.ReplicaID, node fleet.NodeID, revision fleet.Revision, age time.Duration) *fleet.Replica {
			r := &fleet.Replica{
				ID: id, Server: "a", Node: node, Revision: revision, Phase: fleet.PhaseReady, Raw: true, Spare: true, ReadyAt: time.Now().Add(-age),
			}
			snap.Replicas[id] = r
			return r
		}
		add("busy", "n1", 2, time.Hour)
		add("idle", "n2", 2, time.Minute)
		add("young", "n2", 2, 3*time.Second)
		add("younger", "n1", 2, 2*time.Second)
		add("youngest", "n2", 2, 0)
		add("superseded", "n2", 1, time.Hour)
		add("claimed", "n2", 2, time.Hour)
		add("sick", "n2", 2, time.Hour).Unhealthy = true
		for _, id := range []fleet.ReplicaID{"s1", "s2"} {
			add(id, "n1", 2, time.Hour).Session = fleet.SessionID(id)
		}
		d := &fleet.Server{Name: "a", Revision: 2, Offers: true, Stable: 1, StableTemplate: &fleet.Template{}}
		tenure := &tenure{claims: map[fleet.ReplicaID]key{"claimed": {"a", "s3"}}}
		var got []fleet.ReplicaID
		for _, r := range tenure.spares(snap, d) {
			got = append(got, r.ID)
		}
		want := []fleet.ReplicaID{"idle", "busy", "young", "younger", "youngest", "superseded"}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}
