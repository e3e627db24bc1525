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
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// requestError is an answer that this package itself decides on. All others
// follow from api.Outcome.
type requestError struct {
	status int
	code   string
	detail string
}

func (e *requestError) Error() string { return e.detail }

func badRequest(format string, args ...any) error {
	return &requestError{http.StatusBadRequest, api.CodeBadRequest, fmt.Sprintf(format, args...)}
}

func errMediaType(format string, args ...any) error {
	return &requestError{http.StatusUnsupportedMediaType, api.CodeMediaType, fmt.Sprintf(format, args...)}
}

func errTooLarge(limit int64) error {
	return &requestError{http.StatusRequestEntityTooLarge, api.CodeTooLarge, fmt.Sprintf("the body is larger than %d bytes", limit)}
}

func errMethod(r *http.Request) error {
	return &requestError{http.StatusMethodNotAllowed, api.CodeMethodNotAllowed, "method " + shorten(r.Method) + " is not allowed here"}
}

var (
	errSlowBody = &requestError{http.StatusRequestTimeout, api.CodeSlowRequest, "the body came too slowly"}
	errCutBody  = &requestError{http.StatusBadRequest, api.CodeBadRequest, "the body ended too soon"}
	errBusy     = &requestError{http.StatusServiceUnavailable, api.CodeOverloaded, "too many large requests at once"}
	errInternal = &requestError{http.StatusInternalServerError, api.CodeInternal, "internal error; the controller's log has more under this request id"}
	// errStopped: the client may still be there, even if it has closed its half
	// of the connection, and a tool may have run.
	errStopped = &requestError{http.StatusBadGateway, api.CodeReplicaLost, "the call was given up before it was answered: the client closed its side, or the controller is stopping"}
)

// fail answers with an error.
func (w *response) fail(err error) {
	w.err = err
	e := api.Error{Detail: err.Error(), RequestID: w.requestID}
	var own *requestError
	switch {
	case errors.As(err, &own):
		e.Status, e.Code = own.status, own.code
	case errors.Is(err, context.Canceled):
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
