package httpapi

import (
	"errors"
	"net/http"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// maxToolsWait bounds how long a request for a list of tools waits until an idle
// server has started.
const maxToolsWait = 30 * time.Second

// scopeOf returns the endpoint that the path names: that of a server, of a gateway, or
// the root.
func scopeOf(r *http.Request) fleet.Scope {
	if gateway := r.PathValue("gateway"); gateway != "" {
		return fleet.GatewayScope(gateway)
	}
	return fleet.Scope(r.PathValue("server"))
}

// serveTools answers GET /tools, GET /{server}/tools and GET /g/{gateway}/tools. It starts an idle server
// without whose tools there would be no list.
func (h *API) serveTools(w *web.Response, r *http.Request) error {
	timeout, err := web.ClientTimeout(r)
	if err != nil {
		return err
	}
	if timeout == 0 || timeout > maxToolsWait {
		timeout = maxToolsWait
	}
	var list []byte
	lookUp := func() (err error) {
		list, err = h.cfg.Catalogue.Tools(scopeOf(r))
		return err
	}
	err = h.lookup.Repeat(r.Context(), lookUp(), timeout, time.Now(), lookUp)
	if errors.Is(err, fleet.ErrTimeout) {
		err = lookUp() // says why it takes so long
	}
	if err != nil {
		return err
	}
	w.BeginJSON(http.StatusOK, int64(len(list)))
	return w.WriteAll(list)
}

// serveHealth shows that this process serves HTTP. It checks nothing else.
func (h *API) serveHealth(w *web.Response, _ *http.Request) error {
	return w.JSON(http.StatusOK, map[string]string{"status": "ok"})
}

func (h *API) serveReady(w *web.Response, _ *http.Request) error {
	ready := h.cfg.Fleet.Ready()
	if ready.Servers == nil {
		ready.Servers = []api.ServerReady{}
	}
	status := http.StatusOK
	if !ready.Ready {
		status = http.StatusServiceUnavailable
	}
	return w.JSON(status, ready)
}

func (h *API) serveReplicas(w *web.Response, _ *http.Request) error {
	return w.JSON(http.StatusOK, api.Replicas{Replicas: notNil(h.cfg.Fleet.Replicas())})
}

// notNil makes a nil list empty, so that it is not null in JSON.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
