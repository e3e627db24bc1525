package observe

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// deadWorker is a connection that is never used.
type deadWorker struct{ Worker }

// Snapshots that are made of the last one and of what has changed since are the same
// as those that are made of everything, whatever happens in between.
func TestSnapshotsAreComplete(t *testing.T) {
	for seed := range uint64(40) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		o := New(Config{Log: slog.New(slog.DiscardHandler), Order: func() (fleet.Order, bool) { return fleet.Order{}, false }})
		members := map[fleet.LifeID]fleet.Member{}
		version := uint64(0)
		for step := range 600 {
			node := fleet.NodeID(fmt.Sprint("n", rnd.IntN(5)))
			id := fleet.LifeID(fmt.Sprint(node, "-", rnd.IntN(3)))
			var l *life
			if n := o.nodes[node]; n != nil {
				l = n.lives[id]
			}
			version++
			switch rnd.IntN(8) {
			case 0:
				members[id] = fleet.Member{Node: node, Life: id, Role: fleet.RoleWorker, Started: time.Unix(int64(step), 0)}
			case 1:
				delete(members, id)
			case 2:
				if l != nil {
					o.apply(l, deadWorker{}, fleet.Report{Full: true, Version: version, Node: &fleet.NodeInfo{Node: node, Life: id}, Replicas: randomReplicas(rnd, node)})
				}
			case 3:
				if l != nil {
					o.disconnect(l, nil)
				}
			default:
				if l != nil && l.connected {
					o.apply(l, deadWorker{}, fleet.Report{
						Version: version, Draining: rnd.IntN(9) == 0, Replicas: randomReplicas(rnd, node),
						Forgotten: []fleet.ReplicaID{fleet.ReplicaID(fmt.Sprint(node, "-r", rnd.IntN(20)))},
					})
				}
			}
			o.updateLives(context.Background(), slices.Collect(maps.Values(members)), time.Now().Add(time.Duration(rnd.IntN(5)/4)*time.Hour))
			if rnd.IntN(3) == 0 {
				compareSnapshot(t, o, fmt.Sprintf("seed %d, step %d", seed, step))
			}
		}
	}
}

func randomReplicas(rnd *rand.Rand, node fleet.NodeID) (out []fleet.Replica) {
	for range rnd.IntN(6) {
		id := fleet.ReplicaID(fmt.Sprint(node, "-r", rnd.IntN(20)))
		out = append(out, fleet.Replica{ID: id, Server: "s", Phase: fleet.Phase(1 + rnd.IntN(int(fleet.PhaseFailed)))})
	}
	return out
}

// compareSnapshot compares the snapshot with what the observer knows.
func compareSnapshot(t *testing.T, o *Observer, when string) {
	t.Helper()
	nodes, replicas := make(map[fleet.NodeID]Node), make(map[fleet.ReplicaID]*fleet.Replica)
	for name, n := range o.nodes {
		if n.current == nil {
			continue
		}
		nodes[name] = n.show()
		for id, r := range n.current.replicas {
			replicas[id] = r
		}
	}
	s := o.Snapshot()
	if !reflect.DeepEqual(s.Nodes, nodes) {
		t.Fatalf("%s: nodes\n got %v\nwant %v", when, s.Nodes, nodes)
	}
	if !maps.Equal(s.Replicas, replicas) {
		t.Fatalf("%s: replicas\n got %v\nwant %v", when, s.Replicas, replicas)
	}
	var ids []fleet.ReplicaID
	for _, r := range s.Sorted() {
		ids = append(ids, r.ID)
		if replicas[r.ID] != r {
			t.Fatalf("%s: the sorted list has another %s", when, r.ID)
		}
	}
	if want := slices.Sorted(maps.Keys(replicas)); !slices.Equal(ids, want) {
		t.Fatalf("%s: sorted\n got %v\nwant %v", when, ids, want)
	}
}
