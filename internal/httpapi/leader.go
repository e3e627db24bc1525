package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

const (
	// DefaultLeaderWait is how long a request waits for a leader. An election takes
	// less with the default time-outs of raft.
	DefaultLeaderWait = 3 * time.Second
	// leaderPoll is a fallback: gossip learning the leader's address posts no
	// notice.
	leaderPoll = 50 * time.Millisecond
	// maxWriteTime bounds a write. It includes waiting for a leader, for the
	// leader's answer and for a majority.
	maxWriteTime = 10 * time.Second
)

var (
	errSlowWrite = fmt.Errorf("it took too long: more than %s", maxWriteTime)
	errStopping  = notNow("this controller is stopping")
)

// notNow is the reason why no controller could answer. Nothing was written, so the
// request may be sent again.
type notNow string

// Error implements error.
func (e notNow) Error() string { return string(e) }

// Unwrap makes it a fleet.ErrNotLeader.
func (e notNow) Unwrap() error { return fleet.ErrNotLeader }

// atLeader answers a request on the leader. If this controller leads it calls do,
// else it passes the request on with this body. do answers, or returns an error and
// has answered nothing. It is called again after an error that wraps
// fleet.ErrNotLeader.
func (h *API) atLeader(w *web.Response, r *http.Request, body []byte, do func(ctx context.Context) error) error {
	if !isRead(r) {
		ctx, cancel := context.WithTimeoutCause(r.Context(), maxWriteTime, errSlowWrite)
		defer cancel()
		r = r.WithContext(ctx)
	}
	err := h.tryLeader(w, r, body, do)
	if errors.Is(err, fleet.ErrNotLeader) && r.Header.Get(headerForwarded) == "" {
		err = h.awaitLeader(w, r, body, do)
	}
	switch {
	case err == nil, w.Started(), errors.Is(err, fleet.ErrOutcomeUnknown):
	case errors.Is(err, fleet.ErrNotLeader), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		outcome := "nothing was written: "
		if isRead(r) {
			outcome = ""
		}
		err = fmt.Errorf("%w: %s%s", fleet.ErrNoLeader, outcome, err.Error())
	}
	return err
}

// tryLeader is one attempt of atLeader, with the present leader.
func (h *API) tryLeader(w *web.Response, r *http.Request, body []byte, do func(ctx context.Context) error) error {
	l, err := h.cfg.Leader.Find()
	switch by := r.Header.Get(headerForwarded); {
	case l.Self:
		return do(r.Context())
	case by != "":
		// Two controllers that take each other for the leader must not loop.
		return notNow(fmt.Sprintf("%s passed the request on to %s, which does not lead", web.Shorten(by), h.cfg.Self))
	case err != nil:
		return h.notNow(err.Error())
	}
	return h.forward(w, r, l.HTTP, body)
}

// notNow adds the problem of this controller to a reason, since it may be the
// cause: a controller whose disk is full cannot become the leader.
func (h *API) notNow(reason string) error {
	if p := h.cfg.Desired.Problem(); p != "" {
		reason += "; " + p
	}
	return notNow(reason)
}

// awaitLeader repeats the attempt until a leader has answered, for
// Config.LeaderWait at most.
func (h *API) awaitLeader(w *web.Response, r *http.Request, body []byte, do func(ctx context.Context) error) error {
	look, cancel := h.cfg.Desired.Subscribe()
	defer cancel()
	patience := time.NewTimer(h.cfg.LeaderWait)
	defer patience.Stop()
	poll := time.NewTicker(leaderPoll)
	defer poll.Stop()
	for {
		err := h.tryLeader(w, r, body, do)
		if !errors.Is(err, fleet.ErrNotLeader) {
			return err
		}
		select {
		case <-patience.C:
			return err
		default:
		}
		select {
		case <-look:
			// Commits post notices too, far more often than an attempt is worth.
			select {
			case <-poll.C:
			case <-patience.C:
				return err
			}
		case <-poll.C:
		case <-patience.C:
			return err
		case <-r.Context().Done():
			return err
		case <-h.cfg.Stopping:
			return errStopping
		}
	}
}

// isRead reports whether a request changes nothing, and so may always be repeated.
func isRead(r *http.Request) bool {
	dry := false
	return r.Method == http.MethodGet || r.Method == http.MethodHead || web.Query(r, web.Flag("dry_run", &dry)) == nil && dry
}
