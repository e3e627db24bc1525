package schedule

import (
	"slices"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

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
	if t.PerSession() {
		parts[0] += " sessions"
	}
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
