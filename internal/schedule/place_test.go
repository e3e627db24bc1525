package schedule

import (
	"slices"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const mib = 1 << 20

func node(id string, set ...func(*Node)) Node {
	n := Node{ID: fleet.NodeID(id), Runtimes: []string{fleet.RuntimePodman}, Connected: true}
	for _, f := range set {
		f(&n)
	}
	return n
}

func zone(z string) func(*Node)        { return func(n *Node) { n.Zone = z } }
func has(k int) func(*Node)            { return func(n *Node) { n.Spread, n.OfServer, n.Replicas = k, k, k } }
func others(k int) func(*Node)         { return func(n *Node) { n.Replicas += k } }
func runs(r ...string) func(*Node)     { return func(n *Node) { n.Runtimes = r } }
func labelled(k, v string) func(*Node) { return func(n *Node) { n.Labels = map[string]string{k: v} } }
func shaky(n *Node)                    { n.Suspect = "its connection flaps" }
func drains(n *Node)                   { n.Draining = true }
func noMore(n *Node)                   { n.Cordoned = true }
func gone(n *Node)                     { n.Connected = false }
func custom(name string, all, used int64) func(*Node) {
	return func(n *Node) {
		n.Capacity.Custom, n.Allocated.Custom = map[string]int64{name: all}, map[string]int64{name: used}
	}
}
func memory(all, used int64) func(*Node) {
	return func(n *Node) { n.Capacity.Memory, n.Allocated.Memory = all, used }
}
func cpus(all, used float64) func(*Node) {
	return func(n *Node) { n.Capacity.CPUs, n.Allocated.CPUs = all, used }
}

func TestPlace(t *testing.T) {
	image := fleet.Template{Image: "img"}
	command := fleet.Template{Command: []string{"cmd"}}
	gpu := fleet.Template{Image: "img", Resources: fleet.Resources{Custom: map[string]int64{"gpu": 1}}}
	big := fleet.Template{Image: "img", Resources: fleet.Resources{Memory: 512 * mib}}
	tests := []struct {
		name  string
		req   Request
		nodes []Node
		want  fleet.NodeID
		why   string
	}{
		{"no nodes", Request{Template: &image}, nil, "", NoNodes},
		{"first by name", Request{Template: &image}, []Node{node("b"), node("a")}, "a", ""},
		{"fewest of the server", Request{Template: &image}, []Node{node("a", has(2)), node("b", has(1)), node("c", has(3))}, "b", ""},
		{"zone before node", Request{Template: &image},
			[]Node{node("a", zone("x"), has(1)), node("b", zone("x")), node("c", zone("y"), has(0), others(9))}, "c", ""},
		{"a draining node still counts for its zone", Request{Template: &image},
			[]Node{node("a", zone("x"), has(2), drains), node("b", zone("x")), node("c", zone("y"), has(1))}, "c", ""},
		{"least allocated share", Request{Template: &big},
			[]Node{node("a", memory(1024*mib, 512*mib)), node("b", memory(4096*mib, 1024*mib))}, "b", ""},
		{"share over number of replicas", Request{Template: &image},
			[]Node{node("a", cpus(4, 2), others(1)), node("b", cpus(4, 1), others(5))}, "b", ""},
		{"number of replicas", Request{Template: &image}, []Node{node("a", others(3)), node("b", others(2))}, "b", ""},
		{"fits exactly", Request{Template: &big}, []Node{node("a", memory(1024*mib, 512*mib))}, "a", ""},
		{"fits exactly in tenths", Request{Template: &fleet.Template{Image: "i", Resources: fleet.Resources{CPUs: 0.1}}},
			[]Node{node("a", cpus(0.3, 0.1+0.1))}, "a", ""},
		{"unknown capacity bounds nothing", Request{Template: &big}, []Node{node("a")}, "a", ""},
		{"least allocated share of a custom resource", Request{Template: &image},
			[]Node{node("a", custom("gpu", 4, 3)), node("b", custom("gpu", 4, 2), others(5))}, "b", ""},
		{"enough of a custom resource", Request{Template: &gpu}, []Node{node("a", custom("gpu", 2, 2)), node("b", custom("gpu", 2, 1))}, "b", ""},
		{"a node without the custom resource has none", Request{Template: &gpu}, []Node{node("a"), node("b", custom("gpu", 1, 0), others(9))}, "b", ""},
		{"full node is passed over", Request{Template: &image, MaxPerNode: 1}, []Node{node("a", has(1)), node("b", has(1)), node("c", others(9))}, "c", ""},
		{"label", Request{Template: &fleet.Template{Image: "i", Labels: map[string]string{"disk": "ssd"}}},
			[]Node{node("a", labelled("disk", "hdd")), node("b", labelled("disk", "ssd"), has(5))}, "b", ""},
		{"command goes to a process node", Request{Template: &command}, []Node{node("a"), node("b", runs("process"))}, "b", ""},
		{"image goes to a podman node", Request{Template: &image}, []Node{node("a", runs("process")), node("b")}, "b", ""},
		{"command goes to a node with both", Request{Template: &command}, []Node{node("a"), node("b", runs("podman", "process"))}, "b", ""},
		{"image goes to a node with both", Request{Template: &image}, []Node{node("a", runs("process")), node("b", runs("podman", "process"))}, "b", ""},
		{"both kinds share a node", Request{Template: &image}, []Node{node("a", runs("podman", "process"), others(1)), node("b", others(2))}, "a", ""},
		{"a node that names no runtime takes both", Request{Template: &command}, []Node{node("a", runs())}, "a", ""},
		{"a test runtime takes both", Request{Template: &command}, []Node{node("a", runs("fake"))}, "a", ""},

		{"only draining", Request{Template: &image}, []Node{node("a", drains)}, "", "no node fits: 1 node is draining"},
		{"cordoned", Request{Template: &image}, []Node{node("a", drains), node("b", noMore), node("c", noMore)}, "", "no node fits: 2 nodes are cordoned, 1 is draining; it would fit with one of 2 cordoned nodes uncordoned"},
		{"one is cordoned", Request{Template: &image}, []Node{node("a", noMore), node("b", others(9))}, "b", ""},
		{"only unreachable", Request{Template: &image}, []Node{node("a", gone), node("b", gone)}, "", "no node fits: 2 nodes are unreachable"},
		{"command on podman", Request{Template: &command}, []Node{node("a")}, "",
			"no node fits: 1 node does not offer the process runtime, which a command needs (worker --runtime podman,process)"},
		{"image on process", Request{Template: &image}, []Node{node("a", runs("process")), node("b", runs("process"))}, "",
			"no node fits: 2 nodes do not offer the podman runtime, which an image needs (worker --runtime podman,process)"},
		{"runtime and labels", Request{Template: &fleet.Template{Command: []string{"cmd"}, Labels: map[string]string{"disk": "ssd"}}},
			[]Node{node("a", labelled("disk", "ssd")), node("b", runs("podman", "process")), node("c", labelled("disk", "ssd"))}, "",
			"no node fits: 2 nodes do not offer the process runtime, which a command needs (worker --runtime podman,process), 1 lacks the label disk=ssd"},
		{"bound", Request{Template: &image, MaxPerNode: 2}, []Node{node("a", has(2))}, "",
			"no node fits: 1 node has max_replicas_per_node (2) already"},
		{"several causes", Request{Template: &fleet.Template{Image: "i", Labels: map[string]string{"disk": "ssd"}, Resources: fleet.Resources{Memory: 512 * mib}}},
			[]Node{
				node("a", labelled("disk", "ssd"), memory(1024*mib, 1000*mib)),
				node("b", labelled("disk", "ssd"), memory(600*mib, 500*mib)),
				node("c", drains), node("d", labelled("disk", "hdd")),
			}, "",
			"no node fits: 2 nodes lack memory (512 MiB wanted, 100 MiB free at most), 1 is draining, 1 lacks the label disk=ssd" +
				"; it would fit with 412 MiB more memory on node b"},
		{"cpus", Request{Template: &fleet.Template{Image: "i", Resources: fleet.Resources{CPUs: 1.5}}},
			[]Node{node("a", cpus(2, 1.7))}, "", "no node fits: 1 node lacks cpus (1.5 wanted, 0.3 free at most); it would fit with 1.2 more cpus on node a"},
		{"no cpus are left", Request{Template: &fleet.Template{Image: "i", Resources: fleet.Resources{CPUs: 1}}},
			[]Node{node("a", cpus(2, 2))}, "", "no node fits: 1 node lacks cpus (1 wanted, 0 free at most); it would fit with 1 more cpus on node a"},
		{"overbooked is not negative", Request{Template: &big}, []Node{node("a", memory(100*mib, 200*mib))}, "",
			"no node fits: 1 node lacks memory (512 MiB wanted, 0 B free at most); it would fit with 512 MiB more memory on node a"},
		{"custom", Request{Template: &gpu}, []Node{node("a"), node("b", custom("gpu", 2, 2)), node("c", noMore, custom("gpu", 1, 0))}, "",
			"no node fits: 2 nodes lack gpu (1 wanted, 0 free at most), 1 is cordoned" +
				"; it would fit with 1 more gpu on one of 2 nodes, or with node c uncordoned"},
		{"a suspect node is avoided", Request{Template: &image}, []Node{node("a", shaky), node("b", has(5))}, "b", ""},
		{"suspect, but nothing else could ever take it", Request{Template: &gpu}, []Node{node("a", shaky, custom("gpu", 1, 0)), node("b")}, "a", ""},
		{"suspect, and another could if it had room", Request{Template: &big}, []Node{node("a", shaky), node("b", memory(512*mib, mib))}, "",
			"no node fits: 1 node lacks memory (512 MiB wanted, 511 MiB free at most), 1 is cordoned by the leader (its connection flaps)" +
				"; it would fit with 1 MiB more memory on node b"},
		{"a cordoned node without room is of no use", Request{Template: &gpu}, []Node{node("a", noMore)}, "", "no node fits: 1 node is cordoned"},
		{"several resources", Request{Template: &fleet.Template{Image: "i", Resources: fleet.Resources{PIDs: 10, Custom: map[string]int64{"gpu": 2, "disk": 1}}}},
			[]Node{node("a", custom("gpu", 1, 0)), node("b")}, "",
			"no node fits: 2 nodes lack disk (1 wanted, 0 free at most); it would fit with 1 more disk and 1 more gpu on node a"},
		{"the least addition: of fewer resources", Request{Template: &fleet.Template{Image: "i", Resources: fleet.Resources{Memory: 512 * mib, Custom: map[string]int64{"gpu": 1}}}},
			[]Node{node("a", memory(512*mib, mib)), node("b", memory(512*mib, 512*mib), custom("gpu", 1, 0))}, "",
			"no node fits: 2 nodes lack memory (512 MiB wanted, 511 MiB free at most); it would fit with 512 MiB more memory on node b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, why := roomOf(tt.nodes).Place(tt.req)
			if got != tt.want || why != tt.why {
				t.Errorf("Place = %q, %q\n want %q, %q", got, why, tt.want, tt.why)
			}
		})
	}
}

