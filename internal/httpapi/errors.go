package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// requestError is an answer that this package itself decides on. All others
// follow from api.Outcome.
type requestError struct {
	status int
	code   string
	detail string
	fields []api.FieldError // of a refused spec
}

func (e *requestError) Error() string { return e.detail }

func badRequest(format string, args ...any) error {
	return &requestError{status: http.StatusBadRequest, code: api.CodeBadRequest, detail: fmt.Sprintf(format, args...)}
}

func errMediaType(format string, args ...any) error {
	return &requestError{status: http.StatusUnsupportedMediaType, code: api.CodeMediaType, detail: fmt.Sprintf(format, args...)}
}

func errTooLarge(limit int64) error {
	return &requestError{status: http.StatusRequestEntityTooLarge, code: api.CodeTooLarge, detail: fmt.Sprintf("the body is larger than %d bytes", limit)}
}

func errHeaders() error {
	return &requestError{
		status: http.StatusRequestHeaderFieldsTooLarge, code: api.CodeHeadersTooLarge,
		detail: fmt.Sprintf("the request's line and headers are larger than %d bytes", maxHeader),
	}
}

func errMethod(r *http.Request) error {
	return &requestError{status: http.StatusMethodNotAllowed, code: api.CodeMethodNotAllowed, detail: "method " + shorten(r.Method) + " is not allowed here"}
}

var (
	errSlowBody = &requestError{status: http.StatusRequestTimeout, code: api.CodeSlowRequest, detail: "the body came too slowly"}
	errCutBody  = &requestError{status: http.StatusBadRequest, code: api.CodeBadRequest, detail: "the body ended too soon"}
	errBusy     = &requestError{status: http.StatusServiceUnavailable, code: api.CodeOverloaded, detail: "too many large requests at once"}
	errInternal = &requestError{status: http.StatusInternalServerError, code: api.CodeInternal, detail: "internal error; the controller's log has more under this request id"}
	// errStopped: the client may still be there, even if it has closed its half
	// of the connection, and a tool may have run.
	errStopped = &requestError{status: http.StatusBadGateway, code: api.CodeReplicaLost, detail: "the call was given up before it was answered: the client closed its side, or the controller is stopping"}
)

// fail answers with an error.
func (w *response) fail(err error) {
	w.err = err
	e := api.Error{Detail: err.Error(), RequestID: w.requestID}
	var own *requestError
	switch {
	case errors.As(err, &own):
		e.Status, e.Code, e.Errors = own.status, own.code, own.fields
	case errors.Is(err, context.Canceled) && !errors.Is(err, fleet.ErrOutcomeUnknown):
		w.gone = true
		e.Status, e.Code, e.Detail = errStopped.status, errStopped.code, errStopped.detail
	default:
		if e.Status, e.Code = api.Outcome(err); e.Code == api.CodeInternal {
			e.Detail = errInternal.detail
		}
	}
	if e.Status == http.StatusServiceUnavailable {
		after := time.Second
		var r interface{ RetryAfter() time.Duration }
		if errors.As(err, &r) {
			after = r.RetryAfter()
		}
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(after.Seconds())))))
	}
	w.json(e.Status, e)
}

// failTool answers with the JSON-RPC error object of a server.
func (w *response) failTool(rpc []byte) {
	w.err = mcp.ParseError(rpc)
	w.json(http.StatusInternalServerError, api.Error{
		Detail: "Tool execution error", Code: api.CodeToolError, RequestID: w.requestID, RPC: json.RawMessage(rpc),
	})
}
