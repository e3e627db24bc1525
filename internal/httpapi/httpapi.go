// Package httpapi is the HTTP front of a controller: tools and calls, desired
// state, what runs, events, logs, health and metrics, and the forms of all
// errors.
//
// It promises that every answer that is no success is a JSON object with
// detail, code and request_id; that bad input is refused before anything is
// done; that arguments and results pass through byte for byte; that a result
// which breaks off half way ends the connection, so that it can never be taken
// for a whole one; and that slow or half-open clients hold nothing for ever:
// reading and writing must go on, or end.
//
// Calls, and what runs, are answered by any controller from what it knows.
// What is desired is read and written on the leader: any other controller
// passes such a request on, so every controller gives the same answer. A write
// reaches a leader at most once, and whoever asked is told which of three is
// true: it is done, nothing was written (no_leader, and all refusals), or
// nobody knows (outcome_unknown).
//
// It leaves to others what servers offer (Catalogue), where calls go (Router),
// how the fleet is doing (Fleet, Logs, Events), and how writes are made safe
// and what they do (Desired, package desired). A disconnected client's context
// ends, and with it its call.
//
// A trailing slash is tolerated, HEAD is answered like GET without the body.
// A request runs in the goroutine that net/http gave it. While it waits for the
// leader's answer, another one watches who leads, and ends with it. Those of kept
// connections to the leader end with Close, or half a minute after their last use.
package httpapi

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

// Handler answers all requests.
type Handler struct {
	cfg     Config
	log     *slog.Logger
	counter *prometheus.CounterVec
	routes  map[string]*route // by path
	things  map[thing]*route  // of one server, replica, ...
	tools   *route            // of one server
	call    *route            // of one server
	none    *route
	leader  http.RoundTripper
	hosts   *hostPolicy
	held    atomic.Int64 // bytes of large bodies
}

// thing is what comes before and after a name in a path: /api/v1/kind/name/verb.
type thing struct{ kind, verb string }

// serve answers a request; arg is the part of the path that varies.
type serve = func(w *response, r *http.Request, arg string)

// route is one thing that can be asked for, by one method or several. A nil
// function is a method that it does not have.
type route struct {
	name                   string // in metrics and logs
	get, put, post, delete serve  // get is HEAD's too
	ok                     prometheus.Counter
}

// on returns what answers a method, or nil.
func (r *route) on(method string) serve {
	switch method {
	case http.MethodPost:
		return r.post
	case http.MethodGet, http.MethodHead:
		return r.get
	case http.MethodPut:
		return r.put
	case http.MethodDelete:
		return r.delete
	}
	return nil
}

// allow lists the methods of a route.
func (r *route) allow() string {
	var methods []string
	for _, m := range [...]string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete} {
		if r.on(m) != nil {
			methods = append(methods, m)
		}
	}
	return strings.Join(methods, ", ")
}

// New returns the handler of all routes.
func New(cfg Config) *Handler {
	cfg.MaxBody = cmp.Or(cfg.MaxBody, DefaultMaxBody)
	cfg.MaxHeld = cmp.Or(cfg.MaxHeld, DefaultMaxHeld)
	h := &Handler{
		cfg: cfg, log: cfg.Log.With("component", "http"), leader: cfg.Leader,
		hosts: newHostPolicy(cfg.Listener, cfg.Names, cfg.AllowedHosts),
	}
	if h.leader == nil {
		h.leader = newTransport()
	}
	h.counter = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mcpfleet_http_requests_total", Help: "HTTP requests by route and status; 499 is a client that left.",
	}, []string{"route", "status"})
	if cfg.Registry != nil {
		cfg.Registry.MustRegister(h.counter)
	}
	named := func(name string, r route) *route {
		r.name, r.ok = name, h.counter.WithLabelValues(name, "200")
		return &r
	}
	h.routes, h.things = map[string]*route{}, map[thing]*route{}
	add := func(path string, r route) { h.routes[path] = named(path, r) }
	of := func(path string, r route) {
		part := append(strings.Split(path, "/"), "") // without a verb it is ""
		h.things[thing{part[3], part[5]}] = named(path, r)
	}
	add("/tools", route{get: h.serveTools})
	add("/call", route{post: h.serveCall})
	add("/healthz", route{get: h.serveHealth})
	add("/readyz", route{get: h.serveReady})
	add("/api/v1/servers", route{get: h.serveServers, put: h.servePutServers})
	of("/api/v1/servers/{name}", route{get: h.serveServer, put: h.servePutServer, delete: h.serveDeleteServer})
	of("/api/v1/servers/{name}/scale", route{post: h.serveScale})
	of("/api/v1/servers/{name}/restart", route{post: h.serveRestart})
	of("/api/v1/servers/{name}/rollback", route{post: h.serveRollback})
	of("/api/v1/servers/{name}/wake", route{post: h.serveWake})
	of("/api/v1/servers/{name}/revisions", route{get: h.serveRevisions})
	add("/api/v1/replicas", route{get: h.serveReplicas})
	of("/api/v1/replicas/{id}/logs", route{get: h.serveLogs})
	add("/api/v1/nodes", route{get: h.serveNodes})
	of("/api/v1/nodes/{name}/drain", route{post: h.serveDrain})
	of("/api/v1/nodes/{name}/cordon", route{post: h.serveCordon})
	of("/api/v1/nodes/{name}/uncordon", route{post: h.serveUncordon})
	add("/api/v1/events", route{get: h.serveEvents})
	add("/api/v1/controllers", route{get: h.serveControllers})
	of("/api/v1/controllers/{name}", route{delete: h.serveRemoveController})
	of("/api/v1/controllers/{name}/transfer", route{post: h.serveTransfer})
	add("/api/v1/backup", route{get: h.serveBackup})
	add("/api/v1/schema", route{get: h.serveSchema})
	if cfg.Gatherer != nil {
		metrics := promhttp.HandlerFor(cfg.Gatherer, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
		add("/metrics", route{get: func(w *response, r *http.Request, _ string) { metrics.ServeHTTP(w, r) }})
	}
	h.tools = named("/{server}/tools", route{get: h.serveTools})
	h.call = named("/{server}/call", route{post: h.serveCall})
	h.none = named("none", route{})
	return h
}

