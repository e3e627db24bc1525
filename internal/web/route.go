package web

import (
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

// Handler answers a request, or returns an error, which is then the answer. An
// error that it returns after it began to answer ends the connection.
type Handler func(w *Response, r *http.Request) error

// Route is one method of one path.
type Route struct {
	Method string // GET also serves HEAD
	// Pattern is a pattern of http.ServeMux without method and host. It is also
	// the route's name in metrics. A subtree is /name/{path...}. A pattern that
	// begins with a wildcard, such as /{server}/tools, does not match below the
	// first segment of other patterns with wildcards: /api/tools is not found.
	Pattern string
	// Needs is what the caller must be allowed to do. Access control will
	// enforce it in Mux.serve; nothing does yet.
	Needs  Permission
	Handle Handler
	// Errors makes the bodies of errors of all routes with this pattern, also of those
	// that are answered before a handler runs. Nil: they are of type api.Error.
	Errors ErrorBody
	// Hidden routes are not suggested when a path is not found.
	Hidden bool
}

// ErrorBody returns the body of the answer to err, a value that is encoded as JSON. e
// is what would be answered otherwise; its status may be changed.
type ErrorBody func(err error, e *api.Error) any

// Get returns a route for GET and HEAD.
func Get(pattern string, needs Permission, handle Handler) Route {
	return Route{Method: http.MethodGet, Pattern: pattern, Needs: needs, Handle: handle}
}

// Put returns a route for PUT.
func Put(pattern string, needs Permission, handle Handler) Route {
	return Route{Method: http.MethodPut, Pattern: pattern, Needs: needs, Handle: handle}
}

// Post returns a route for POST.
func Post(pattern string, needs Permission, handle Handler) Route {
	return Route{Method: http.MethodPost, Pattern: pattern, Needs: needs, Handle: handle}
}

// Delete returns a route for DELETE.
func Delete(pattern string, needs Permission, handle Handler) Route {
	return Route{Method: http.MethodDelete, Pattern: pattern, Needs: needs, Handle: handle}
}

// Permission is what a caller must be allowed to do.
type Permission int

// The zero Permission is invalid, so that no route forgets to name one.
const (
	_     Permission = iota
	Open             // needs no permission: health
	Call             // list and call tools
	Read             // see what is desired and what runs
	Write            // change servers
	Admin            // change nodes and controllers, read secrets
)

// table finds the route of a request.
type table struct {
	// literal has the patterns without wildcards, by path, with and without a
	// trailing slash.
	literal map[string]*path
	// muxes have all other patterns, by their first segment, "" if that is a
	// wildcard. In a single mux the pattern of a subtree, such as /ui/{path...},
	// would conflict with /{server}/tools.
	muxes    map[string]*http.ServeMux
	notFound *path  // of requests without a route
	places   string // that a 404 suggests
}

// path is the routes of one pattern.
type path struct {
	name   string // in metrics
	routes []Route
	ok     prometheus.Counter // answers with status 200
	errors ErrorBody          // nil: the usual one
}

func newTable(routes []Route, ok func(name string) prometheus.Counter) table {
	t := table{literal: map[string]*path{}, muxes: map[string]*http.ServeMux{}, notFound: &path{name: "none", ok: ok("none")}}
	t.mux("")
	paths := map[string]*path{}
	var places []string
	for _, route := range routes {
		p := paths[route.Pattern]
		if p == nil {
			p = &path{name: route.Pattern, ok: ok(route.Pattern)}
			paths[route.Pattern] = p
			t.add(p)
			if !route.Hidden && strings.LastIndexByte(route.Pattern, '{') <= 1 { // not one item of a list
				places = append(places, route.Pattern)
			}
		}
		if slices.ContainsFunc(p.routes, func(r Route) bool { return r.Method == route.Method }) {
			panic("web: two routes for " + route.Method + " " + route.Pattern)
		}
		p.routes = append(p.routes, route)
		if route.Errors != nil {
			p.errors = route.Errors
		}
	}
	t.places = strings.Join(places, ", ")
	return t
}

// add registers a path with and without a trailing slash: else http.ServeMux would
// redirect from one to the other.
func (t *table) add(p *path) {
	name, _, _ := strings.Cut(p.name[1:], "/")
	base, _, isTree := strings.Cut(p.name, "/{path...}")
	switch {
	case isTree:
		t.mux(name).Handle(base, p)
		t.mux(name).Handle(p.name, p)
	case !strings.Contains(p.name, "{"):
		t.literal[p.name] = p
		if p.name != "/" {
			t.literal[p.name+"/"] = p
		}
	default:
		if strings.HasPrefix(name, "{") {
			name = ""
		}
		t.mux(name).Handle(p.name, p)
		t.mux(name).Handle(p.name+"/{$}", p)
	}
}

// mux returns the mux of a first segment, which it makes if necessary.
func (t *table) mux(name string) *http.ServeMux {
	if t.muxes[name] == nil {
		t.muxes[name] = http.NewServeMux()
		t.muxes[name].Handle("/", t.notFound)
	}
	return t.muxes[name]
}

// match sets w.path, and returns the request with the values that r.PathValue
// returns.
func (t *table) match(w *Response, r *http.Request) *http.Request {
	p := r.URL.Path
	if found := t.literal[p]; found != nil {
		w.path = found
		return r
	}
	if !strings.HasPrefix(p, "/") || strings.Contains(p, "//") {
		return r // OPTIONS *, or a path that http.ServeMux would redirect
	}
	if r.URL.RawPath != "" || strings.Contains(p, "/.") {
		r = spelledOut(r)
	}
	name, _, _ := strings.Cut(p[1:], "/")
	mux := t.muxes[name]
	if mux == nil {
		mux = t.muxes[""]
	}
	mux.ServeHTTP(w, r)
	return r
}

// spelledOut returns a request whose path http.ServeMux matches as it is: an
// escaped slash separates segments, and segments of dots are ordinary names.
func spelledOut(r *http.Request) *http.Request {
	u := *r.URL
	u.RawPath = ""
	u.RawPath = strings.ReplaceAll(u.EscapedPath(), "/.", "/%2e")
	r = r.WithContext(r.Context())
	r.URL = &u
	return r
}

// ServeHTTP is called by http.ServeMux. It records the path and answers nothing.
func (p *path) ServeHTTP(rw http.ResponseWriter, _ *http.Request) { rw.(*Response).path = p }

// route returns the route of a request for this path, or a 404 or 405.
func (p *path) route(w *Response, r *http.Request) (*Route, error) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	for i := range p.routes {
		if p.routes[i].Method == method {
			return &p.routes[i], nil
		}
	}
	if len(p.routes) == 0 {
		return nil, &Error{
			Status: http.StatusNotFound, Code: api.CodeNotFound,
			Detail: "there is nothing at " + Shorten(r.URL.Path) + "; see " + w.mux.table.places,
		}
	}
	w.Header().Set("Allow", p.allow())
	return nil, &Error{Status: http.StatusMethodNotAllowed, Code: api.CodeMethodNotAllowed, Detail: "method " + Shorten(r.Method) + " is not allowed here"}
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
