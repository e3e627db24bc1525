package schedule

import (
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
func drains(n *Node)                   { n.Draining = true }
func noMore(n *Node)                   { n.Cordoned = true }
func gone(n *Node)                     { n.Connected = false }
func memory(all, used int64) func(*Node) {
	return func(n *Node) { n.Capacity.Memory, n.Allocated.Memory = all, used }
}
func cpus(all, used float64) func(*Node) {
	return func(n *Node) { n.Capacity.CPUs, n.Allocated.CPUs = all, used }
}

func TestPlace(t *testing.T) {
	image := fleet.Template{Image: "img"}
	command := fleet.Template{Command: []string{"cmd"}}
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
		{"cordoned", Request{Template: &image}, []Node{node("a", drains), node("b", noMore), node("c", noMore)}, "", "no node fits: 2 nodes are cordoned, 1 is draining"},
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
			"no node fits: 2 nodes lack memory (512 MiB wanted, 100 MiB free at most), 1 is draining, 1 lacks the label disk=ssd"},
		{"cpus", Request{Template: &fleet.Template{Image: "i", Resources: fleet.Resources{CPUs: 1.5}}},
			[]Node{node("a", cpus(2, 1.7))}, "", "no node fits: 1 node lacks cpus (1.5 wanted, 0.3 free at most)"},
		{"overbooked is not negative", Request{Template: &big}, []Node{node("a", memory(100*mib, 200*mib))}, "",
			"no node fits: 1 node lacks memory (512 MiB wanted, 0 B free at most)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, why := Place(tt.req, tt.nodes)
			if got != tt.want || why != tt.why {
				t.Errorf("Place = %q, %q\n want %q, %q", got, why, tt.want, tt.why)
			}
		})
	}
}

// The choice does not depend on the order of the nodes.
func TestPlaceIsDeterministic(t *testing.T) {
	req := Request{Template: &fleet.Template{Image: "i"}}
	nodes := []Node{node("a", zone("x"), has(1)), node("b", zone("y")), node("c", zone("y")), node("d", zone("z"))}
	for i := range nodes {
		rotated := append(append([]Node{}, nodes[i:]...), nodes[:i]...)
		if got, _ := Place(req, rotated); got != "b" {
			t.Errorf("rotated by %d: Place = %q, want b", i, got)
		}
	}
}
