package httpapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// serveCall answers POST /call and POST /{server}/call.
func (h *Handler) serveCall(w *response, r *http.Request, server string) {
	call, err := h.takeCall(w, r, fleet.ServerName(server))
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	res, err := h.cfg.Router.Call(r.Context(), call)
	if err == nil && res.Stream != nil {
		err = w.stream(res)
	}
	switch {
	case err != nil:
		w.fail(h.why(r.Context(), err))
	case w.started:
	case res.Error != nil:
		w.failTool(res.Error)
	default:
		w.result(res.Result)
	}
}

// refuse answers a request whose body may not have been read.
func (h *Handler) refuse(w *response, r *http.Request, err error) {
	if own := new(requestError); errors.As(err, &own) && !bodyRead(own) {
		refuse(w, r, err)
		return
	}
	w.fail(err)
}

// bodyRead tells of an error whether it left nothing of the body unread.
func bodyRead(e *requestError) bool {
	switch e.status {
	case http.StatusForbidden, http.StatusRequestHeaderFieldsTooLarge, http.StatusUnsupportedMediaType, http.StatusRequestEntityTooLarge, http.StatusServiceUnavailable:
		return false
	}
	return true
}

// takeCall reads a request to call a tool.
func (h *Handler) takeCall(w *response, r *http.Request, server fleet.ServerName) (fleet.Call, error) {
	if err := checkPost(r); err != nil {
		return fleet.Call{}, err
	}
	body, err := h.readBody(w, r)
	if err != nil {
		return fleet.Call{}, err
	}
	defer body.free()
	if err := checkForm(r, body.bytes); err != nil {
		return fleet.Call{}, err
	}
	timeout, err := clientTimeout(r)
	if err != nil {
		return fleet.Call{}, err
	}
	in, err := parseCall(body.bytes)
	if err != nil {
		return fleet.Call{}, err
	}
	tool, err := h.resolve(server, in.name)
	if err != nil {
		return fleet.Call{}, err
	}
	return fleet.Call{
		Server:     tool.Server,
		Method:     mcp.MethodToolsCall,
		Tool:       tool.Name,
		Caller:     fleet.Anonymous,
		Params:     oneLine(mcp.CallParams(tool.Name, in.args)), // a copy: the body's buffer goes back
		Idempotent: tool.Repeatable(),
		Timeout:    timeout,
		Trace:      fleet.Trace{RequestID: w.requestID, Traceparent: traceparent(r)},
	}, nil
}

func (h *Handler) resolve(server fleet.ServerName, name *string) (fleet.Tool, error) {
	if name != nil {
		return h.cfg.Catalogue.Resolve(server, *name)
	}
	tool, err := h.cfg.Catalogue.Default(server)
	if errors.Is(err, fleet.ErrNoDefaultTool) {
		err = badRequest("must include 'tool_name': %v", err)
	}
	return tool, err
}

// why finds the client's departure behind an error: whatever else went wrong
// then went wrong because of it.
func (h *Handler) why(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Canceled
	}
	return err
}
