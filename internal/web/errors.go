package web

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Error is an error with a status and a code of its own. A front that has
// sentinel errors makes them of this type, and wraps them: they need no row in
// api.Outcome, which has those of package fleet.
type Error struct {
	Status int
	Code   string
	Detail string
	Fields []api.FieldError // of a refused document: everything that is wrong
}

// Error implements error.
func (e *Error) Error() string { return e.Detail }

// Answer implements Answerer. It leaves the detail to the error that wraps e.
func (e *Error) Answer() api.Error {
	return api.Error{Status: e.Status, Code: e.Code, Errors: e.Fields}
}

// Answerer is an error that has an answer of its own.
type Answerer interface {
	error
	// Answer returns the body and status of the answer. If the detail is empty,
	// it becomes the text of the error.
	Answer() api.Error
}

// BadRequest returns an error that is answered 400.
func BadRequest(format string, args ...any) error {
	return &Error{Status: http.StatusBadRequest, Code: api.CodeBadRequest, Detail: fmt.Sprintf(format, args...)}
}

// UnsupportedMedia returns an error that is answered 415.
func UnsupportedMedia(format string, args ...any) error {
	return &Error{Status: http.StatusUnsupportedMediaType, Code: api.CodeMediaType, Detail: fmt.Sprintf(format, args...)}
}

func errTooLarge(limit int64) error {
	return &Error{Status: http.StatusRequestEntityTooLarge, Code: api.CodeTooLarge, Detail: fmt.Sprintf("the body is larger than %d bytes", limit)}
}

func errHeaders() error {
	return &Error{
		Status: http.StatusRequestHeaderFieldsTooLarge, Code: api.CodeHeadersTooLarge,
		Detail: fmt.Sprintf("the request's line and headers are larger than %d bytes", maxHeader),
	}
}

var (
	errSlowBody = &Error{Status: http.StatusRequestTimeout, Code: api.CodeSlowRequest, Detail: "the body came too slowly"}
	errCutBody  = &Error{Status: http.StatusBadRequest, Code: api.CodeBadRequest, Detail: "the body ended too soon"}
	errBusy     = &Error{Status: http.StatusServiceUnavailable, Code: api.CodeOverloaded, Detail: "too many large requests at once"}
	errInternal = &Error{Status: http.StatusInternalServerError, Code: api.CodeInternal, Detail: "internal error; the controller's log has more under this request id"}
	// errGivenUp answers calls whose context has ended. Clients that closed only
	// their half of the connection read it, and all do when the controller stops.
	// The tool may have run.
	errGivenUp = &Error{Status: http.StatusBadGateway, Code: api.CodeReplicaLost, Detail: "the call was given up before it was answered: the client closed its side, or the controller is stopping"}
)

// AnswerTo returns the body and status of the answer to an error. Of a 503 it says when
// to try again.
func AnswerTo(err error) api.Error {
	e := answerTo(err)
	if e.Status == http.StatusServiceUnavailable {
		e.RetryAfter = retryAfter(err)
	}
	return e
}

func answerTo(err error) api.Error {
	var own Answerer
	if errors.As(err, &own) {
		e := own.Answer()
		if e.Detail == "" {
			e.Detail = err.Error()
		}
		return e
	}
	if givenUp(err) {
		return answerTo(errGivenUp)
	}
	status, code := api.Outcome(err)
	if code == api.CodeInternal {
		return answerTo(errInternal)
	}
	return api.Error{Status: status, Code: code, Detail: err.Error()}
}

// givenUp reports whether err says that the request was cancelled. The outcome of
// a write matters more than that.
func givenUp(err error) bool {
	return errors.Is(err, context.Canceled) && !errors.Is(err, fleet.ErrOutcomeUnknown)
}

// fail answers with an error. It is the only function that does. If the answer has
// begun, it marks it as broken, which ends the connection.
func (w *Response) fail(r *http.Request, err error) {
	w.err = err
	if w.started {
		w.broken = true
		return
	}
	e := AnswerTo(err)
	w.clientGone = r.Context().Err() != nil || givenUp(err)
	e.RequestID = w.requestID
	body := w.errorBody(err, &e)
	if e.Status == http.StatusServiceUnavailable {
		w.Header()["Retry-After"] = []string{strconv.Itoa(int(e.RetryAfter / time.Second))}
	}
	drain := w.bodyUnread
	if e.Code == api.CodeOverloaded {
		w.holdBack(r)
		drain = drain && !isSmall(r) // else clients that come back would need a new connection each time
	}
	drain = drain && w.beginRefusal()
	if err := w.JSON(e.Status, body); err != nil {
		w.err = errors.Join(w.err, err)
		e = AnswerTo(errInternal)
		e.RequestID = w.requestID
		_ = w.JSON(e.Status, w.errorBody(errInternal, &e))
	}
	if drain {
		w.drain(r)
	}
}

// errorBody returns the body of the answer e to err.
func (w *Response) errorBody(err error, e *api.Error) any {
	if w.path.errors != nil {
		return w.path.errors(err, e)
	}
	return e
}

// retryAfter returns after how many whole seconds the client may try again.
func retryAfter(err error) time.Duration {
	after := time.Second
	var r interface{ RetryAfter() time.Duration }
	if errors.As(err, &r) {
		after = r.RetryAfter()
	}
	return time.Duration(max(1, math.Ceil(after.Seconds()))) * time.Second
}
