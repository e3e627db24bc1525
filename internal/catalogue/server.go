package catalogue

import (
	"cmp"
	"maps"
	"reflect"
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// server is one server in a snapshot. It never changes.
type server struct {
	name        fleet.ServerName
	defaultTool string
	reason      string
	failed      bool
	stopped     bool
	wakes       bool
	private     bool
	choice      fleet.Tools

	hash  string            // of the catalogue that is shown; "" while none is known
	shown *fleet.Catalogue  // that catalogue
	all   []*tool           // its tools, in its order
	order []*tool           // those of all that are not switched off, as they are shown
	tools map[string]*tool  // the same by every name that they have here
	off   map[string]string // tools that are switched off, and the key of the spec that does it
	list  []byte            // the answer of GET /{server}/tools

	prompts, resources, templates []item

	view *View // of its own endpoint; nil while hash is ""

	others []string         // hashes of other catalogues that replicas offer
	theirs map[string]*tool // tools that only those have
	extra  map[string]*tool // those of theirs that are not switched off: they resolve, and are not listed
}

// hasResources reports whether the server may have resources.
func (s *server) hasResources() bool {
	return len(s.resources)+len(s.templates) > 0 || s.declares("resources")
}

// declares reports whether the server has a capability.
func (s *server) declares(capability string) bool {
	return s.shown != nil && given(valueAt(s.shown.Capabilities, []string{capability}))
}

func given(raw []byte) bool { return raw != nil && !mcp.IsNull(raw) }

// find returns a tool by its name, or nil.
func (s *server) find(name string) *tool {
	if t := s.tools[name]; t != nil {
		return t
	}
	return s.extra[name]
}

// update returns the server of a new view: s itself if nothing changed. s may be
// nil.
func (s *server) update(v *Server, lookup func(string) *fleet.Catalogue) *server {
	if s == nil {
		s = &server{}
	}
	next := *s
	next.name, next.defaultTool, next.reason, next.failed, next.stopped, next.wakes = v.Name, v.DefaultTool, v.Reason, v.Failed, v.Stopped, v.Wakes
	next.choice, next.private = v.Tools, v.Private
	if hash := choose(v.Offers, s.hash); hash != "" && hash != s.hash {
		if c := lookup(hash); c != nil {
			next.hash, next.shown = hash, c
			next.all = parseTools(v.Name, c.Tools)
			next.prompts = parseItems(c.Prompts, "name")
			next.resources, next.templates = parseItems(c.Resources, "uri"), parseItems(c.Templates, "uriTemplate")
		}
	}
	changed := next.hash != s.hash || !reflect.DeepEqual(next.choice, s.choice)
	if changed {
		next.offer()
	}
	next.others = otherHashes(v.Offers, next.hash)
	if len(next.others)+len(s.others) > 0 && (next.hash != s.hash || !slices.Equal(next.others, s.others)) {
		next.theirs = make(map[string]*tool)
		for _, hash := range next.others {
			if c := lookup(hash); c != nil {
				for _, t := range parseTools(v.Name, c.Tools) {
					if next.theirs[t.Name] == nil && !slices.ContainsFunc(next.all, func(a *tool) bool { return a.Name == t.Name }) {
						next.theirs[t.Name] = t
					}
				}
			}
		}
	}
	if changed || !maps.Equal(next.theirs, s.theirs) {
		next.extra = next.unlisted()
	}
	if next.hash != "" {
		next.reason, next.failed, next.wakes = "", false, false // not shown: a change needs no new snapshot
	}
	if next.hash == s.hash && slices.Equal(next.others, s.others) && maps.Equal(next.theirs, s.theirs) && reflect.DeepEqual(next.choice, s.choice) &&
		next.name == s.name && next.defaultTool == s.defaultTool && next.private == s.private &&
		next.reason == s.reason && next.failed == s.failed && next.stopped == s.stopped && next.wakes == s.wakes {
		return s
	}
	if next.hash != "" {
		next.view = newServerView(&next)
	}
	return &next
}

// offer sets which tools are offered and how they are shown, and renders their list.
func (s *server) offer() {
	s.off, s.order, s.tools = nil, make([]*tool, 0, len(s.all)), make(map[string]*tool, len(s.all))
	for _, t := range s.all {
		if key := s.choice.SwitchedOffBy(t.Name); key == "" {
			s.order = append(s.order, t)
		} else {
			if s.off == nil {
				s.off = make(map[string]string)
			}
			s.off[t.Name] = key
		}
	}
	s.order = override(s.order, s.choice.Overrides)
	for _, t := range s.order {
		s.tools[t.listed] = t
	}
	for _, t := range s.order {
		if s.tools[t.Name] == nil {
			s.tools[t.Name] = t // renamed: MCP Apps and the fleet file know it by its own name
		}
	}
	s.list = renderServer(s.order)
}

// unlisted returns those of theirs that are not switched off, by every name that
// they have.
func (s *server) unlisted() map[string]*tool {
	var offered []*tool
	for _, name := range slices.Sorted(maps.Keys(s.theirs)) {
		if s.choice.Offers(name) {
			offered = append(offered, s.theirs[name])
		}
	}
	extra := make(map[string]*tool, len(offered))
	for _, t := range override(offered, s.choice.Overrides) {
		for _, name := range []string{t.listed, t.Name} {
			if s.tools[name] == nil && extra[name] == nil {
				extra[name] = t
			}
		}
	}
	return extra
}

// otherHashes returns the hashes that are offered besides the shown one, in order.
func otherHashes(offers []Offer, shown string) (others []string) {
	for _, o := range offers {
		if o.Hash != "" && o.Hash != shown && !slices.Contains(others, o.Hash) {
			others = append(others, o.Hash)
		}
	}
	slices.Sort(others)
	return others
}

// choose returns the hash that most replicas of the newest revision offer. On a tie
// the shown one stays, so that the list does not flap.
func choose(offers []Offer, shown string) string {
	var newest fleet.Revision
	count := map[string]int{}
	for _, o := range offers {
		if o.Hash == "" || o.Revision < newest {
			continue
		}
		if o.Revision > newest {
			newest = o.Revision
			clear(count)
		}
		count[o.Hash]++
	}
	best := ""
	for _, o := range offers { // not over count, whose order is random
		n := count[o.Hash]
		if n > count[best] || n > 0 && n == count[best] && o.Hash == shown {
			best = o.Hash
		}
	}
	return best
}

// sorted returns servers with the default one first, then by name.
func sorted(def fleet.ServerName, servers map[fleet.ServerName]*server) []*server {
	out := make([]*server, 0, len(servers))
	for _, s := range servers {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *server) int {
		if (a.name == def) != (b.name == def) {
			if a.name == def {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.name, b.name)
	})
	return out
}
