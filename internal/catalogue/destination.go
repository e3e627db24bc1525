package catalogue

import (
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/nearest"
)

// Info describes the endpoint. ServerInfo is nil at one that merges servers.
func (v *View) Info() *fleet.ViewInfo { return &v.info }

// List returns the answer to tools/list, resources/list, resources/templates/list or
// prompts/list, and nil for other methods. For clients of the modern era, tools/list
// leaves out tools with invalid x-mcp-header annotations; NameCheck reports those.
func (v *View) List(method string, modern bool) *fleet.ViewList {
	if modern && method == mcp.MethodToolsList {
		return v.modern
	}
	return v.lists[method]
}

// Only returns the server of an endpoint that has only one. It gets the requests whose
// methods are not known here.
func (v *View) Only() (fleet.Destination, bool) {
	if v.only == nil {
		return fleet.Destination{}, false
	}
	return v.to(v.only, ""), true
}

// Tool returns where a call of a tool goes. Errors are those of Catalogue.Resolve.
func (v *View) Tool(name string) (fleet.Destination, error) {
	t, srv, err := v.tool(name)
	if err != nil {
		if own, ok := v.perhaps(name); ok {
			return v.to(v.only, own), nil
		}
		return fleet.Destination{}, v.check(err)
	}
	d := v.to(srv, t.Name)
	d.Idempotent = t.Repeatable()
	if t.asks {
		d.Schema = t.inputSchema()
	}
	return d, nil
}

// perhaps returns the server's own name of a tool that the endpoint's only server may offer
// to some sessions, though it did not to the one that asked for its catalogue: what servers
// offer may depend on the client's capabilities, and each session has a replica that knows.
func (v *View) perhaps(name string) (own string, ok bool) {
	s := v.only
	if s == nil || !s.private || s.hash == "" || s.stopped || s.off[name] != "" {
		return "", false
	}
	own = s.choice.Own(name)
	return own, s.choice.SwitchedOffBy(own) == ""
}

func (v *View) tool(name string) (*tool, *server, error) {
	if v.only != nil {
		if t := v.only.find(name); t != nil {
			return t, v.only, nil
		}
		return nil, nil, v.only.noTool(name)
	}
	t, err := v.names.find(name)
	if err != nil {
		return nil, nil, err
	}
	return t, v.names.servers[t.Server], nil
}

// Prompt returns where a request for a prompt goes. At the endpoint of a server that
// is the server, whether it lists the prompt or not. Otherwise the error wraps
// fleet.ErrUnknownPrompt or fleet.ErrCatalogueUnknown.
func (v *View) Prompt(name string) (fleet.Destination, error) {
	if v.only != nil {
		d := v.to(v.only, name)
		d.Idempotent = true
		return d, nil
	}
	p, ok := v.prompts[name]
	if !ok {
		return fleet.Destination{}, v.check(v.noPrompt(name))
	}
	d := v.to(p.server, p.own)
	d.Idempotent = true
	return d, nil
}

func (v *View) noPrompt(name string) error {
	var names []string
	for n := range v.prompts {
		names = append(names, n)
	}
	if hint := nearest.Hint(name, names, names); hint != "" || len(v.missing) == 0 {
		return lookupErrorf(fleet.ErrUnknownPrompt, "unknown prompt %s%s", quote(name), hint)
	}
	return notKnown(v.missing)
}

// Resources returns where a request for a resource may go, at least one, the most
// likely first. There are several only if no server lists the URI. Each is to be asked
// if the one before it has no such resource. At the endpoint of a server that is the
// server, whatever the URI. Otherwise the error wraps fleet.ErrUnknownResource or
// fleet.ErrCatalogueUnknown.
func (v *View) Resources(uri string) ([]fleet.Destination, error) {
	candidates, likely, own := []*server{v.only}, 1, uri
	if v.only == nil {
		candidates, likely, own = v.uris.find(uri)
	}
	var all []fleet.Destination
	for i, srv := range candidates {
		if srv.hash == "" {
			return nil, v.check(notKnown([]*server{srv}))
		}
		if srv.stopped {
			return nil, v.check(srv.isStopped())
		}
		d := v.to(srv, own)
		d.Idempotent, d.Guess = true, i >= likely
		all = append(all, d)
	}
	switch {
	case len(all) > 0:
		return all, nil
	case len(v.missing) > 0:
		return nil, v.check(notKnown(v.missing))
	}
	return nil, v.check(lookupErrorf(fleet.ErrUnknownResource, "unknown resource %s", quote(uri)))
}

// At returns a server of the view, if its catalogue is known.
func (v *View) At(name fleet.ServerName) (fleet.Destination, bool) {
	i := slices.IndexFunc(v.servers, func(s *server) bool { return s.name == name })
	if i < 0 {
		return fleet.Destination{}, false
	}
	return v.to(v.servers[i], ""), true
}

// Servers returns the servers of the view whose catalogues are known, in order.
func (v *View) Servers() []fleet.ServerName {
	names := make([]fleet.ServerName, len(v.servers))
	for i, srv := range v.servers {
		names[i] = srv.name
	}
	return names
}

// URI returns the URI by which clients of the endpoint know a resource of a server.
func (v *View) URI(name fleet.ServerName, own string) string {
	if v.only != nil || v.names.servers[name] == nil {
		return own
	}
	return v.uris.of(v.names.servers[name], own)
}

// Ref returns where a completion goes, given the type and the name or URI of its ref.
func (v *View) Ref(kind, name string) (fleet.Destination, error) {
	if kind == "ref/prompt" {
		return v.Prompt(name)
	}
	if v.only == nil {
		for _, srv := range v.servers {
			for _, t := range srv.templates {
				if v.uris.templateOf(srv, t.id) == name {
					return v.to(srv, t.id), nil
				}
			}
		}
	}
	all, err := v.Resources(name)
	if err != nil {
		return fleet.Destination{}, err
	}
	return all[0], nil
}

// to returns a destination at a server.
func (v *View) to(srv *server, own string) fleet.Destination {
	d := fleet.Destination{Server: srv.name, Modern: srv.shown != nil && srv.shown.IsModern(), Name: own, PerSession: srv.private}
	if v.only != nil && srv.private && !srv.choice.IsZero() {
		d.Result = func(method string, result []byte) []byte {
			if method != mcp.MethodToolsList {
				return result
			}
			return srv.chosen(result)
		}
	}
	if v.only == nil && srv.hasResources() {
		d.Result = func(method string, result []byte) []byte {
			return mcp.MapURIs(method, result, func(own string) string { return v.uris.of(srv, own) })
		}
	}
	return d
}