// Close closes the connections to other controllers that are kept for later.
func (h *Handler) Close() {
	if c, ok := h.leader.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// find returns the route of a path, and the part of the path that varies.
func (h *Handler) find(path string) (*route, string) {
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	if r := h.routes[path]; r != nil {
		return r, ""
	}
	if rest, ok := strings.CutPrefix(path, "/api/"); ok {
		kind, rest, _ := strings.Cut(strings.TrimPrefix(rest, "v1/"), "/")
		name, verb, _ := strings.Cut(rest, "/")
		if r := h.things[thing{kind, verb}]; r != nil && name != "" && strings.HasPrefix(path, "/api/v1/") {
			return r, name
		}
		return h.none, ""
	}
	// A server's name is never empty: "" means the root.
	server, what, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch {
	case !ok || server == "":
	case what == "tools":
		return h.tools, server
	case what == "call":
		return h.call, server
	}
	return h.none, ""
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	start := time.Now()
	w := &response{
		ResponseWriter: rw, requestID: requestID(r), accepts: r.Header["Accept-Encoding"], noBody: r.Method == http.MethodHead, status: http.StatusOK,
	}
	w.Header()[headerRequestID] = []string{w.requestID}
	if h.leaving() {
		w.Header().Set("Connection", "close")
	}
	route, arg := h.find(r.URL.Path)
	defer func() {
		p := recover()
		if p != nil {
			p = h.recovered(w, p)
		}
		w.endGzip(p == nil)
		h.held.Add(-w.held)
		h.ended(w, r, route, start)
		if p != nil {
			panic(p)
		}
	}()
	err := h.hosts.check(r)
	if err == nil && headerSize(r) > maxHeader {
		err = errHeaders()
	}
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	switch serve := route.on(r.Method); {
	case serve != nil:
		serve(w, r, arg)
	case route == h.none:
		h.serveNone(w, r)
	default:
		w.Header().Set("Allow", route.allow())
		w.fail(errMethod(r))
	}
}

func (h *Handler) leaving() bool {
	select {
	case <-h.cfg.Leaving:
		return true
	default:
		return false
	}
}

// recovered deals with a panic, and returns http.ErrAbortHandler if the
// connection must be cut since the answer is not whole.
func (h *Handler) recovered(w *response, p any) any {
	if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
		h.log.Error("request panicked", "request_id", w.requestID, "panic", p, "stack", string(debug.Stack()))
		if !w.started {
			w.fail(errInternal)
			return nil
		}
	}
	w.broken = true
	return http.ErrAbortHandler
}

// ended counts and logs a request. What went well is worth a line only to
// those who debug.
func (h *Handler) ended(w *response, r *http.Request, route *route, start time.Time) {
	status := w.status
	if w.gone {
		status = api.StatusClientGone
	}
	if status == http.StatusOK {
		route.ok.Inc()
	} else {
		h.counter.WithLabelValues(route.name, fmt.Sprint(status)).Inc()
	}
	level, ctx := slog.LevelDebug, r.Context()
	// That a probe is told "not ready" is no error.
	if status >= http.StatusInternalServerError && w.err != nil || w.broken {
		level = slog.LevelInfo
	}
	if !h.log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("request_id", w.requestID), slog.String("method", r.Method), slog.String("path", r.URL.Path),
		slog.Int("status", status), slog.Duration("took", time.Since(start)),
	}
	if w.err != nil {
		attrs = append(attrs, slog.Any("err", w.err))
	}
	if w.broken {
		attrs = append(attrs, slog.Bool("broken_off", true))
	}
	if trace := r.Header.Get(headerTraceparent); trace != "" {
		attrs = append(attrs, slog.String("traceparent", traceparent(r)))
	}
	h.log.LogAttrs(ctx, level, "request", attrs...)
}
