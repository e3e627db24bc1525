package catalogue

import (
	"reflect"
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/nearest"
)

// snapshot has servers under one set of names: all of them, or those of a gateway.
// It never changes.
type snapshot struct {
	def     fleet.ServerName
	servers map[fleet.ServerName]*server
	order   []*server // the default server first, then by name

	tools   []*named         // what the servers offer, in order
	root    map[string]*tool // by every name that POST /call takes
	list    []byte           // the answer of GET /tools
	listErr error            // or why there is no list

	view *View

	gateways map[fleet.GatewayName]*snapshot // nil in a gateway
	gateway  *fleet.Gateway                  // nil at the root
	off      map[string]string               // names that the gateway switches off, and by which key
}

// named is a tool under its names at the root or in a gateway.
type named struct {
	*tool  // listed here by this name, if it is listed
	server *server
	here   string // its name at the path of its server
	hidden bool   // it is not listed: another tool has its name
}

// separator divides server and tool in names at the root.
const separator = "__"

// newSnapshot returns a snapshot of all servers, with the gateways.
func newSnapshot(def fleet.ServerName, servers map[fleet.ServerName]*server, gateways map[fleet.GatewayName]fleet.Gateway) *snapshot {
	s := &snapshot{def: def, servers: servers, gateways: make(map[fleet.GatewayName]*snapshot, len(gateways))}
	s.nameAndRender()
	for name, g := range gateways {
		s.gateways[name] = s.newGateway(&g)
	}
	return s
}

// newGateway returns a snapshot of the servers of a gateway that exist.
func (s *snapshot) newGateway(g *fleet.Gateway) *snapshot {
	sub := &snapshot{gateway: g, servers: make(map[fleet.ServerName]*server, len(g.Servers))}
	for _, name := range g.Servers {
		if srv := s.servers[name]; srv != nil {
			sub.servers[name] = srv
			if len(g.Servers) == 1 || name == s.def {
				sub.def = name
			}
		}
	}
	sub.nameAndRender()
	return sub
}

// sameGateways reports whether gateways were made from these.
func sameGateways(made map[fleet.GatewayName]*snapshot, from map[fleet.GatewayName]fleet.Gateway) bool {
	if len(made) != len(from) {
		return false
	}
	for name, g := range from {
		if m := made[name]; m == nil || !reflect.DeepEqual(*m.gateway, g) {
			return false
		}
	}
	return true
}

// at returns the snapshot of an endpoint that merges servers.
func (s *snapshot) at(scope fleet.Scope) (*snapshot, error) {
	name := scope.Gateway()
	if name == "" {
		return s, nil
	}
	if g := s.gateways[fleet.GatewayName(name)]; g != nil {
		return g, nil
	}
	var names []string
	for known := range s.gateways {
		names = append(names, string(known))
	}
	slices.Sort(names)
	return nil, lookupErrorf(fleet.ErrUnknownGateway, "unknown gateway %s%s", quote(name), nearest.Hint(name, names, names))
}

// where says of which endpoint an error is.
func (s *snapshot) where() string {
	if s.gateway == nil {
		return ""
	}
	return " among those of the gateway"
}

// nameAndRender gives every tool its names, and makes the list.
func (s *snapshot) nameAndRender() {
	s.order = sorted(s.def, s.servers)
	s.root = make(map[string]*tool)
	s.collect()
	s.list = s.render()
	if unknown := s.unknown(); len(unknown) > 0 && len(unknown) == s.wanted() && !allIdle(unknown) {
		s.list, s.listErr = nil, notKnown(unknown)
	}
	s.addOtherNames()
	s.view = newMergedView(s)
}

// collect finds the tools that are offered here, and gives them their listed names.
func (s *snapshot) collect() {
	var shown []*tool // in the order of s.tools, without the hidden ones
	overrides := make(map[string]fleet.ToolOverride)
	taken := make(map[string]bool)
	for _, srv := range s.order {
		for _, t := range srv.order {
			name := s.rootName(srv, t.listed)
			if key := s.switchedOff(srv, t.listed); key != "" {
				s.off[name], s.off[s.longName(srv, t.listed)] = key, key
				continue
			}
			at := *t
			at.listed = name
			n := &named{tool: &at, server: srv, here: t.listed, hidden: taken[name]}
			s.tools = append(s.tools, n)
			if n.hidden {
				continue // a tool of the default server has that name; this one is called at its server's path
			}
			taken[name] = true
			shown = append(shown, n.tool)
			if o, ok := s.overrideOf(srv, t.listed); ok {
				overrides[name] = o
			}
		}
	}
	shown = override(shown, overrides)
	for _, n := range s.tools {
		if !n.hidden {
			n.tool, shown = shown[0], shown[1:]
			s.root[n.listed] = n.tool
		}
	}
}

