package catalogue

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// View is what one MCP endpoint offers at one moment. It never changes. Its lists are
// made once, when something has changed, and look-ups take no lock.
type View struct {
	info    fleet.ViewInfo
	lists   map[string]*fleet.ViewList // by the method that lists them
	modern  *fleet.ViewList            // tools/list for clients of the modern era
	servers []*server                  // in order; one at the endpoint of a server
	missing []*server                  // whose catalogues are not known
	only    *server                    // at the endpoint of a server
	names   *snapshot                  // at endpoints that merge servers
	prompts map[string]prompt
	uris    *uris
	err     error             // why there is no view
	check   func(error) error // changes the errors of look-ups while servers may be missing
}

// prompt is where the name of a prompt leads.
type prompt struct {
	server *server
	own    string
}

// View returns what an endpoint offers now. Errors wrap fleet.ErrUnknownServer,
// fleet.ErrUnknownGateway, fleet.ErrCatalogueUnknown, fleet.ErrNoReplica or
// fleet.ErrStopped. As with Resolve, one may have a method Wakes. A view that merges
// servers lacks those whose catalogues are not known, and is an error only if it
// would lack all.
func (c *Catalogue) View(scope fleet.Scope) (*View, error) {
	v, err := c.view(scope)
	return v, c.unlessIncomplete(err)
}

func (c *Catalogue) view(scope fleet.Scope) (*View, error) {
	snap := c.snap.Load()
	if snap == nil {
		return nil, errStarting
	}
	var v *View
	if name := scope.Server(); name != "" {
		s, err := snap.known(name)
		if err != nil {
			return nil, err
		}
		if s.stopped {
			return nil, s.isStopped()
		}
		v = s.view
	} else {
		if why := c.incomplete(); why != "" && len(snap.servers) == 0 {
			return nil, notYet(why)
		}
		merged, err := snap.at(scope)
		if err != nil {
			return nil, err
		}
		v = merged.view
	}
	if v.err != nil {
		return nil, v.err
	}
	return v, nil
}

// newServerView returns the view of one server, whose catalogue is known.
func newServerView(s *server) *View {
	c := s.shown
	v := &View{only: s, servers: []*server{s}, lists: make(map[string]*fleet.ViewList)}
	v.info = fleet.ViewInfo{
		Modern: c.IsModern(), Protocol: mcp.LatestLegacy, Versions: mcp.ModernVersions(),
		ServerInfo: c.ServerInfo, Capabilities: c.Capabilities, Instructions: c.Instructions, Hint: s.hint(mcp.MethodDiscover),
	}
	if c.IsModern() {
		v.info.Versions = c.Versions
	} else {
		v.info.Protocol = c.Protocol
		if !s.private {
			v.info.Capabilities = mcp.WithoutTasksList(c.Capabilities)
		}
	}
	same := func(_ *server, own string) string { return own }
	tools := make([]*named, len(s.order))
	for i, t := range s.order {
		tools[i] = &named{tool: t, server: s}
	}
	v.listTools(tools, same)
	v.listItems(mcp.MethodResourcesList, "uri", func(s *server) []item { return s.resources }, same)
	v.listItems(mcp.MethodResourceTemplates, "uriTemplate", func(s *server) []item { return s.templates }, same)
	v.listItems(mcp.MethodPromptsList, "name", func(s *server) []item { return s.prompts }, same)
	return v
}

// newMergedView returns the view of a snapshot.
func newMergedView(s *snapshot) *View {
	v := &View{names: s, err: s.listErr, missing: s.unknown(), lists: make(map[string]*fleet.ViewList)}
	for _, srv := range s.order {
		if srv.hash != "" && !srv.stopped {
			v.servers = append(v.servers, srv)
		}
	}
	v.uris = newURIs(s.servers, v.servers)
	v.info = fleet.ViewInfo{
		Protocol: mcp.LatestLegacy, Versions: mcp.ModernVersions(),
		Capabilities: mergeCapabilities(v.servers), Instructions: mergeInstructions(v.servers), Hint: v.hint(mcp.MethodDiscover),
	}
	v.listTools(s.tools, v.uris.of)
	v.namePrompts()
	v.listItems(mcp.MethodResourcesList, "uri", func(s *server) []item { return s.resources }, v.uris.of)
	v.listItems(mcp.MethodResourceTemplates, "uriTemplate", func(s *server) []item { return s.templates }, v.uris.templateOf)
	return v
}

