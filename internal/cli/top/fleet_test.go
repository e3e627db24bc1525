package top

import (
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// noon is when the second reading of the tests was made.
func noon() time.Time { return time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC) }

// readings returns two readings of a small fleet, two seconds apart. In that time web
// took 40 calls at one replica and 20 at the other, of which 2 failed.
func readings() (before, now Reading) {
	servers := []api.Server{
		{Name: "web", State: fleet.StateUpdating, Ready: 2, Desired: 3, Revision: 4, Rollout: &api.Rollout{From: 3, To: 4}, Queued: 7, Ongoing: 5,
			Reason: "revision 4: 1 of 3 replicas ready; 1 of the revision before; 1 starting"},
		{Name: "files", State: fleet.StateReady, Ready: 1, Desired: 1, Revision: 1},
		{Name: "nightly-report", State: fleet.StateIdle, Revision: 12, Reason: "nobody calls: a call starts it"},
	}
	nodes := []api.Node{
		{Name: "c1", Role: fleet.RoleController, State: api.NodeReady, Leader: true},
		{Name: "n1", Role: fleet.RoleWorker, State: api.NodeReady, Replicas: 2, Capacity: api.Resources{CPUs: 8, Memory: 16 << 30}, Allocated: api.Resources{CPUs: 1.5, Memory: 1 << 30}},
		{Name: "n2", Role: fleet.RoleWorker, State: api.NodeReady, Replicas: 2, Cordoned: true, Reason: "its starts keep failing", Capacity: api.Resources{CPUs: 8, Memory: 16 << 30}},
	}
	started := noon().Add(-5 * time.Minute)
	one := func(id, server, node string, revision fleet.Revision, total uint64, calls api.Calls, usage *api.Usage) api.Replica {
		return api.Replica{
			ID: fleet.ReplicaID(id), Server: fleet.ServerName(server), Node: fleet.NodeID(node), Phase: "READY", Revision: revision,
			StartedAt: &started, TotalCalls: total, Calls: calls, Usage: usage,
		}
	}
	before = Reading{At: noon().Add(-2 * time.Second), Servers: servers, Nodes: nodes, Replicas: []api.Replica{
		one("files-1-aa", "files", "n1", 1, 900, api.Calls{OK: 900, Latency: []uint64{900}}, &api.Usage{CPUs: 0.01, Memory: 30 << 20}),
		one("web-3-bb", "web", "n1", 3, 1000, api.Calls{OK: 995, IsError: 5, Latency: []uint64{0, 0, 0, 0, 1000}}, &api.Usage{CPUs: 0.3, Memory: 90 << 20}),
		one("web-3-cc", "web", "n2", 3, 10, api.Calls{OK: 10, Latency: []uint64{10}}, nil),
	}}
	starting := one("web-4-dd", "web", "n2", 4, 0, api.Calls{}, nil)
	starting.Phase, starting.StartedAt = "PULLING", nil
	now = Reading{At: noon(), Servers: servers, Nodes: nodes, Replicas: []api.Replica{
		starting,
		one("web-3-cc", "web", "n2", 3, 30, api.Calls{OK: 30, Latency: []uint64{30}}, &api.Usage{CPUs: 0.05, Memory: 80 << 20}),
		one("web-3-bb", "web", "n1", 3, 1040, api.Calls{OK: 1033, IsError: 6, TimedOut: 1, Latency: []uint64{0, 0, 0, 0, 1020, 20}}, &api.Usage{CPUs: 0.5, Memory: 100 << 20}),
		one("files-1-aa", "files", "n1", 1, 900, api.Calls{OK: 900, Latency: []uint64{900}}, &api.Usage{CPUs: 0.01, Memory: 30 << 20}),
	}}
	now.Replicas[2].Ongoing = 5
	return before, now
}
