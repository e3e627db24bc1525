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

// The codes of errors. They are for programs. The detail beside a code is for people
// and may change.
const (
	CodeBadRequest        = "bad_request"            // 400: the request is malformed
	CodeForbidden         = "forbidden"              // 403: a web page of another origin sent it
	CodeUnknownServer     = "unknown_server"         // 404
	CodeUnknownTool       = "unknown_tool"           // 404
	CodeUnknownGateway    = "unknown_gateway"        // 404
	CodeUnknownPrompt     = "unknown_prompt"         // 404
	CodeUnknownResource   = "unknown_resource"       // 404
	CodeUnknownReplica    = "unknown_replica"        // 404
	CodeUnknownRevision   = "unknown_revision"       // 404: it never existed, or is not kept any more
	CodeUnknownNode       = "unknown_node"           // 404
	CodeUnknownController = "unknown_controller"     // 404
	CodeNotFound          = "not_found"              // 404: no such route
	CodeMethodNotAllowed  = "method_not_allowed"     // 405
	CodeSlowRequest       = "request_timeout"        // 408: the body came too slowly
	CodeConflict          = "conflict"               // 409: contradicts what is stored
	CodeUnsupported       = "unsupported"            // 409: a controller of an older version would not understand it
	CodePrecondition      = "precondition_failed"    // 412: If-Match or If-None-Match
	CodeTooLarge          = "body_too_large"         // 413
	CodeMediaType         = "unsupported_media_type" // 415
	CodeHeadersTooLarge   = "headers_too_large"      // 431
	CodeInvalid           = "invalid"                // 422: well-formed, with values that are not allowed
	CodeNeedsMatch        = "precondition_required"  // 428: too dangerous without If-Match
	CodeClientGone        = "client_gone"            // 499: only in metrics and logs
	CodeToolError         = "tool_error"             // 500: the server answered with a JSON-RPC error
	CodeInternal          = "internal"               // 500
	CodeReplicaLost       = "replica_lost"           // 502
	CodeBadReply          = "bad_reply"              // 502
	CodeNoReplica         = "no_replica"             // 503
	CodeStopped           = "stopped"                // 503: a user has stopped the server
	CodeOverloaded        = "overloaded"             // 503
	CodeNoLeader          = "no_leader"              // 503: nothing was written
	CodeOutcomeUnknown    = "outcome_unknown"        // 503: it may have been written
	CodeTimeout           = "timeout"                // 504
)

// StatusClientGone is the status of requests whose client has left. Only logs and
// metrics have it.
const StatusClientGone = 499

// outcomes maps errors to the status and code of the answer. The first match counts.
var outcomes = []struct {
	err    error
	status int
	code   string
}{
	{fleet.ErrOutcomeUnknown, http.StatusServiceUnavailable, CodeOutcomeUnknown}, // whatever the cause
	{fleet.ErrTimeout, http.StatusGatewayTimeout, CodeTimeout},
	{fleet.ErrOverloaded, http.StatusServiceUnavailable, CodeOverloaded},
	{fleet.ErrReplicaLost, http.StatusBadGateway, CodeReplicaLost},
	{fleet.ErrRequestTooLarge, http.StatusRequestEntityTooLarge, CodeTooLarge},
	{fleet.ErrBadReply, http.StatusBadGateway, CodeBadReply},
	{fleet.ErrReplyTooLarge, http.StatusBadGateway, CodeBadReply},
	{fleet.ErrStopped, http.StatusServiceUnavailable, CodeStopped},
	{fleet.ErrNoReplica, http.StatusServiceUnavailable, CodeNoReplica},
	{fleet.ErrNotDelivered, http.StatusServiceUnavailable, CodeNoReplica}, // every replica that was tried refused it
	{fleet.ErrDraining, http.StatusServiceUnavailable, CodeNoReplica},
	{fleet.ErrCatalogueUnknown, http.StatusServiceUnavailable, CodeNoReplica}, // no replica was ever READY
	{fleet.ErrUnknownServer, http.StatusNotFound, CodeUnknownServer},
	{fleet.ErrUnknownTool, http.StatusNotFound, CodeUnknownTool},
	{fleet.ErrUnknownGateway, http.StatusNotFound, CodeUnknownGateway},
	{fleet.ErrUnknownPrompt, http.StatusNotFound, CodeUnknownPrompt},
	{fleet.ErrUnknownResource, http.StatusNotFound, CodeUnknownResource},
	{fleet.ErrUnknownReplica, http.StatusNotFound, CodeUnknownReplica},
	{fleet.ErrUnknownNode, http.StatusNotFound, CodeUnknownNode},
	{fleet.ErrUnknownController, http.StatusNotFound, CodeUnknownController},
	{fleet.ErrUnknownRevision, http.StatusNotFound, CodeUnknownRevision},
	{fleet.ErrPrecondition, http.StatusPreconditionFailed, CodePrecondition},
	{fleet.ErrConflict, http.StatusConflict, CodeConflict},
	{fleet.ErrUnsupported, http.StatusConflict, CodeUnsupported},
	{fleet.ErrInvalid, http.StatusUnprocessableEntity, CodeInvalid},
	{fleet.ErrNoLeader, http.StatusServiceUnavailable, CodeNoLeader},
	{fleet.ErrNotLeader, http.StatusServiceUnavailable, CodeNoLeader},
	{fleet.ErrNoDefaultTool, http.StatusBadRequest, CodeBadRequest},
	{context.Canceled, StatusClientGone, CodeClientGone},
}

// Outcome returns the HTTP status and the code of an error.
func Outcome(err error) (status int, code string) {
	for _, o := range outcomes {
		if errors.Is(err, o.err) {
			return o.status, o.code
		}
	}
	return http.StatusInternalServerError, CodeInternal
}

// Error is the body of every answer that is not a success, and the error that the
// client returns for it.
type Error struct {
	Detail    string          `json:"detail"`
	Code      string          `json:"code"`
	RequestID string          `json:"request_id"`
	RPC       json.RawMessage `json:"error,omitempty"`  // with CodeToolError: the server's JSON-RPC error
	Errors    []FieldError    `json:"errors,omitempty"` // all errors of a refused spec or fleet file

	Status     int           `json:"-"` // of HTTP
	RetryAfter time.Duration `json:"-"` // 0: not given
}

// FieldError is one error of a spec or a fleet file.
type FieldError struct {
	Path    string `json:"path"`   // of the key, such as servers.brave-search.resources.memory; "" for all of it
	Line    int    `json:"line"`   // of the body, from 1; 0: unknown
	Column  int    `json:"column"` // from 1; 0: unknown
	Message string `json:"message"`
}

// Is reports whether the answer's code belongs to one of fleet's errors, so that
// errors.Is works for clients too. CodeBadRequest is left out, because it has causes
// that fleet has no errors for.
func (e *Error) Is(target error) bool {
	for _, o := range outcomes {
		if o.code == e.Code && o.err == target && o.code != CodeBadRequest { //nolint:errorlint // the sentinels themselves
			return true
		}
	}
	return false
}

// Error returns the detail, and the message of the MCP server if there is one.
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
