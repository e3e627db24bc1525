package schedule

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// simplest is the definition of Room.Place: it compares all nodes that fit.
func simplest(req Request, nodes []Node) *Node {
	zones := make(map[string]int)
	for i := range nodes {
		zones[nodes[i].Zone] += nodes[i].Spread
	}
	elsewhere := false
	for _, n := range nodes {
		n.Allocated, n.OfServer = fleet.Resources{}, 0
		elsewhere = elsewhere || exclusion(req.Template, &n) == "" && fits(&req, &n)
	}
	var best *Node
	for i := range nodes {
		n := &nodes[i]
		tried := *n
		if !elsewhere {
			tried.Suspect = ""
		}
		if exclusion(req.Template, &tried) != "" || n.ID == req.Avoid || !fits(&req, n) {
			continue
		}
		if best == nil || cmp.Or(
			cmp.Compare(zones[n.Zone], zones[best.Zone]),
			cmp.Compare(n.Spread, best.Spread),
			cmp.Compare(share(n), share(best)),
			cmp.Compare(n.Replicas, best.Replicas),
			cmp.Compare(n.ID, best.ID),
		) < 0 {
			best = n
		}
	}
	if best == nil && req.Avoid != "" {
		req.Avoid = ""
		return simplest(req, nodes)
	}
	return best
}

// A room places as its definition does, for one server after the other, and says the
// same as a room that was made afresh.
func TestRoomPlacesAsDefined(t *testing.T) {
	for seed := range uint64(400) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		nodes := randomNodes(rnd)
		room := NewRoom(slices.Clone(nodes))
		placed, refused := 0, 0
		for server := range 12 {
			room.ResetCounts()
			for i := range nodes {
				nodes[i].OfServer, nodes[i].Spread = 0, 0
			}
			for range rnd.IntN(6) { // there are some already
				n := &nodes[rnd.IntN(len(nodes))]
				running, stays := rnd.IntN(4) > 0, rnd.IntN(3) > 0
				room.Count(n.ID, running, stays)
				if running {
					n.OfServer++
				}
				if stays {
					n.Spread++
				}
			}
			reqs := []Request{randomRequest(rnd), randomRequest(rnd)} // of two revisions
			for range 1 + rnd.IntN(2*len(nodes)) {
				req := reqs[rnd.IntN(5)/4]
				if rnd.IntN(8) == 0 {
					req.Avoid = nodes[rnd.IntN(len(nodes))].ID
				}
				want := simplest(req, nodes)
				got, why := room.Place(req)
				if want == nil {
					refused++
					if _, afresh := roomOf(nodes).Place(req); got != "" || why != afresh {
						t.Fatalf("seed %d, server %d: placed on %q, %q; want none, %q", seed, server, got, why, afresh)
					}
					continue
				}
				if got != want.ID || why != "" {
					t.Fatalf("seed %d, server %d: placed on %q (%s), want %s", seed, server, got, why, want.ID)
				}
				placed++
				want.OfServer++
				want.Spread++
				want.Replicas++
				want.Allocated = want.Allocated.Add(req.Template.Resources)
			}
		}
		if seed == 0 && (placed == 0 || refused == 0) {
			t.Errorf("%d placed, %d refused: the test shows little", placed, refused)
		}
	}
}

func randomNodes(rnd *rand.Rand) (nodes []Node) {
	for i := range 1 + rnd.IntN(20) {
		n := node(fmt.Sprintf("n%02d", i), zone(fmt.Sprint("z", rnd.IntN(4))), labelled("disk", []string{"ssd", "hdd"}[rnd.IntN(2)]))
		if rnd.IntN(3) > 0 {
			n.Capacity = fleet.Resources{CPUs: float64(1 + rnd.IntN(4)), Memory: int64(rnd.IntN(1000))}
		}
		if rnd.IntN(3) == 0 {
			n.Capacity.Custom = map[string]int64{"gpu": int64(rnd.IntN(4)), "fpga": 1}
		}
		n.Connected, n.Cordoned, n.Draining = rnd.IntN(10) > 0, rnd.IntN(10) == 0, rnd.IntN(10) == 0
		if rnd.IntN(6) == 0 {
			n.Suspect = fmt.Sprint("reason ", rnd.IntN(2))
		}
		if rnd.IntN(10) == 0 {
			n.Runtimes = []string{fleet.RuntimeProcess}
		}
		nodes = append(nodes, n)
	}
	return nodes
}

func randomRequest(rnd *rand.Rand) Request {
	t := &fleet.Template{Image: "i"}
	if rnd.IntN(2) == 0 {
		t.Labels = map[string]string{"disk": []string{"ssd", "hdd", "none"}[rnd.IntN(3)]}
	}
	if rnd.IntN(2) == 0 {
		t.Resources = fleet.Resources{CPUs: 0.1 * float64(rnd.IntN(10)), Memory: int64(rnd.IntN(100))}
	}
	if rnd.IntN(4) == 0 {
		t.Resources.Custom = map[string]int64{[]string{"gpu", "fpga"}[rnd.IntN(2)]: 1}
	}
	return Request{Template: t, MaxPerNode: max(0, rnd.IntN(6)-2)}
}

// Shapes are forgotten when there are too many, which changes nothing.
func TestManyShapes(t *testing.T) {
	room := roomOf([]Node{node("a", labelled("k", "1"), memory(10, 0)), node("b", labelled("k", "2"), memory(10, 0))})
	small := fleet.Resources{Memory: 4}
	mine := Request{Template: &fleet.Template{Image: "i", Labels: map[string]string{"k": "1"}, Resources: small}}
	for i := range 3 * mostShapes {
		if id, _ := room.Place(Request{Template: &fleet.Template{Image: "i", Labels: map[string]string{"x": fmt.Sprint(i)}}}); id != "" {
			t.Fatalf("placed on %s, want none", id)
		}
		id, _ := room.Place(mine)
		if want := map[bool]fleet.NodeID{true: "a"}[i < 2]; id != want {
			t.Fatalf("replica %d is placed on %q, want %q", i, id, want)
		}
	}
	if len(room.shapes) > mostShapes {
		t.Errorf("%d shapes are kept", len(room.shapes))
	}
}

func BenchmarkPlace(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprintf("%d_nodes", n), func(b *testing.B) {
			req := Request{Template: &fleet.Template{Image: "i", Resources: fleet.Resources{CPUs: 0.01}}}
			var nodes []Node
			for i := range n {
				nodes = append(nodes, node(fmt.Sprintf("n%05d", i), zone(fmt.Sprint("z", i%10)), cpus(1e6, 0)))
			}
			room := NewRoom(nodes)
			for i := 0; b.Loop(); i++ {
				if i%20 == 0 {
					room.ResetCounts()
				}
				if id, why := room.Place(req); id == "" {
					b.Fatal(why)
				}
			}
		})
	}
}
