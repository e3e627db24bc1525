package mcphttp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// The codes of our own errors. They lie outside the ranges that JSON-RPC and MCP reserve.
const (
	codeOverloaded       mcp.Code = -31001
	codeTimeout          mcp.Code = -31002
	codeReplicaLost      mcp.Code = -31003
	codeNoReplica        mcp.Code = -31004
	codeStopped          mcp.Code = -31005
	codeTooLarge         mcp.Code = -31006
	codeBadReply         mcp.Code = -31007
	codeReplyTooLarge    mcp.Code = -31008
	codeCatalogueUnknown mcp.Code = -31009
	codeSessionNotFound  mcp.Code = -31010
	codeUnknownServer    mcp.Code = -31011
	codeForbidden        mcp.Code = -31012
	codeUnavailable      mcp.Code = -31013
	codeCancelled        mcp.Code = -31014
)

// names are the names of errors that no code of package api stands for.
const (
	nameSessionNotFound  = "session_not_found"
	nameCatalogueUnknown = "catalogue_unknown"
	nameReplyTooLarge    = "reply_too_large"
	nameCancelled        = "cancelled"
	nameUnavailable      = "unavailable"
	nameNotAcceptable    = "not_acceptable"
	nameUnknownTask      = "unknown_task"
)

// codes gives the codes of package api, and the names above, their JSON-RPC codes. All
// others are internal errors.
var codes = map[string]mcp.Code{
	api.CodeOverloaded:       codeOverloaded,
	api.CodeTimeout:          codeTimeout,
	api.CodeSlowRequest:      codeTimeout,
	api.CodeReplicaLost:      codeReplicaLost,
	api.CodeNoReplica:        codeNoReplica,
	api.CodeStopped:          codeStopped,
	api.CodeTooLarge:         codeTooLarge,
	api.CodeHeadersTooLarge:  codeTooLarge,
	api.CodeBadReply:         codeBadReply,
	nameReplyTooLarge:        codeReplyTooLarge,
	nameCatalogueUnknown:     codeCatalogueUnknown,
	nameSessionNotFound:      codeSessionNotFound,
	api.CodeUnknownServer:    codeUnknownServer,
	api.CodeUnknownGateway:   codeUnknownServer,
	api.CodeForbidden:        codeForbidden,
	api.CodeNoLeader:         codeUnavailable,
	nameUnavailable:          codeUnavailable,
	nameCancelled:            codeCancelled,
	api.CodeUnknownTool:      mcp.CodeInvalidParams,
	api.CodeUnknownPrompt:    mcp.CodeInvalidParams,
	api.CodeUnknownResource:  mcp.CodeResourceNotFound,
	api.CodeBadRequest:       mcp.CodeInvalidRequest,
	api.CodeMediaType:        mcp.CodeInvalidRequest,
	api.CodeMethodNotAllowed: mcp.CodeInvalidRequest,
	nameNotAcceptable:        mcp.CodeInvalidRequest,
	nameUnknownTask:          mcp.CodeInvalidParams,
}

// failure is an error that is answered with a JSON-RPC error of its own.
type failure struct {
	status int
	err    mcp.Error
}

// Error implements error.
func (f *failure) Error() string { return f.err.Error() }

// Answer implements web.Answerer.
func (f *failure) Answer() api.Error { return api.Error{Status: f.status, Detail: f.err.Message} }

// failuref returns an error with a status and a JSON-RPC code.
func failuref(status int, code mcp.Code, format string, args ...any) *failure {
	return &failure{status, mcp.Error{Code: code, Message: fmt.Sprintf(format, args...)}}
}

func invalidParams(format string, args ...any) error {
	return failuref(http.StatusOK, mcp.CodeInvalidParams, format, args...)
}

// requestError is an error whose answer names the request.
type requestError struct {
	error
	id []byte
}

func (e *requestError) Unwrap() error { return e.error }

// withID returns err with the id of the request that failed. A nil id is not known.
func withID(err error, id []byte) error {
	if err == nil || id == nil {
		return err
	}
	return &requestError{err, append([]byte(nil), id...)}
}

// errorBody implements web.ErrorBody.
func errorBody(err error, e *api.Error) any {
	var id []byte
	var named *requestError
	if errors.As(err, &named) {
		id = mcp.OneLine(named.id)
	}
	var own *failure
	if errors.As(err, &own) {
		return json.RawMessage(mcp.AppendError(nil, id, &own.err))
	}
	name := codeNameOf(err, e)
	if name == api.CodeUnknownTool || name == api.CodeUnknownPrompt || name == api.CodeUnknownResource {
		e.Status = http.StatusOK // as the errors of servers have
	}
	code, known := codes[name]
	if !known {
		code = mcp.CodeInternalError
	}
	data := mcp.Failure{Code: name, RequestID: e.RequestID, RetryAfter: e.RetryAfter}.Append(nil)
	return json.RawMessage(mcp.AppendError(nil, id, &mcp.Error{Code: code, Message: e.Detail, Data: data}))
}

