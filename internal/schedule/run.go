package schedule

import (
	"math"
)

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
