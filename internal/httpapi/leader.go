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
	// leaderWait is how long a request waits for somebody to lead: an election
	// takes less.
	leaderWait = 3 * time.Second
	// leaderPoll backs up the notices: that gossip has found the leader's
	// address is none.
	leaderPoll = 50 * time.Millisecond
	// maxWriteTime bounds a write, wherever it waits: for a leader, for the
	// leader's answer, for a majority.
	maxWriteTime = 10 * time.Second
)

var errSlowWrite = fmt.Errorf("it takes too long: more than %s", maxWriteTime)

// notNow says why nobody could answer at this moment. Nothing was written, so
// it may be tried again.
type notNow string

func (e notNow) Error() string { return string(e) }

func (e notNow) Unwrap() error { return fleet.ErrNotLeader }

// atLeader has a request answered by the leader: by do if that is this
// controller, else by the one it is, which gets the request with this body. do
// answers, or returns an error and has answered nothing; it may be called
// again after one that wraps fleet.ErrNotLeader.
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
		what := "nothing was written: "
		if isRead(r) {
			what = ""
		}
		err = fmt.Errorf("%w: %s%s", fleet.ErrNoLeader, what, err.Error())
	}
	return err
}

// tryLeader tries it once, with the leader there is now.
func (h *API) tryLeader(w *web.Response, r *http.Request, body []byte, do func(ctx context.Context) error) error {
	self, address, ok := h.cfg.Desired.Leader()
	switch by := r.Header.Get(headerForwarded); {
	case self:
		return do(r.Context())
	case by != "":
		// Two that take each other for the leader would play ping-pong.
		return notNow(fmt.Sprintf("%s passed the request on to %s, which does not lead", web.Shorten(by), h.cfg.Self))
	case !ok:
		return h.notNow("no controller leads at present")
	case address == "":
		return h.notNow("the leader's address is not known yet")
	}
	return h.forward(w, r, address, body)
}

// notNow says why there is no leader to ask, and what is wrong here, as that may
// be the cause: a controller whose disk is full cannot become the leader.
func (h *API) notNow(what string) error {
	if p := h.cfg.Desired.Problem(); p != "" {
		what += "; " + p
	}
	return notNow(what)
}

// awaitLeader tries it again until it was done, or for so long that there seems
// to be no majority of controllers.
func (h *API) awaitLeader(w *web.Response, r *http.Request, body []byte, do func(ctx context.Context) error) error {
	look, cancel := h.cfg.Desired.Subscribe()
	defer cancel()
	patience := time.NewTimer(leaderWait)
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
			// A commit is a notice, too: they come faster than is of use.
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
			return notNow("this controller is stopping")
		}
	}
}

// isRead reports whether a request changes nothing, so that it may be sent again
// whatever became of it.
func isRead(r *http.Request) bool {
	dry := false
	return r.Method == http.MethodGet || r.Method == http.MethodHead || web.Query(r, web.Flag("dry_run", &dry)) == nil && dry
}
