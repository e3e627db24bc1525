package httpapi

import (
	"net/http"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func (h *Handler) serveTools(w *response, _ *http.Request, server string) {
	list, err := h.cfg.Catalogue.Tools(fleet.ServerName(server))
	if err != nil {
		w.fail(err)
		return
	}
	w.head(http.StatusOK, int64(len(list)))
	_ = w.inPieces(list)
}

// serveHealth tells that this process serves HTTP, and nothing else.
func (h *Handler) serveHealth(w *response, _ *http.Request, _ string) {
	w.raw(http.StatusOK, []byte(`{"status":"ok"}`+"\n"))
}

func (h *Handler) serveReady(w *response, _ *http.Request, _ string) {
	ready := h.cfg.Fleet.Ready()
	if ready.Servers == nil {
		ready.Servers = []api.ServerReady{}
	}
	status := http.StatusOK
	if !ready.Ready {
		status = http.StatusServiceUnavailable
	}
	w.json(status, ready)
}

func (h *Handler) serveReplicas(w *response, _ *http.Request, _ string) {
	w.json(http.StatusOK, api.Replicas{Replicas: notNil(h.cfg.Fleet.Replicas())})
}

// notNil makes a list that is empty rather than null in JSON.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func (h *Handler) serveNone(w *response, r *http.Request) {
	w.fail(&requestError{status: http.StatusNotFound, code: api.CodeNotFound, detail: "there is nothing at " + shorten(r.URL.Path) +
		"; see /tools, /call, /{server}/tools, /{server}/call, /api/v1/servers, /api/v1/replicas, /api/v1/nodes, /api/v1/events, /api/v1/controllers, /readyz, /healthz, /metrics"})
}
