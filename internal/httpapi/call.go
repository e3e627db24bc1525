package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// serveCall answers POST /call, POST /{server}/call and POST /g/{gateway}/call.
func (h *API) serveCall(w *web.Response, r *http.Request) error {
	call, err := h.takeCall(w, r)
	if err != nil {
		return err
	}
	res, err := h.cfg.Router.Call(r.Context(), call)
	switch {
	case err != nil:
		return cause(r.Context(), err)
	case res.Error != nil:
		return toolError(res.Error)
	case res.Stream != nil:
		defer res.Stream.Close()
		if err := w.Stream(resultHead, res.Stream, res.StreamSize, resultTail); err != nil {
			return cause(r.Context(), err)
		}
		return nil
	case mcp.ResultType(res.Result) == mcp.ResultInputRequired:
		return toolError(errNeedsInput.Append(nil)) // it is no CallToolResult, and no caller could go on
	}
	w.BeginJSON(http.StatusOK, int64(len(resultHead)+len(res.Result)+len(resultTail)))
	_, _ = w.Write(resultHead)
	_ = w.WriteAll(res.Result)
	_, _ = w.Write(resultTail)
	return nil
}

var (
	resultHead = []byte(`{"result":`)
	resultTail = []byte(`}`)
)

// errNeedsInput is the error of a call that a modern server does not answer before it has
// input of a client.
var errNeedsInput = mcp.Error{Code: mcp.CodeInternalError, Message: "the tool needs input of a client in mid-call, which POST /call has no way to give: call it through /mcp"}

// toolError is a JSON-RPC error object, as the server sent it.
type toolError []byte

// Error implements error.
func (e toolError) Error() string { return mcp.ParseError(e).Error() }

// Answer implements web.Answerer.
func (e toolError) Answer() api.Error {
	return api.Error{Status: http.StatusInternalServerError, Code: api.CodeToolError, Detail: "Tool execution error", RPC: json.RawMessage(e)}
}

// takeCall reads a request to call a tool. It reads nothing of a call that would
// be refused in any case.
func (h *API) takeCall(w *web.Response, r *http.Request) (fleet.Call, error) {
	if err := h.cfg.Router.Admit(scopeOf(r).Server()); err != nil {
		return fleet.Call{}, w.RefuseBody(err)
	}
	body, err := w.ReadJSON(r)
	if err != nil {
		return fleet.Call{}, err
	}
	defer body.Free()
	timeout, err := web.ClientTimeout(r)
	if err != nil {
		return fleet.Call{}, err
	}
	in, err := parseCall(body.Bytes)
	if err != nil {
		return fleet.Call{}, err
	}
	tool, err := h.resolve(scopeOf(r), in.name)
	var since time.Time // zero unless the call waited for its server's tools
	if err != nil {
		since = time.Now()
		tool, err = h.resolveLater(r, err, in.name, timeout, since)
	}
	if err != nil {
		return fleet.Call{}, err
	}
	return fleet.Call{
		Server:     tool.Server,
		Method:     mcp.MethodToolsCall,
		Tool:       tool.Name,
		Caller:     fleet.Anonymous,
		Params:     mcp.OneLine(mcp.CallParams(tool.Name, in.args)), // a copy: the body's buffer is reused
		NoMeta:     true,
		Idempotent: tool.Repeatable(),
		Timeout:    timeout,
		Since:      since,
		Trace:      fleet.Trace{RequestID: w.RequestID(), Traceparent: web.Traceparent(r)},
	}, nil
}

func (h *API) resolve(scope fleet.Scope, name *string) (fleet.Tool, error) {
	if name != nil {
		return h.cfg.Catalogue.Resolve(scope, *name)
	}
	tool, err := h.cfg.Catalogue.Default(scope)
	if errors.Is(err, fleet.ErrNoDefaultTool) {
		err = web.BadRequest("must include 'tool_name': %v", err)
	}
	return tool, err
}

// resolveLater is resolve for a name that failed to resolve with err: once this
// controller knows the server, and once the idle server that it needs has started.
func (h *API) resolveLater(r *http.Request, err error, name *string, timeout time.Duration, since time.Time) (fleet.Tool, error) {
	var tool fleet.Tool
	lookUp := func() (err error) {
		tool, err = h.resolve(scopeOf(r), name)
		return err
	}
	err = h.lookup.Repeat(r.Context(), err, timeout, since, lookUp)
	return tool, err
}

// cause returns context.Canceled if the request was cancelled, else err: an error
// after that is a consequence.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Canceled
	}
	return err
}

// callBody is the body of POST /call.
type callBody struct {
	name *string // nil if the body has no tool_name
	args []byte  // a part of the body
}

// parseCall checks the whole body and finds its parts. It ignores other keys. Of
// duplicate keys the last one counts.
func parseCall(raw []byte) (callBody, error) {
	fields, err := mcp.Fields(raw, "tool_name", "tool_args")
	if err != nil {
		var wrong *mcp.TypeError
		if errors.As(err, &wrong) {
			return callBody{}, web.BadRequest("the body must be an object, got %s", wrong.Got)
		}
		return callBody{}, web.BadRequest("%v", err)
	}
	name, args := fields[0], fields[1]
	if args == nil || mcp.IsNull(args) {
		return callBody{}, web.BadRequest("must include 'tool_args'")
	}
	if t := mcp.TypeOf(args); t != "object" {
		return callBody{}, web.BadRequest("'tool_args' must be an object, got %s", t)
	}
	call := callBody{args: args}
	if name != nil && !mcp.IsNull(name) {
		text, err := mcp.String(name)
		if err != nil {
			return callBody{}, web.BadRequest("'tool_name' must be a string, got %s", mcp.TypeOf(name))
		}
		call.name = &text
	}
	return call, nil
}
