// Package httpapi has the routes of the REST API: tools and calls, desired state,
// what runs, events, logs, health and metrics. Package web serves them.
//
// Bad input is refused before anything is done. Arguments and results pass through
// byte for byte. When a client disconnects its context ends, and with it its call.
//
// Any controller answers calls and reports what runs, from what it knows itself.
// Desired state is read and written on the leader. The other controllers pass such
// requests on, so that all give the same answer. A write reaches a leader at most
// once, and the answer is one of three: it is done; nothing was written (no_leader
// and all refusals); or the outcome is unknown (outcome_unknown).
//
// The package leaves to others what servers offer (Catalogue), where calls go
// (Router), the status of the fleet (Fleet, Logs, Events), and what writes do and
// how they are stored (Desired, package desired).
//
// A request that waits for the leader's answer has a goroutine that watches who
// leads, and ends with it. The goroutines of idle connections to the leader end
// with Close, or half a minute after their last use.
package httpapi

import (
	"cmp"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/mcpfleet/mcpfleet/internal/lookup"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// API is the REST API of one controller.
type API struct {
	cfg       Config
	transport http.RoundTripper // to the leader
	lookup    lookup.Waiter
}

// New returns the API of a controller.
func New(cfg Config) *API {
	h := &API{cfg: cfg, transport: cfg.Transport, lookup: lookup.Waiter{Changed: cfg.Catalogue.Subscribe, Await: cfg.Router.Await}}
	h.cfg.LeaderWait = cmp.Or(cfg.LeaderWait, DefaultLeaderWait)
	if h.transport == nil {
		h.transport = newTransport()
	}
	return h
}

// Routes returns all routes of the API.
func (h *API) Routes() []web.Route {
	routes := []web.Route{
		web.Get("/tools", web.Call, h.serveTools),
		web.Post("/call", web.Call, h.serveCall),
		web.Get("/{server}/tools", web.Call, h.serveTools),
		web.Post("/{server}/call", web.Call, h.serveCall),
		web.Get("/g/{gateway}/tools", web.Call, h.serveTools),
		web.Post("/g/{gateway}/call", web.Call, h.serveCall),

		web.Get("/api/v1/servers", web.Read, h.serveServers),
		web.Put("/api/v1/servers", web.Write, h.servePutServers),
		web.Get("/api/v1/servers/{name}", web.Read, h.serveServer),
		web.Put("/api/v1/servers/{name}", web.Write, h.servePutServer),
		web.Delete("/api/v1/servers/{name}", web.Write, h.serveDeleteServer),
		web.Post("/api/v1/servers/{name}/scale", web.Write, h.serveScale),
		web.Post("/api/v1/servers/{name}/restart", web.Write, h.serveRestart),
		web.Post("/api/v1/servers/{name}/rollback", web.Write, h.serveRollback),
		web.Post("/api/v1/servers/{name}/rollout", web.Write, h.serveRollout),
		web.Post("/api/v1/servers/{name}/wake", web.Write, h.serveWake),
		web.Get("/api/v1/servers/{name}/revisions", web.Read, h.serveRevisions),
		web.Get("/api/v1/replicas", web.Read, h.serveReplicas),
		web.Get("/api/v1/replicas/{id}/logs", web.Read, h.serveLogs),
		web.Get("/api/v1/events", web.Read, h.serveEvents),
		web.Get("/api/v1/schema", web.Read, h.serveSchema),

		web.Get("/api/v1/nodes", web.Read, h.serveNodes),
		web.Post("/api/v1/nodes/{name}/drain", web.Admin, h.serveDrain),
		web.Post("/api/v1/nodes/{name}/cordon", web.Admin, h.serveCordon),
		web.Post("/api/v1/nodes/{name}/uncordon", web.Admin, h.serveUncordon),
		web.Get("/api/v1/controllers", web.Read, h.serveControllers),
		web.Delete("/api/v1/controllers/{name}", web.Admin, h.serveRemoveController),
		web.Post("/api/v1/controllers/{name}/transfer", web.Admin, h.serveTransfer),
		web.Get("/api/v1/backup", web.Admin, h.serveBackup),

		web.Get("/readyz", web.Open, h.serveReady),
		web.Get("/healthz", web.Open, h.serveHealth),
	}
	if h.cfg.Gatherer != nil {
		metrics := promhttp.HandlerFor(h.cfg.Gatherer, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
		routes = append(routes, web.Get("/metrics", web.Read, func(w *web.Response, r *http.Request) error {
			metrics.ServeHTTP(w, r)
			return nil
		}))
	}
	return routes
}

// Close closes the idle connections to other controllers.
func (h *API) Close() {
	if c, ok := h.transport.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
