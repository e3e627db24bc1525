package schedule

import (
	"cmp"
	"math"
	"slices"
	"strings"

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

// run is a series of equal requests of the counted server.
type run struct {
	req   Request
	risky bool // on suspect nodes, too
	shape *shape
	class *class // of the shape
	full  []bool // zones without a node that fits
	// refused is the refusal of a request like this, nil if none was refused.
	refused *refused
	// fewest is the smallest spread of any node of the class, by zone, and with how
	// many nodes have it.
	fewest []int
	with   []int
}

// runOf returns the present run, and begins a new one if the request is another.
func (r *Room) runOf(req *Request, risky bool) *run {
	if r.run.class != nil && r.run.req == *req && r.run.risky == risky {
		return &r.run
	}
	s := r.shapeOf(req.Template, risky)
	c := s.class
	n := run{req: *req, risky: risky, shape: s, class: c, refused: r.refused[refusalKeyOf(s, req)], full: make([]bool, r.zones), fewest: make([]int, r.zones), with: make([]int, r.zones)}
	for _, z := range c.zones {
		n.with[z] = len(c.order[z])
	}
	for _, i := range r.counted {
		if c.has[i] && r.nodes[i].Spread > 0 {
			n.with[r.zone[i]]--
		}
	}
	for _, z := range c.zones {
		if n.with[z] == 0 {
			n.recount(r, z)
		}
	}
	r.run = n
	return &r.run
}

// first returns the node of a zone that should get the next replica, or -1.
func (n *run) first(r *Room, z int32) int32 {
	best := int32(-1)
	for _, i := range n.class.order[z] {
		x := &r.nodes[i]
		if best >= 0 && x.Spread >= r.nodes[best].Spread || x.ID == n.req.Avoid || !fits(&n.req, x) {
			continue
		}
		if best = i; x.Spread == n.fewest[z] {
			break
		}
	}
	return best
}

// placed keeps fewest up to date after a replica was placed on a node.
func (n *run) placed(r *Room, i int32) {
	z := r.zone[i]
	if r.nodes[i].Spread-1 != n.fewest[z] {
		return
	}
	if n.with[z]--; n.with[z] == 0 {
		n.recount(r, z)
	}
}

func (n *run) recount(r *Room, z int32) {
	n.fewest[z], n.with[z] = math.MaxInt, 0
	for _, i := range n.class.order[z] {
		switch s := r.nodes[i].Spread; {
		case s < n.fewest[z]:
			n.fewest[z], n.with[z] = s, 1
		case s == n.fewest[z]:
			n.with[z]++
		}
	}
}

// class is a set of nodes that some templates have to themselves, in order. Many
// templates share one.
type class struct {
	has   []bool    // by node
	zones []int32   // that have a node of the class
	order [][]int32 // by zone: the nodes, sorted by compare
}

// shape is what templates have in common that exclude the same nodes for the same
// reasons.
type shape struct {
	class    *class
	excluded refusals
	// cordoned are the nodes that only a cordon excludes.
	cordoned []int32
}

// mostShapes bounds the memory for shapes. When there are more, all are made again
// as they are needed.
const mostShapes = 256

// shapeOf returns the shape of a template. risky means that suspect nodes take it.
func (r *Room) shapeOf(t *fleet.Template, risky bool) *shape {
	key := shapeKey(t)
	if risky {
		key = "risky " + key
	}
	if s := r.shapes[key]; s != nil {
		return s
	}
	if r.shares == nil {
		r.shares = make([]float64, len(r.nodes))
		for i := range r.nodes {
			r.shares[i] = share(&r.nodes[i])
		}
	}
	if r.shapes == nil || len(r.shapes) >= mostShapes {
		r.shapes, r.classes, r.refused = make(map[string]*shape), nil, make(map[refusalKey]*refused)
	}
	s := &shape{}
	has := make([]bool, len(r.nodes))
	for i := range r.nodes {
		n := r.nodes[i]
		if risky {
			n.Suspect = ""
		}
		why := exclusion(t, &n)
		if has[i] = why == ""; has[i] {
			continue
		}
		s.excluded.add(why, 0)
		if why == cordoned {
			if n.Cordoned = false; exclusion(t, &n) == "" {
				s.cordoned = append(s.cordoned, int32(i))
			}
		}
	}
	s.class = r.classOf(has)
	r.shapes[key] = s
	return s
}

// shapeKey returns a text that is equal for templates that exclude the same nodes.
func shapeKey(t *fleet.Template) string {
	parts := []string{t.NeededRuntime()}
	for k, v := range t.Labels {
		parts = append(parts, k+"\x00"+v)
	}
	slices.Sort(parts[1:])
	return strings.Join(parts, "\x01")
}

// classOf returns the class with these nodes.
func (r *Room) classOf(has []bool) *class {
	for _, c := range r.classes {
		if slices.Equal(c.has, has) {
			return c
		}
	}
	c := &class{has: has, order: make([][]int32, r.zones)}
	for i, in := range has {
		if in {
			z := r.zone[i]
			if len(c.order[z]) == 0 {
				c.zones = append(c.zones, z)
			}
			c.order[z] = append(c.order[z], int32(i))
		}
	}
	for _, z := range c.zones {
		slices.SortFunc(c.order[z], r.compare)
	}
	r.classes = append(r.classes, c)
	return c
}

// reorder changes a node, and moves it to its new place in each class.
func (r *Room) reorder(i int32, change func(*Node)) {
	if r.shares == nil {
		change(&r.nodes[i])
		return
	}
	z := r.zone[i]
	for _, c := range r.classes {
		if c.has[i] {
			at, _ := slices.BinarySearchFunc(c.order[z], i, r.compare)
			c.order[z] = slices.Delete(c.order[z], at, at+1)
		}
	}
	change(&r.nodes[i])
	r.shares[i] = share(&r.nodes[i])
	for _, c := range r.classes {
		if c.has[i] {
			at, _ := slices.BinarySearchFunc(c.order[z], i, r.compare)
			c.order[z] = slices.Insert(c.order[z], at, i)
		}
	}
}
