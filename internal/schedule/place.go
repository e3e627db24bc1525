package schedule

import (
	"cmp"
	"maps"
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Request is one replica that needs a node.
type Request struct {
	Template   *fleet.Template
	MaxPerNode int // of the server on one node; 0: no limit
}

// Node is what placement knows about a node.
type Node struct {
	ID        fleet.NodeID
	Zone      string
	Labels    map[string]string
	Runtimes  []string // what it offers; see fleet.CanRun
	Capacity  fleet.Resources
	Allocated fleet.Resources // reserved by replicas that run or are about to
	Replicas  int             // those replicas
	OfServer  int             // those of the server in question, for MaxPerNode
	Spread    int             // those of them that are to stay, for the spread
	Connected bool
	Draining  bool   // it is being emptied
	Cordoned  bool   // an operator wants nothing new there
	Gone      bool   // not connected for so long that it counts as lost
	Unfit     string // why it starts no replicas, in words; "" if it does
}

// Place returns the node that should get the replica, or "" and the reason why no
// node can. Among the nodes that fit it takes the zone with the fewest replicas of
// the server, and there the node with the fewest. Of equals it takes the least
// allocated one (by the largest share of a resource that is reserved, then by the
// number of replicas), then the first by name. Equal input gives equal output.
func Place(req Request, nodes []Node) (fleet.NodeID, string) {
	zones := make(map[string]int)
	for i := range nodes {
		zones[nodes[i].Zone] += nodes[i].Spread
	}
	var best *Node
	var refused refusals
	for i := range nodes {
		n := &nodes[i]
		if why, short := misfit(req, n); why != "" {
			refused.add(why, short)
			continue
		}
		if best == nil || compare(n, best, zones) < 0 {
			best = n
		}
	}
	if best == nil {
		return "", refused.String(req)
	}
	return best.ID, ""
}

// CouldPlace reports whether any node would take the replica if it were empty and
// connected. Nodes that drain or are gone would not.
func CouldPlace(req Request, nodes []Node) bool {
	for i := range nodes {
		n := nodes[i]
		if n.Gone {
			continue
		}
		n.Connected, n.Allocated, n.Replicas, n.OfServer = true, fleet.Resources{}, 0, 0
		if why, _ := misfit(req, &n); why == "" {
			return true
		}
	}
	return false
}

func compare(a, b *Node, zones map[string]int) int {
	return cmp.Or(
		cmp.Compare(zones[a.Zone], zones[b.Zone]),
		cmp.Compare(a.Spread, b.Spread),
		cmp.Compare(share(a), share(b)),
		cmp.Compare(a.Replicas, b.Replicas),
		cmp.Compare(a.ID, b.ID),
	)
}

// share returns how much of a node is reserved: the largest part of any resource
// that it limits.
func share(n *Node) float64 {
	part := func(used, all float64) float64 {
		if all <= 0 {
			return 0
		}
		return used / all
	}
	return max(
		part(n.Allocated.CPUs, n.Capacity.CPUs),
		part(float64(n.Allocated.Memory), float64(n.Capacity.Memory)),
		part(float64(n.Allocated.PIDs), float64(n.Capacity.PIDs)),
	)
}

// misfit returns why the node cannot take the replica, "" if it can. For a scarce
// resource it also returns how much of it is free.
func misfit(req Request, n *Node) (why cause, free float64) {
	t := req.Template
	switch {
	case !n.Connected:
		return unreachable, 0
	case n.Draining:
		return draining, 0
	case n.Cordoned:
		return cordoned, 0
	case n.Unfit != "":
		return unfit + cause(n.Unfit), 0
	case !fleet.CanRun(n.Runtimes, t):
		return noRuntime, 0
	}
	for _, k := range slices.Sorted(maps.Keys(t.Labels)) {
		if v, ok := n.Labels[k]; !ok || v != t.Labels[k] {
			return label + cause(k+"="+t.Labels[k]), 0
		}
	}
	if req.MaxPerNode > 0 && n.OfServer >= req.MaxPerNode {
		return atLimit, 0
	}
	want, left := t.Resources, n.Capacity.Sub(n.Allocated)
	const slack = 1e-9 // CPUs are added and subtracted as floats
	switch {
	case want.CPUs > 0 && n.Capacity.CPUs > 0 && want.CPUs > left.CPUs+slack:
		return noCPUs, max(left.CPUs, 0)
	case want.Memory > 0 && n.Capacity.Memory > 0 && want.Memory > left.Memory:
		return noMemory, float64(max(left.Memory, 0))
	case want.PIDs > 0 && n.Capacity.PIDs > 0 && want.PIDs > left.PIDs:
		return noPIDs, float64(max(left.PIDs, 0))
	}
	return "", 0
}