// listTools makes the lists of tools.
func (v *View) listTools(tools []*named, uri func(*server, string) string) {
	var all, modern [][]byte
	for _, t := range tools {
		if t.hidden || t.server.stopped {
			continue
		}
		raw := t.protocol(func(own string) string { return uri(t.server, own) })
		all = append(all, raw)
		if t.headers == nil {
			modern = append(modern, raw)
		}
	}
	v.lists[mcp.MethodToolsList] = v.list(mcp.MethodToolsList, all)
	v.modern = v.lists[mcp.MethodToolsList]
	if len(modern) < len(all) {
		v.modern = v.list(mcp.MethodToolsList, modern)
	}
}

// listItems makes the list that a method returns, with the names that as returns. It
// leaves out those without one.
func (v *View) listItems(method, key string, items func(*server) []item, as func(*server, string) string) {
	var all [][]byte
	for _, srv := range v.servers {
		for _, it := range items(srv) {
			if id := as(srv, it.id); id != "" {
				all = append(all, it.as(key, id))
			}
		}
	}
	v.lists[method] = v.list(method, all)
}

// namePrompts gives prompts their names, by the rule for tools, and lists them.
func (v *View) namePrompts() {
	v.prompts = make(map[string]prompt)
	names := make(map[*server]map[string]string)
	bare := make(map[string]prompt)
	for _, srv := range v.servers {
		names[srv] = make(map[string]string)
		for _, p := range srv.prompts {
			name := v.names.rootName(srv, p.id)
			if _, taken := v.prompts[name]; !taken { // else the default server has one of that name
				names[srv][p.id] = name
				v.prompts[name] = prompt{srv, p.id}
			}
			if _, twice := bare[p.id]; twice {
				bare[p.id] = prompt{}
			} else {
				bare[p.id] = prompt{srv, p.id}
			}
		}
	}
	for _, srv := range v.servers {
		for _, p := range srv.prompts {
			v.addPrompt(v.names.longName(srv, p.id), prompt{srv, p.id})
		}
	}
	if def := v.names.servers[v.names.def]; def == nil || def.hash != "" || def.stopped {
		for name, p := range bare {
			if p.server != nil {
				v.addPrompt(name, p)
			}
		}
	}
	v.listItems(mcp.MethodPromptsList, "name", func(s *server) []item { return s.prompts }, func(s *server, own string) string { return names[s][own] })
}

func (v *View) addPrompt(name string, p prompt) {
	if _, taken := v.prompts[name]; !taken {
		v.prompts[name] = p
	}
}

// list renders a list.
func (v *View) list(method string, items [][]byte) *fleet.ViewList {
	l := &fleet.ViewList{Items: array(items), Hint: v.hint(method)}
	if len(v.missing) > 0 {
		l.Meta = appendMissing([]byte(`"mcpfleet/missing":`), v.missing)
	}
	sum := sha256.Sum256(l.Items)
	l.Hash = hex.EncodeToString(sum[:12])
	return l
}

// hint returns how long and by whom the answer to a method may be cached: as long as
// all servers allow, and only by everybody if all allow that.
func (v *View) hint(method string) fleet.CacheHint {
	h := fleet.CacheHint{Scope: mcp.ScopePublic}
	for i, srv := range v.servers {
		one := srv.hint(method)
		if i == 0 || one.TTLMs < h.TTLMs {
			h.TTLMs = one.TTLMs
		}
		if one.Scope != mcp.ScopePublic {
			h.Scope = mcp.ScopePrivate
		}
	}
	if len(v.missing) > 0 {
		h.TTLMs = 0
	}
	return h
}

// hint returns the server's own hint. Servers of the legacy era have none.
func (s *server) hint(method string) fleet.CacheHint {
	h := fleet.CacheHint{Scope: mcp.ScopePublic}
	if s.shown.IsModern() {
		h = s.shown.Hints[method]
		h.TTLMs, h.Scope = max(h.TTLMs, 0), cmp.Or(h.Scope, mcp.ScopePrivate)
	}
	if s.private {
		h.Scope = mcp.ScopePrivate
	}
	return h
}
