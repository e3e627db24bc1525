package reconcile

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/observe/observetest"
)

// Images are pulled on all nodes that may run them, once for each image and life of a
// node, also those of servers that run nothing yet.
func TestPrepull(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2")
		idle := server("idle", 1, 0)
		idle.Spec.Autoscaling, idle.Target.By = &fleet.Autoscaling{}, fleet.ByAutoscaling
		never := server("never", 1, 1, func(s *fleet.Spec) { s.PullPolicy = fleet.PullNever })
		elsewhere := server("elsewhere", 1, 1, func(s *fleet.Spec) { s.Labels = map[string]string{"disk": "ssd"} })
		command := server("command", 1, 1, func(s *fleet.Spec) { s.Image, s.Command = "", []string{"x"} })
		w.desired.set(server("a", 1, 1), idle, never, elsewhere, command, server("stopped", 1, 0))
		w.control()
		defer w.stop()
		images := func(n *observetest.Worker) (out []string) {
			for _, p := range n.Pulls() {
				out = append(out, p.Image)
			}
			slices.Sort(out)
			return out
		}
		pulled := func(n *observetest.Worker, want ...string) func() bool {
			return func() bool { return slices.Equal(images(n), want) }
		}
		w.until(2*time.Second, "pulled on n1", pulled(w.workers[0], "a:1", "idle:1"))
		w.until(2*time.Second, "pulled on n2", pulled(w.workers[1], "a:1", "idle:1"))

		w.desired.set(server("a", 2, 1), idle, server("stopped", 1, 0))
		w.until(2*time.Second, "the next revision", pulled(w.workers[1], "a:1", "a:2", "idle:1"))
		late := w.add("n3", nil)
		w.until(5*time.Second, "a node that joins", pulled(late, "a:2", "idle:1"))
		time.Sleep(time.Minute)
		if got := images(w.workers[0]); len(got) != 3 {
			t.Errorf("n1 was told to pull %v, want each image once", got)
		}
	})
}

// In a large fleet an image is pulled on some of the nodes that may run it. A node that
// joins changes little, and servers with one image share its pulls.
func TestPrepullOnSomeNodes(t *testing.T) {
	snap := &observe.Snapshot{Nodes: make(map[fleet.NodeID]observe.Node)}
	join := func(i int) {
		id := fleet.NodeID(fmt.Sprint("n", i))
		snap.Nodes[id] = observe.Node{
			Member: fleet.Member{Node: id, Life: fleet.LifeID(id)}, Connected: true,
			Info: fleet.NodeInfo{Runtimes: []string{fleet.RuntimePodman}, Labels: map[string]string{"odd": fmt.Sprint(i%2 == 1)}},
		}
	}
	for i := range 100 {
		join(i)
	}
	var servers []fleet.Server
	for i := range 20 {
		servers = append(servers, server(fmt.Sprint("a", i), 1, 1, func(s *fleet.Spec) { s.Labels = map[string]string{"odd": "true"} }))
	}
	servers = append(servers, servers[0])
	servers[20].Name = "same"
	done := pulled{}
	order := func() int {
		list := done.missing(servers, nil, snap)
		for _, p := range list {
			done[p.key] = true
			if p.node.Info.Labels["odd"] != "true" {
				t.Fatalf("%s pulls what it cannot run", p.node.Member.Node)
			}
		}
		return len(list)
	}
	if n := order(); n != 20*pullNodes {
		t.Errorf("%d pulls, want %d for each of 20 images", n, pullNodes)
	}
	if n := order(); n != 0 {
		t.Errorf("%d pulls the second time", n)
	}
	join(101)
	if n := order(); n > 20 {
		t.Errorf("%d pulls after one node has joined, want one for each image at most", n)
	}
	delete(snap.Nodes, "n1")
	if n := order(); n > 20 || len(done) > 20*(pullNodes+1) {
		t.Errorf("%d pulls after one node has left, %d remembered", n, len(done))
	}
}

// An order to pull that is lost is repeated, and workers that do not know it are
// left alone.
func TestPrepullIsRepeated(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2")
		w.workers[1].Age()
		w.net.SetFaults(observetest.Faults{DropOrder: 0.7})
		w.desired.set(server("a", 1, 1))
		w.control()
		defer w.stop()
		w.until(2*time.Minute, "pulled", func() bool { return len(w.workers[0].Pulls()) > 0 })
		if n := len(w.workers[1].Pulls()); n != 0 {
			t.Errorf("an old worker obeyed %d orders that it does not know", n)
		}
	})
}
