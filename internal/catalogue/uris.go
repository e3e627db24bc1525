package catalogue

import (
	"slices"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	// uriPrefix and the name of a server begin the URIs of resources that are told
	// from those of other servers by that: mcpfleet+files:file:///a.txt.
	uriPrefix = "mcpfleet+"
	// uiScheme is kept in such URIs, because MCP Apps are known by it:
	// ui://mcpfleet+files/a.html.
	uiScheme = "ui://"
	// maxCandidates is how many servers may be asked for a URI that none of them
	// lists.
	maxCandidates = 8
)

// uris knows which servers the URIs of a view belong to. One that is listed belongs
// to the first server that lists it. Any other may belong to those whose templates
// match it, then to those that list others of its scheme, then to those that have
// resources at all. A URI that leads to another server than its own gets a prefix.
type uris struct {
	all       map[fleet.ServerName]*server
	order     []*server // those of all that have resources
	listed    map[string]*server
	templates []owned
	schemes   map[string][]*server
}

// owned is a template and whose it is.
type owned struct {
	*template
	server *server
}

func newURIs(all map[fleet.ServerName]*server, order []*server) *uris {
	u := &uris{all: all, listed: make(map[string]*server), schemes: make(map[string][]*server)}
	for _, srv := range order {
		if !srv.hasResources() {
			continue
		}
		u.order = append(u.order, srv)
		for _, r := range srv.resources {
			u.claim(srv, r.id)
		}
		for _, t := range srv.order {
			for _, uri := range t.ui {
				u.claim(srv, uri) // it need not be in the list of resources
			}
		}
		for _, t := range srv.templates {
			u.templates = append(u.templates, owned{newTemplate(t.id), srv})
			u.addScheme(srv, t.id)
		}
	}
	return u
}

func (u *uris) claim(srv *server, uri string) {
	if u.listed[uri] == nil {
		u.listed[uri] = srv
	}
	u.addScheme(srv, uri)
}

func (u *uris) addScheme(srv *server, uri string) {
	scheme := schemeOf(uri)
	if !slices.Contains(u.schemes[scheme], srv) {
		u.schemes[scheme] = append(u.schemes[scheme], srv)
	}
}

func schemeOf(uri string) string {
	scheme, _, _ := strings.Cut(uri, ":")
	return strings.ToLower(scheme)
}

// find returns the servers that a URI may belong to, the most likely first, and the
// URI by which they know it. The first ones, as many as likely, list it or a template that
// matches it. All others are guesses.
func (u *uris) find(uri string) (candidates []*server, likely int, own string) {
	if name, own, ok := cutPrefix(uri); ok && u.all[name] != nil {
		return []*server{u.all[name]}, 1, own // before those that are listed: no server can take another's
	}
	if srv := u.listed[uri]; srv != nil {
		return []*server{srv}, 1, uri
	}
	add := func(servers ...*server) {
		for _, srv := range servers {
			if len(candidates) < maxCandidates && !slices.Contains(candidates, srv) {
				candidates = append(candidates, srv)
			}
		}
	}
	for _, t := range u.templates {
		if t.matches(uri) {
			add(t.server)
		}
	}
	likely = len(candidates)
	add(u.schemes[schemeOf(uri)]...)
	add(u.order...)
	return candidates, likely, uri
}

// of returns the URI by which clients of the view know a resource of a server: the
// server's own, if it leads back there.
func (u *uris) of(srv *server, own string) string {
	if found, _, uri := u.find(own); len(found) > 0 && found[0] == srv && uri == own {
		return own
	}
	return withPrefix(srv.name, own)
}

// templateOf is of for templates. Clients make URIs of them that nobody sees before,
// so a template is as its server lists it only if none of its URIs may lead elsewhere.
func (u *uris) templateOf(srv *server, own string) string {
	mine := newTemplate(own)
	for _, t := range u.templates {
		if t.server == srv {
			break // those before come first
		}
		if t.overlaps(mine) {
			return withPrefix(srv.name, own)
		}
	}
	for uri, other := range u.listed {
		if other != srv && mine.matches(uri) {
			return withPrefix(srv.name, own)
		}
	}
	if strings.HasPrefix(mine.literal, uriPrefix) || strings.HasPrefix(mine.literal, uiScheme+uriPrefix) {
		return withPrefix(srv.name, own)
	}
	return own
}

// withPrefix returns a URI that leads to a server.
func withPrefix(name fleet.ServerName, own string) string {
	if rest, ok := strings.CutPrefix(own, uiScheme); ok {
		return uiScheme + uriPrefix + string(name) + "/" + rest
	}
	return uriPrefix + string(name) + ":" + own
}

// cutPrefix undoes withPrefix.
func cutPrefix(uri string) (name fleet.ServerName, own string, ok bool) {
	rest, ui := strings.CutPrefix(uri, uiScheme)
	divider, scheme := ":", ""
	if ui {
		divider, scheme = "/", uiScheme
	}
	rest, prefixed := strings.CutPrefix(rest, uriPrefix)
	server, own, divided := strings.Cut(rest, divider)
	return fleet.ServerName(server), scheme + own, prefixed && divided
}
