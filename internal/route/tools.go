package route

import "maps"

// Tools are the names of the tools that a replica lists. Replicas that list
// the same should share one.
type Tools struct{ names map[string]bool }

// NewTools returns the set of these names.
func NewTools(names []string) *Tools {
	t := &Tools{names: make(map[string]bool, len(names))}
	for _, n := range names {
		t.names[n] = true
	}
	return t
}

// Equal reports whether both have the same names.
func (t *Tools) Equal(o *Tools) bool { return maps.Equal(t.names, o.names) }

// Has reports whether the name is among them.
func (t *Tools) Has(name string) bool { return t.names[name] }

// offers reports whether a call of the tool may go to the replica: it lists
// the tool, or no replica does. It needs s.mu held.
func (s *server) offers(r *replica, tool string) bool {
	if !s.mixed || lists(r, tool) {
		return true
	}
	for _, o := range s.replicas {
		if lists(o, tool) {
			return false
		}
	}
	return true
}

// lists reports whether the replica lists the tool, or may list it.
func lists(r *replica, tool string) bool { return tool == "" || r.tools == nil || r.tools.Has(tool) }
