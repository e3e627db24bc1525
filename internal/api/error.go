package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// The codes of errors: what went wrong, for programs. The detail beside it is
// for people and may change.
const (
	CodeBadRequest       = "bad_request"            // 400: the request says something that cannot be
	CodeUnknownServer    = "unknown_server"         // 404
	CodeUnknownTool      = "unknown_tool"           // 404
	CodeUnknownReplica   = "unknown_replica"        // 404
	CodeNotFound         = "not_found"              // 404: no such route
	CodeMethodNotAllowed = "method_not_allowed"     // 405
	CodeSlowRequest      = "request_timeout"        // 408: the body came too slowly
	CodeTooLarge         = "body_too_large"         // 413
	CodeMediaType        = "unsupported_media_type" // 415
	CodeClientGone       = "client_gone"            // 499: in metrics and logs only, nobody reads it
	CodeToolError        = "tool_error"             // 500: the server answered with a JSON-RPC error
	CodeInternal         = "internal"               // 500
	CodeReplicaLost      = "replica_lost"           // 502
	CodeBadReply         = "bad_reply"              // 502
	CodeNoReplica        = "no_replica"             // 503
	CodeOverloaded       = "overloaded"             // 503
	CodeTimeout          = "timeout"                // 504
)

// StatusClientGone is the status of what nobody waits for any more. It is seen
// in logs and metrics only.
const StatusClientGone = 499

// outcomes is the one table from errors to what a caller is told. The first
// that matches counts.
var outcomes = []struct {
	err    error
	status int
	code   string
}{
	{fleet.ErrTimeout, http.StatusGatewayTimeout, CodeTimeout},
	{fleet.ErrOverloaded, http.StatusServiceUnavailable, CodeOverloaded},
	{fleet.ErrReplicaLost, http.StatusBadGateway, CodeReplicaLost},
	{fleet.ErrBadReply, http.StatusBadGateway, CodeBadReply},
	{fleet.ErrReplyTooLarge, http.StatusBadGateway, CodeBadReply},
	{fleet.ErrNoReplica, http.StatusServiceUnavailable, CodeNoReplica},
	{fleet.ErrNotDelivered, http.StatusServiceUnavailable, CodeNoReplica}, // every replica tried refused it
	{fleet.ErrDraining, http.StatusServiceUnavailable, CodeNoReplica},
	{fleet.ErrCatalogueUnknown, http.StatusServiceUnavailable, CodeNoReplica}, // nor has one ever been READY
	{fleet.ErrUnknownServer, http.StatusNotFound, CodeUnknownServer},
	{fleet.ErrUnknownTool, http.StatusNotFound, CodeUnknownTool},
	{fleet.ErrUnknownReplica, http.StatusNotFound, CodeUnknownReplica},
	{fleet.ErrNoDefaultTool, http.StatusBadRequest, CodeBadRequest},
	{context.Canceled, StatusClientGone, CodeClientGone},
}

// Outcome tells the HTTP status and the code of an error.
func Outcome(err error) (status int, code string) {
	for _, o := range outcomes {
		if errors.Is(err, o.err) {
			return o.status, o.code
		}
	}
	return http.StatusInternalServerError, CodeInternal
}

// Error is the body of every answer that is no success, and what the client
// returns for it.
type Error struct {
	Detail    string          `json:"detail"`
	Code      string          `json:"code"`
	RequestID string          `json:"request_id"`
	RPC       json.RawMessage `json:"error,omitempty"` // with CodeToolError: the server's JSON-RPC error

	Status     int           `json:"-"` // of HTTP
	RetryAfter time.Duration `json:"-"` // 0: not said
}

// Error tells all that is known, the server's own words too.
func (e *Error) Error() string {
	msg := e.Detail
	if msg == "" {
		msg = fmt.Sprintf("HTTP status %d", e.Status)
	}
	var rpc struct {
		Code    json.Number `json:"code"`
		Message string      `json:"message"`
	}
	if len(e.RPC) > 0 && json.Unmarshal(e.RPC, &rpc) == nil {
		msg += fmt.Sprintf(": %s (JSON-RPC error %s)", rpc.Message, rpc.Code)
	}
	return msg
}
