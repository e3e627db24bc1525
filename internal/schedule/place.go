package schedule

import (
	"slices"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Request is one replica that needs a node.
type Request struct {
	Template   *fleet.Template
	MaxPerNode int // of the server on one node; 0: no limit
	// Avoid is a node that gets the replica only if no other fits. "": none.
	Avoid fleet.NodeID
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
	// NoSessions means that its worker gives no replicas to sessions: it is of an older
	// version.
	NoSessions bool
	// Suspect is why the leader wants nothing new there, in words; "" if it does. It
	// does not count for replicas that no other node could ever take.
	Suspect string
}

// CouldPlace reports whether any node would take the replica if it were empty and
// connected. Nodes that drain or are gone would not.
func CouldPlace(req Request, nodes []Node) bool {
	for i := range nodes {
		n := nodes[i]
		if n.Gone {
			continue
		}
		n.Connected, n.Allocated, n.OfServer, n.Suspect = true, fleet.Resources{}, 0, ""
		if exclusion(req.Template, &n) == "" && fits(&req, &n) {
			return true
		}
	}
	return false
}

// exclusion returns why the node takes no replicas of the template, however much
// room it has. It returns "" if it does.
func exclusion(t *fleet.Template, n *Node) cause {
	switch {
	case !n.Connected:
		return unreachable
	case n.Draining:
		return draining
	case n.Cordoned:
		return cordoned
	case n.Unfit != "":
		return unfit + cause(n.Unfit)
	case n.Suspect != "":
		return suspect + cause(n.Suspect)
	case !fleet.CanRun(n.Runtimes, t):
		return noRuntime
	case n.NoSessions && t.PerSession():
		return noSessions
	}
	missing := ""
	for k, v := range t.Labels {
		if has, ok := n.Labels[k]; (!ok || has != v) && (missing == "" || k < missing) {
			missing = k // the first by name, whatever the order of the map
		}
	}
	if missing != "" {
		return label + cause(missing+"="+t.Labels[missing])
	}
	return ""
}

// slack is what sums of CPUs may be off by, because they are floats.
const slack = 1e-9

// fits reports whether a node that takes replicas of the template has room for one.
func fits(req *Request, n *Node) bool {
	want, all, used := &req.Template.Resources, &n.Capacity, &n.Allocated
	switch {
	case req.MaxPerNode > 0 && n.OfServer >= req.MaxPerNode,
		want.CPUs > 0 && all.CPUs > 0 && want.CPUs > all.CPUs-used.CPUs+slack,
		want.Memory > 0 && all.Memory > 0 && want.Memory > all.Memory-used.Memory,
		want.PIDs > 0 && all.PIDs > 0 && want.PIDs > all.PIDs-used.PIDs:
		return false
	}
	for name, n := range want.Custom {
		if n > all.Custom[name]-used.Custom[name] {
			return false
		}
	}
	return true
}

// shortage is a resource of which a node has less free than a replica wants.
type shortage struct {
	what cause
	want float64
	free float64
}

// shortages returns the resources that the node lacks for a replica. A node whose
// capacity is not known lacks nothing, except that one that names no custom resource
// of a name has none of it.
func shortages(want *fleet.Resources, n *Node) (out []shortage) {
	all, used := &n.Capacity, &n.Allocated
	if free := all.CPUs - used.CPUs; want.CPUs > 0 && all.CPUs > 0 && want.CPUs > free+slack {
		out = append(out, shortage{noCPUs, want.CPUs, max(free, 0)})
	}
	if free := all.Memory - used.Memory; want.Memory > 0 && all.Memory > 0 && want.Memory > free {
		out = append(out, shortage{noMemory, float64(want.Memory), float64(max(free, 0))})
	}
	if free := all.PIDs - used.PIDs; want.PIDs > 0 && all.PIDs > 0 && want.PIDs > free {
		out = append(out, shortage{noPIDs, float64(want.PIDs), float64(max(free, 0))})
	}
	known := len(out)
	for name, wanted := range want.Custom {
		if free := all.Custom[name] - used.Custom[name]; wanted > free {
			out = append(out, shortage{noCustom + cause(name), float64(wanted), float64(max(free, 0))})
		}
	}
	slices.SortFunc(out[known:], func(a, b shortage) int { return strings.Compare(string(a.what), string(b.what)) })
	return out
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
	s := max(
		part(n.Allocated.CPUs, n.Capacity.CPUs),
		part(float64(n.Allocated.Memory), float64(n.Capacity.Memory)),
		part(float64(n.Allocated.PIDs), float64(n.Capacity.PIDs)),
	)
	for name, used := range n.Allocated.Custom {
		s = max(s, part(float64(used), float64(n.Capacity.Custom[name])))
	}
	return s
}