// roomOf returns a room with these nodes and counts.
func roomOf(nodes []Node) *Room {
	bare := slices.Clone(nodes)
	for i := range bare {
		bare[i].OfServer, bare[i].Spread = 0, 0
	}
	r := NewRoom(bare)
	for i := range nodes {
		for k := range max(nodes[i].OfServer, nodes[i].Spread) {
			r.Count(nodes[i].ID, k < nodes[i].OfServer, k < nodes[i].Spread)
		}
	}
	return r
}

// The choice does not depend on the order of the nodes.
func TestPlaceIsDeterministic(t *testing.T) {
	req := Request{Template: &fleet.Template{Image: "i"}}
	nodes := []Node{node("a", zone("x"), has(1)), node("b", zone("y")), node("c", zone("y")), node("d", zone("z"))}
	for i := range nodes {
		rotated := append(append([]Node{}, nodes[i:]...), nodes[:i]...)
		if got, _ := roomOf(rotated).Place(req); got != "b" {
			t.Errorf("rotated by %d: Place = %q, want b", i, got)
		}
	}
}

func TestFitsWithout(t *testing.T) {
	req := Request{Template: &fleet.Template{Image: "i", Resources: fleet.Resources{Memory: 100}}, MaxPerNode: 2}
	for _, tt := range []struct {
		name string
		node Node
		want bool
	}{
		{"in its place", node("a", memory(100, 100), has(1)), true},
		{"it held too little", node("a", memory(200, 180), has(1)), false},
		{"one fewer of the server", node("a", has(2)), true},
		{"one fewer is not enough", node("a", has(3)), false},
		{"nothing new there", node("a", noMore, has(1)), false},
		{"on another node", node("b"), false},
	} {
		held := fleet.Resources{Memory: 100}
		if tt.name == "it held too little" {
			held.Memory = 50
		}
		if got := roomOf([]Node{tt.node}).FitsWithout("a", held, req); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.name, got, tt.want)
		}
	}
}
