package httpapi

import (
	"context"
	"net/http"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

func (h *API) serveControllers(w *web.Response, r *http.Request) error {
	return h.listControllers(r.Context(), w)
}

func (h *API) listControllers(ctx context.Context, w *web.Response) error {
	list, err := h.cfg.Controllers.List(ctx)
	if err != nil {
		return err
	}
	list.Controllers = notNil(list.Controllers)
	return w.JSON(http.StatusOK, list)
}

func (h *API) serveRemoveController(w *web.Response, r *http.Request) error {
	return h.changeControllers(w, r, h.cfg.Controllers.Remove)
}

func (h *API) serveTransfer(w *web.Response, r *http.Request) error {
	return h.changeControllers(w, r, h.cfg.Controllers.Transfer)
}

// changeControllers removes a controller or moves leadership. Neither has a dry
// run or a condition.
func (h *API) changeControllers(w *web.Response, r *http.Request, do func(ctx context.Context, name string) error) error {
	err := web.Query(r)
	if err == nil && (r.Header["If-Match"] != nil || r.Header["If-None-Match"] != nil) {
		err = web.BadRequest("If-Match and If-None-Match do not go with controllers: they have no ETag")
	}
	if err != nil {
		return err
	}
	return h.atLeader(w, r, nil, func(ctx context.Context) error {
		if err := do(ctx, r.PathValue("name")); err != nil {
			return unknownIfGivenUp(err)
		}
		if err := h.listControllers(ctx, w); err != nil {
			// The change was made: only the list is missing.
			return w.JSON(http.StatusOK, api.Controllers{Controllers: []api.Controller{}})
		}
		return nil
	})
}
