// Package web is the HTTP edge of a controller. It does for every request what
// does not depend on its route.
//
// A front, such as package httpapi, is a list of routes. A route is a method, a
// pattern, the permission that it needs, and a handler that answers or returns an
// error. Mux serves the routes of all fronts side by side. It matches paths with
// http.ServeMux, but never redirects: a trailing slash is ignored, and a path that
// is not clean is not found. HEAD is answered like GET, without the body.
//
// The package guarantees:
//
//   - Every error is answered as a JSON object with detail, code and request_id.
//     Response.fail is the only place that writes one.
//   - A request is refused before its handler runs if a web page of another origin
//     sent it, or if its headers are too large.
//   - A body is bounded, and all large bodies together are. A refused body is
//     drained for a while, so that the client can read why.
//   - A client that sends or reads too slowly is cut off.
//   - An answer that breaks off ends its connection, so that nobody takes it for a
//     whole one.
//   - Every request has an id, is counted, and is logged.
//
// Fronts decide what requests mean, and package api which status and code an
// error has. The package starts no goroutines: a request runs in the one that
// net/http gave it.
package web

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

const (
	// DefaultMaxBody limits the body of one request.
	DefaultMaxBody = 16 << 20
	// DefaultMaxBodyMemory limits the bodies of all requests together. Bodies of
	// up to 64 KiB do not count.
	DefaultMaxBodyMemory = 512 << 20
)

// Config is what a Mux needs besides its routes.
type Config struct {
	// Listener is where requests arrive, and Names are the names by which
	// operators call this controller. Together they decide which Host headers
	// are accepted. AllowedHosts, in the form of --allowed-hosts, are accepted
	// besides; see fleet.CheckAllowedHosts.
	Listener     net.Addr // nil: loopback
	Names        []string
	AllowedHosts []string

	MaxBody       int64 // 0: DefaultMaxBody
	MaxBodyMemory int64 // 0: DefaultMaxBodyMemory
	// Leaving is closed when the controller is told to stop. From then on every
	// answer closes its connection, so that clients come back elsewhere. Nil:
	// never.
	Leaving  <-chan struct{}
	Log      *slog.Logger
	Registry prometheus.Registerer // nil: requests are not counted
}

// Mux serves routes. It implements http.Handler.
type Mux struct {
	cfg        Config
	log        *slog.Logger
	requests   *prometheus.CounterVec
	hosts      *hostPolicy
	table      table
	bodyMemory atomic.Int64 // bytes of the large bodies of all requests
	refusals   pacer
	heldBack   prometheus.Gauge
}

// NewMux returns a handler of the routes. It panics if two of them conflict, as
// http.ServeMux does.
func NewMux(cfg Config, routes ...Route) *Mux {
	cfg.MaxBody = cmp.Or(cfg.MaxBody, DefaultMaxBody)
	cfg.MaxBodyMemory = cmp.Or(cfg.MaxBodyMemory, DefaultMaxBodyMemory)
	m := &Mux{
		cfg: cfg, log: cfg.Log.With("component", "http"), hosts: newHostPolicy(cfg.Listener, cfg.Names, cfg.AllowedHosts),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mcpfleet_http_requests_total", Help: "HTTP requests by route and status; 499 is a client that left.",
		}, []string{"route", "status"}),
		refusals: newPacer(),
		heldBack: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mcpfleet_http_refusals_waiting", Help: "Requests that will be refused for overload and whose refusal is held back.",
		}),
	}
	if cfg.Registry != nil {
		cfg.Registry.MustRegister(m.requests, m.heldBack)
	}
	m.table = newTable(routes, func(name string) prometheus.Counter { return m.requests.WithLabelValues(name, "200") })
	return m
}

// ServeHTTP implements http.Handler.
func (m *Mux) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	start := time.Now()
	w := &Response{
		ResponseWriter: rw, mux: m, path: m.table.notFound, requestID: requestID(r), accepts: r.Header["Accept-Encoding"],
		noBody: r.Method == http.MethodHead, status: http.StatusOK,
	}
	defer m.finish(w, r, start)
	w.Header()[HeaderRequestID] = []string{w.requestID}
	if m.leaving() {
		w.Header().Set("Connection", "close")
	}
	r = m.table.match(w, r)
	if err := m.serve(w, r); err != nil {
		w.fail(r, err)
	}
}

// serve checks a request and runs the handler of its route.
func (m *Mux) serve(w *Response, r *http.Request) error {
	if err := m.hosts.check(r); err != nil {
		return w.RefuseBody(err)
	}
	if headerSize(r) > maxHeader {
		return w.RefuseBody(errHeaders())
	}
	route, err := w.path.route(w, r)
	if err != nil {
		return err
	}
	return route.Handle(w, r)
}

func (m *Mux) leaving() bool {
	select {
	case <-m.cfg.Leaving:
		return true
	default:
		return false
	}
}

// finish ends a request, also after a panic. If the answer broke off it panics
// with http.ErrAbortHandler, which ends the connection.
func (m *Mux) finish(w *Response, r *http.Request, start time.Time) {
	if p := recover(); p != nil {
		m.recovered(w, r, p)
	}
	w.endGzip()
	m.bodyMemory.Add(-w.bodyMemory)
	m.record(w, r, start)
	if w.broken {
		panic(http.ErrAbortHandler)
	}
}

// recovered answers a request whose handler panicked.
func (m *Mux) recovered(w *Response, r *http.Request, p any) {
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		w.broken = true
		return
	}
	m.log.Error("request panicked", "request_id", w.requestID, "panic", p, "stack", string(debug.Stack()))
	w.fail(r, errInternal)
}

// record counts and logs a request. Successful requests are logged at debug
// level.
func (m *Mux) record(w *Response, r *http.Request, start time.Time) {
	status := w.status
	if w.clientGone {
		status = api.StatusClientGone
	}
	if status == http.StatusOK {
		w.path.ok.Inc()
	} else {
		m.requests.WithLabelValues(w.path.name, fmt.Sprint(status)).Inc()
	}
	level, ctx := slog.LevelDebug, r.Context()
	// A 503 without an error is the answer to a probe, not a failure.
	if status >= http.StatusInternalServerError && w.err != nil || w.broken {
		level = slog.LevelInfo
	}
	if !m.log.Enabled(ctx, level) {
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
		attrs = append(attrs, slog.String("traceparent", Traceparent(r)))
	}
	m.log.LogAttrs(ctx, level, "request", attrs...)
}
