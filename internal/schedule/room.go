package schedule

import (
	"cmp"
	"math"
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Room is what the nodes have left while replicas are placed on them one after the
// other. Each placement takes its part at once. Its counts are those of one server
// at a time; see Count.
//
// It keeps the nodes in order, so that most placements look at few of them.
type Room struct {
	nodes  []Node // by name
	index  map[fleet.NodeID]int32
	zone   []int32 // of each node
	zones  int
	shares []float64 // of each node; nil before the first placement

	shapes  map[string]*shape
	classes []*class
	refused map[refusalKey]*refused
	changes int // placements so far

	// Of the counted server:
	counted []int32 // nodes with a count
	inZone  []int   // replicas that are to stay, by zone
	run     run

	suspects bool // whether any node is suspect
}

// NewRoom returns the room of nodes. It keeps the list, and changes it.
func NewRoom(nodes []Node) *Room {
	byName := func(a, b Node) int { return cmp.Compare(a.ID, b.ID) }
	if !slices.IsSortedFunc(nodes, byName) {
		slices.SortFunc(nodes, byName)
	}
	r := &Room{nodes: nodes, index: make(map[fleet.NodeID]int32, len(nodes)), zone: make([]int32, len(nodes))}
	names := make(map[string]int32)
	for i := range nodes {
		n := &nodes[i]
		z, ok := names[n.Zone]
		if !ok {
			z = int32(len(names))
			names[n.Zone] = z
		}
		r.index[n.ID], r.zone[i] = int32(i), z
		r.suspects = r.suspects || n.Suspect != ""
	}
	r.zones = len(names)
	r.inZone = make([]int, r.zones)
	return r
}

// Nodes returns the nodes by name. The list is shared: do not edit it.
func (r *Room) Nodes() []Node { return r.nodes }

// Node returns a node of the room, or nil. Do not edit it.
func (r *Room) Node(id fleet.NodeID) *Node {
	if i, ok := r.index[id]; ok {
		return &r.nodes[i]
	}
	return nil
}

// Take reserves a replica's resources on a node.
func (r *Room) Take(id fleet.NodeID, res fleet.Resources) {
	if i, ok := r.index[id]; ok {
		r.take(i, res)
	}
}

func (r *Room) take(i int32, res fleet.Resources) {
	r.changes++
	r.reorder(i, func(n *Node) {
		n.Replicas++
		n.Allocated = n.Allocated.Add(res)
	})
}

// ResetCounts begins to count for another server. Until Count is called it has no
// replicas.
func (r *Room) ResetCounts() {
	for _, i := range r.counted {
		r.nodes[i].OfServer, r.nodes[i].Spread = 0, 0
	}
	clear(r.inZone)
	r.counted, r.run = r.counted[:0], run{}
}

// Count counts a replica of the server on a node. running is false if it has been
// counted as running before, and now is to stay. stays says that it is to stay, so
// that it counts for the spread.
func (r *Room) Count(id fleet.NodeID, running, stays bool) {
	i, ok := r.index[id]
	if !ok {
		return
	}
	n := &r.nodes[i]
	if n.OfServer == 0 && n.Spread == 0 {
		r.counted = append(r.counted, i)
	}
	if running {
		n.OfServer++
	}
	if stays {
		n.Spread++
		r.inZone[r.zone[i]]++
	}
	r.run = run{}
}

// Place returns the node that should get one more replica of the counted server, and
// takes its room there. If no node fits it returns "" and the reason. Among the nodes
// that fit it takes the zone with the fewest replicas of the server, and there the
// node with the fewest. Of equals it takes the least allocated one (by the largest
// share of a resource that is reserved, then by the number of replicas), then the
// first by name. Equal input gives equal output.
func (r *Room) Place(req Request) (fleet.NodeID, string) {
	i := r.search(&req)
	if i < 0 {
		return "", r.refuse()
	}
	n := &r.nodes[i]
	if n.OfServer == 0 && n.Spread == 0 {
		r.counted = append(r.counted, i)
	}
	n.OfServer++
	n.Spread++
	r.inZone[r.zone[i]]++
	r.take(i, req.Template.Resources)
	r.run.placed(r, i)
	return n.ID, ""
}

// Peek returns the node that Place would return, and takes nothing. It returns "" if no
// node fits.
func (r *Room) Peek(req Request) fleet.NodeID {
	if i := r.search(&req); i >= 0 {
		return r.nodes[i].ID
	}
	return ""
}

// FitsWithout reports whether the node would take a replica of the counted server if
// another one, with these resources, were gone from it.
func (r *Room) FitsWithout(id fleet.NodeID, res fleet.Resources, req Request) bool {
	i, ok := r.index[id]
	if !ok {
		return false
	}
	n := r.nodes[i]
	if n.Suspect != "" && !r.couldElsewhere(&req) {
		n.Suspect = ""
	}
	n.OfServer--
	n.Allocated = n.Allocated.Sub(res)
	return exclusion(req.Template, &n) == "" && fits(&req, &n)
}

// search returns the node for a replica, or -1.
func (r *Room) search(req *Request) int32 {
	i := r.searchAll(req)
	if i < 0 && req.Avoid != "" {
		anywhere := *req
		anywhere.Avoid = ""
		i = r.searchAll(&anywhere)
	}
	return i
}

func (r *Room) searchAll(req *Request) int32 {
	i := r.find(r.runOf(req, false))
	if i < 0 && r.suspects && !r.couldElsewhere(req) {
		i = r.find(r.runOf(req, true))
	}
	return i
}

// couldElsewhere reports whether a node that is not suspect would take the replica if
// it were empty.
func (r *Room) couldElsewhere(req *Request) bool {
	for i := range r.nodes {
		n := r.nodes[i]
		n.Allocated, n.OfServer = fleet.Resources{}, 0
		if exclusion(req.Template, &n) == "" && fits(req, &n) {
			return true
		}
	}
	return false
}

// find returns the node for the next replica of a run, or -1.
func (r *Room) find(run *run) int32 {
	for run.refused == nil {
		fewest := math.MaxInt
		for _, z := range run.class.zones {
			if !run.full[z] {
				fewest = min(fewest, r.inZone[z])
			}
		}
		if fewest == math.MaxInt {
			return -1
		}
		best := int32(-1)
		for _, z := range run.class.zones {
			if run.full[z] || r.inZone[z] != fewest {
				continue
			}
			i := run.first(r, z)
			if i < 0 {
				run.full[z] = true // nothing leaves while replicas are placed
				continue
			}
			if best < 0 || cmp.Or(cmp.Compare(r.nodes[i].Spread, r.nodes[best].Spread), r.compare(i, best)) < 0 {
				best = i
			}
		}
		if best >= 0 {
			return best
		}
	}
	return -1
}

// compare orders the nodes within a zone, apart from the server's own replicas.
func (r *Room) compare(i, j int32) int {
	return cmp.Or(
		cmp.Compare(r.shares[i], r.shares[j]),
		cmp.Compare(r.nodes[i].Replicas, r.nodes[j].Replicas),
		cmp.Compare(i, j), // nodes are in the order of their names
	)
}