// codeNameOf returns the name of an error in the data of its answer: package api's,
// unless there is a finer one.
func codeNameOf(err error, e *api.Error) string {
	switch {
	case errors.Is(err, fleet.ErrReplyTooLarge):
		return nameReplyTooLarge
	case errors.Is(err, fleet.ErrCatalogueUnknown) && e.Code == api.CodeNoReplica:
		return nameCatalogueUnknown
	}
	return e.Code
}

// errorLine returns the error response for a stream, where the status is gone already.
func errorLine(err error, id []byte, requestID string) []byte {
	e := web.AnswerTo(err)
	e.RequestID = requestID
	line, failed := json.Marshal(errorBody(withID(err, id), &e))
	if failed != nil {
		return nil // cannot happen: all members can be encoded
	}
	return line
}

var (
	errSession = &web.Error{
		Status: http.StatusNotFound, Code: nameSessionNotFound,
		Detail: "the session has ended, or its id is not one of this endpoint: initialize again",
	}
	errUnavailable = &web.Error{
		Status: http.StatusServiceUnavailable, Code: nameUnavailable, Detail: "no session can be opened yet: the cluster has no leader that made a key for its id",
	}
	errIncomplete = &web.Error{
		Status: http.StatusServiceUnavailable, Code: nameUnavailable, Detail: "the controller has just started and does not know the fleet's sessions yet",
	}
	errTooManyStreams = &web.Error{Status: http.StatusServiceUnavailable, Code: api.CodeOverloaded, Detail: "too many streams are open"}
	errCannotAsk      = failuref(http.StatusOK, mcp.CodeInternalError, "the server wants to ask the client something, and the client accepts no stream of events on which it could")
	errUnknownTask    = &web.Error{Status: http.StatusOK, Code: nameUnknownTask, Detail: "unknown task: it has expired, its replica is gone, or its id is not one of this endpoint"}
	errNoTask         = failuref(http.StatusOK, mcp.CodeInternalError, "the server answered with a task of the modern era, which legacy clients do not have")
	errTaskUndeclared = &failure{http.StatusBadRequest, *mcp.MissingTasks()}
	errCancelled      = &web.Error{Status: http.StatusOK, Code: nameCancelled, Detail: "the request was cancelled by its client"}
	errNoStream       = &web.Error{
		Status: http.StatusMethodNotAllowed, Code: api.CodeMethodNotAllowed,
		Detail: "there is no stream without a session: GET needs an Mcp-Session-Id of the legacy era",
	}
	errAcceptEvents = &web.Error{Status: http.StatusNotAcceptable, Code: nameNotAcceptable, Detail: "the Accept header must list text/event-stream"}
	errNoSession    = &web.Error{
		Status: http.StatusMethodNotAllowed, Code: api.CodeMethodNotAllowed, Detail: "DELETE needs an Mcp-Session-Id of the legacy era",
	}
	errEvent = failuref(http.StatusBadRequest, mcp.CodeInvalidRequest,
		"Invalid request: Last-Event-ID is not the id of an event that was sent to this session; a GET without it gets what comes from now on")
	errMissingSession = failuref(http.StatusBadRequest, mcp.CodeInvalidRequest, "the header Mcp-Session-Id is missing: a session begins with initialize")
)

// cause returns why a request failed: context.Canceled if the request was given up, as
// any error after that is a consequence. If it was cancelled though nobody here gave it
// up, its client did that through another controller.
func cause(ctx context.Context, err error) error {
	switch {
	case errors.Is(context.Cause(ctx), errCancelled):
		return errCancelled
	case errors.Is(context.Cause(ctx), errSession):
		return errSession
	case ctx.Err() != nil:
		return context.Canceled
	case errors.Is(err, context.Canceled):
		return errCancelled
	}
	return err
}

// causeAt is cause for a request to a server that was there a moment ago. If it is gone, the
// error is not one of an unknown server: its status, 404, would tell a legacy client that
// its session has ended.
func causeAt(ctx context.Context, err error) error {
	if err = cause(ctx, err); errors.Is(err, fleet.ErrUnknownServer) {
		return fmt.Errorf("%w: %s: it was removed", fleet.ErrNoReplica, err.Error())
	}
	return err
}
