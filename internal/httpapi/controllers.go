package httpapi

import (
	"context"
	"net/http"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

func (h *Handler) serveControllers(w *response, r *http.Request, _ string) {
	if err := h.listControllers(r.Context(), w); err != nil {
		w.fail(err)
	}
}

func (h *Handler) listControllers(ctx context.Context, w *response) error {
	list, err := h.cfg.Controllers.List(ctx)
	if err != nil {
		return err
	}
	list.Controllers = notNil(list.Controllers)
	w.json(http.StatusOK, list)
	return nil
}

func (h *Handler) serveRemoveController(w *response, r *http.Request, arg string) {
	h.changeControllers(w, r, arg, h.cfg.Controllers.Remove)
}

func (h *Handler) serveTransfer(w *response, r *http.Request, arg string) {
	h.changeControllers(w, r, arg, h.cfg.Controllers.Transfer)
}

// changeControllers changes who makes up the cluster, or leads it. There is no
// trying it out, and no condition.
func (h *Handler) changeControllers(w *response, r *http.Request, name string, do func(ctx context.Context, name string) error) {
	err := paramsOf(r).end(true)
	if err == nil && (r.Header["If-Match"] != nil || r.Header["If-None-Match"] != nil) {
		err = badRequest("If-Match and If-None-Match do not go with controllers: they have no ETag")
	}
	if err != nil {
		w.fail(err)
		return
	}
	h.atLeader(w, r, nil, func(ctx context.Context) error {
		if err := do(ctx, name); err != nil {
			return unknownIfGivenUp(err)
		}
		if err := h.listControllers(ctx, w); err != nil {
			// It is done all the same.
			w.json(http.StatusOK, api.Controllers{Controllers: []api.Controller{}})
		}
		return nil
	})
}
