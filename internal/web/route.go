package web

import (
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

// Handler answers a request, or returns an error and has answered nothing. If
// it returns an error after it began to answer, the connection is cut.
type Handler func(w *Response, r *http.Request) error

// Route is one thing that can be asked for.
type Route struct {
	Method string // GET is HEAD's too
	// Pattern is one of http.ServeMux without method and host. It is also the
	// route's name in metrics. Patterns that begin with a wildcard, such as
	// /{server}/tools, match what no other pattern does.
	Pattern string
	// Needs is what the caller must be allowed to do. Nothing enforces it yet:
	// access control will, in Mux.serve.
	Needs Permission
	// Handle is nil where there is nothing: /api/{path...} without a handler
	// keeps api from being taken for a server.
	Handle Handler
}

// Get returns a route for GET and HEAD.
func Get(pattern string, needs Permission, handle Handler) Route {
	return Route{http.MethodGet, pattern, needs, handle}
}

// Put returns a route for PUT.
func Put(pattern string, needs Permission, handle Handler) Route {
	return Route{http.MethodPut, pattern, needs, handle}
}

// Post returns a route for POST.
func Post(pattern string, needs Permission, handle Handler) Route {
	return Route{http.MethodPost, pattern, needs, handle}
}

// Delete returns a route for DELETE.
func Delete(pattern string, needs Permission, handle Handler) Route {
	return Route{http.MethodDelete, pattern, needs, handle}
}

// Permission is what a caller must be allowed to do.
type Permission int

// The permissions, each for more than the one before.
const (
	_     Permission = iota // no route may forget its permission
	Open                    // ask whether the controller is well
	Call                    // list and call tools
	Read                    // see what is desired and what runs
	Write                   // change servers
	Admin                   // change nodes and controllers, and read secrets
)

// table finds the route of a request.
type table struct {
	// fixed has the patterns that begin with a name, and perServer those that
	// begin with a wildcard. In one http.ServeMux the pattern of a subtree, such
	// as /ui/{path...}, would contradict /{server}/tools.
	fixed, perServer *http.ServeMux
	none             *path  // of requests without a route
	places           string // where a lost client may look
}

// path is all that is at one pattern.
type path struct {
	name   string // in metrics
	routes []Route
	ok     prometheus.Counter // of answers with status 200
}

func newTable(routes []Route, ok func(name string) prometheus.Counter) table {
	t := table{fixed: http.NewServeMux(), perServer: http.NewServeMux(), none: &path{name: "none", ok: ok("none")}}
	paths := map[string]*path{}
	var places []string
	for _, route := range routes {
		p := paths[route.Pattern]
		switch {
		case route.Handle == nil:
			t.add(route.Pattern, t.none)
			continue
		case p == nil:
			p = &path{name: route.Pattern, ok: ok(route.Pattern)}
			paths[route.Pattern] = p
			t.add(route.Pattern, p)
			if strings.LastIndexByte(route.Pattern, '{') <= 1 { // not of one thing among many
				places = append(places, route.Pattern)
			}
		}
		p.routes = append(p.routes, route)
	}
	t.places = strings.Join(places, ", ")
	t.fixed.Handle("/", t.perServer)
	t.perServer.Handle("/", t.none)
	return t
}

// add registers a path with and without a trailing slash, so that http.ServeMux
// never redirects from one to the other.
func (t *table) add(pattern string, p *path) {
	mux := t.fixed
	if strings.HasPrefix(pattern, "/{") {
		mux = t.perServer
	}
	mux.Handle(pattern, p)
	if base, _, isTree := strings.Cut(pattern, "/{path...}"); isTree {
		mux.Handle(base, p)
	} else {
		mux.Handle(pattern+"/{$}", p)
	}
}

// match finds the path of a request and its values, which r.PathValue returns.
// The values are in the request that it returns.
func (t *table) match(w *Response, r *http.Request) *http.Request {
	p := r.URL.Path
	if !strings.HasPrefix(p, "/") || strings.Contains(p, "//") {
		return r // OPTIONS *, or a path that http.ServeMux would redirect
	}
	if r.URL.RawPath != "" || strings.Contains(p, "/.") {
		r = spelledOut(r)
	}
	t.fixed.ServeHTTP(w, r)
	return r
}

// spelledOut returns a request whose path http.ServeMux takes as it is: an
// escaped slash separates segments, and a segment of dots is a name.
func spelledOut(r *http.Request) *http.Request {
	u := *r.URL
	u.RawPath = ""
	u.RawPath = strings.ReplaceAll(u.EscapedPath(), "/.", "/%2e")
	r = r.WithContext(r.Context())
	r.URL = &u
	return r
}

// ServeHTTP makes a path what http.ServeMux can find. It answers nothing.
func (p *path) ServeHTTP(rw http.ResponseWriter, _ *http.Request) { rw.(*Response).path = p }

// serve answers a request for this path.
func (p *path) serve(w *Response, r *http.Request) error {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	for i := range p.routes {
		if p.routes[i].Method == method {
			return p.routes[i].Handle(w, r)
		}
	}
	if len(p.routes) == 0 {
		return &Error{
			Status: http.StatusNotFound, Code: api.CodeNotFound,
			Detail: "there is nothing at " + Shorten(r.URL.Path) + "; see " + w.mux.table.places,
		}
	}
	w.Header().Set("Allow", p.allow())
	return &Error{Status: http.StatusMethodNotAllowed, Code: api.CodeMethodNotAllowed, Detail: "method " + Shorten(r.Method) + " is not allowed here"}
}

// allow lists the methods of a path.
func (p *path) allow() string {
	var methods []string
	for _, m := range [...]string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete} {
		if !slices.ContainsFunc(p.routes, func(r Route) bool { return r.Method == m }) {
			continue
		}
		if methods = append(methods, m); m == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
	}
	return strings.Join(methods, ", ")
}