// render returns the answer of GET /tools.
func (s *snapshot) render() []byte {
	size := 0
	for _, t := range s.tools {
		size += len(t.raw) + 128
	}
	b := append(make([]byte, 0, size), `{"tools":[`...)
	for _, t := range s.tools {
		if t.hidden || t.server.stopped {
			continue
		}
		if b[len(b)-1] != '[' {
			b = append(b, ',')
		}
		b = t.appendTo(b)
	}
	b = append(b, ']')
	if unknown := s.unknown(); len(unknown) > 0 {
		b = appendMissing(append(b, `,"unavailable":`...), unknown)
	}
	return append(b, '}')
}

// appendMissing appends the servers that add nothing, with reasons, as an array.
func appendMissing(b []byte, servers []*server) []byte {
	for i, srv := range servers {
		b = append(b, "[,"[min(i, 1)])
		b = mcp.AppendString(append(b, `{"server":`...), string(srv.name))
		b = mcp.AppendString(append(b, `,"reason":`...), srv.why())
		b = append(b, '}')
	}
	return append(b, ']')
}

// allIdle reports whether the servers are several, and a later look would find
// nothing else, because nobody starts them. A lone one is started by the look.
func allIdle(servers []*server) bool {
	return len(servers) > 1 && !slices.ContainsFunc(servers, func(s *server) bool { return !s.wakes || s.failed })
}

// addOtherNames adds the names that resolve though they are not listed: the tools of
// the default server in their long form, unique bare names of other servers, and the
// own names of renamed tools.
func (s *snapshot) addOtherNames() {
	for _, t := range s.tools {
		if t.server.name == s.def {
			s.addName(s.longName(t.server, t.here), t.tool)
		}
	}
	for _, srv := range s.order {
		for name, t := range srv.extra {
			if s.switchedOff(srv, name) != "" {
				continue
			}
			if o, ok := s.overrideOf(srv, name); ok && o.Rename != "" {
				s.addName(o.Rename, t)
			}
			if srv.name == s.def {
				s.addName(name, t)
			}
			s.addName(s.longName(srv, name), t)
		}
	}
	for _, t := range s.tools {
		if t.listed != s.rootName(t.server, t.here) && !t.hidden {
			s.addName(s.rootName(t.server, t.here), t.tool) // renamed by the gateway
		}
		s.addName(s.rootName(t.server, t.Name), t.tool)
		s.addName(s.longName(t.server, t.Name), t.tool)
	}
	if def := s.servers[s.def]; def != nil && def.hash == "" && !def.stopped {
		return
	}
	s.addBareNames(func(t *named) string { return t.here })
	s.addBareNames(func(t *named) string { return t.Name })
}

// addBareNames adds the unique ones of the bare names of tools of servers other than
// the default one.
func (s *snapshot) addBareNames(bareName func(*named) string) {
	bare := map[bool]map[string]*tool{false: {}, true: {}} // by stopped; nil: not unique
	for _, t := range s.tools {
		if t.server.name == s.def {
			continue
		}
		names, name := bare[t.server.stopped], bareName(t)
		if _, twice := names[name]; twice {
			names[name] = nil
		} else {
			names[name] = t.tool
		}
	}
	for _, stopped := range []bool{false, true} { // servers that run come first
		for name, t := range bare[stopped] {
			if _, ambiguous := bare[false][name]; t != nil && (!stopped || !ambiguous) {
				s.addName(name, t)
			}
		}
	}
}

func (s *snapshot) addName(name string, t *tool) {
	if s.root[name] == nil {
		s.root[name] = t
	}
}

// rootName returns the name here of what a server has under a name.
func (s *snapshot) rootName(srv *server, name string) string {
	if srv.name == s.def {
		return name
	}
	return s.longName(srv, name)
}

func (*snapshot) longName(srv *server, name string) string {
	return string(srv.name) + separator + name
}

// switchedOff returns the key of the gateway that switches a tool of a server off.
func (s *snapshot) switchedOff(srv *server, name string) string {
	if s.gateway == nil {
		return ""
	}
	if s.off == nil {
		s.off = make(map[string]string)
	}
	c := &s.gateway.Tools
	short, long := s.rootName(srv, name), s.longName(srv, name)
	switch {
	case slices.Contains(c.Deny, short) || slices.Contains(c.Deny, long):
		return "the gateway's tools.deny"
	case len(c.Allow) > 0 && !slices.Contains(c.Allow, short) && !slices.Contains(c.Allow, long):
		return "the gateway's tools.allow"
	}
	return ""
}

// overrideOf returns the gateway's override of a tool of a server.
func (s *snapshot) overrideOf(srv *server, name string) (o fleet.ToolOverride, ok bool) {
	if s.gateway == nil {
		return o, false
	}
	if o, ok = s.gateway.Tools.Overrides[s.rootName(srv, name)]; !ok {
		o, ok = s.gateway.Tools.Overrides[s.longName(srv, name)]
	}
	return o, ok
}

// wanted returns how many servers are not stopped by hand.
func (s *snapshot) wanted() (n int) {
	for _, srv := range s.order {
		if !srv.stopped {
			n++
		}
	}
	return n
}

// unknown returns the servers whose tools should be known and are not.
func (s *snapshot) unknown() []*server {
	var out []*server
	for _, srv := range s.order {
		if srv.hash == "" && !srv.stopped {
			out = append(out, srv)
		}
	}
	return out
}
