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

func (h *Handler) serveServers(w *response, _ *http.Request, _ string) {
	servers := notNil(h.cfg.Fleet.Servers())
	for i := range servers {
		s := &servers[i]
		s.LastEnded = notNil(s.LastEnded)
		for k := range s.LastEnded {
			s.LastEnded[k].Log = notNil(s.LastEnded[k].Log)
		}
	}
	w.json(http.StatusOK, api.Servers{Servers: servers})
}

func (h *Handler) serveReplicas(w *response, _ *http.Request, _ string) {
	w.json(http.StatusOK, api.Replicas{Replicas: notNil(h.cfg.Fleet.Replicas())})
}

func (h *Handler) serveNodes(w *response, _ *http.Request, _ string) {
	nodes := notNil(h.cfg.Fleet.Nodes())
	for i := range nodes {
		if nodes[i].Labels == nil {
			nodes[i].Labels = map[string]string{}
		}
	}
	w.json(http.StatusOK, api.Nodes{Nodes: nodes})
}

// notNil makes a list that is empty rather than null in JSON.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func (h *Handler) serveNone(w *response, r *http.Request) {
	w.fail(&requestError{http.StatusNotFound, api.CodeNotFound, "there is nothing at " + shorten(r.URL.Path) +
		"; see /tools, /call, /{server}/tools, /{server}/call, /api/v1/servers, /api/v1/replicas, /api/v1/nodes, /readyz, /healthz, /metrics"})
}
