package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// serveLogs writes a replica's stderr as lines of text. Of a replica that has
// ended it has the lines that were kept.
func (h *Handler) serveLogs(w *response, r *http.Request, arg string) {
	id := fleet.ReplicaID(arg)
	tail, follow, err := logOptions(r.URL.RawQuery)
	if err != nil {
		w.fail(err)
		return
	}
	follow = follow && r.Method != http.MethodHead
	running := slices.ContainsFunc(h.cfg.Fleet.Replicas(), func(r api.Replica) bool { return r.ID == id })
	err = fmt.Errorf("%w %s", fleet.ErrUnknownReplica, shorten(arg))
	if running {
		err = h.followLogs(w, r, id, tail, follow)
	}
	if err == nil || w.started {
		if err != nil && r.Context().Err() == nil {
			w.err = err
			panic(http.ErrAbortHandler) // the lines are not all there
		}
		return
	}
	if log, ok := h.endedLog(id); ok {
		w.text()
		for _, line := range log[max(0, len(log)-tail):] {
			_, _ = io.WriteString(w, line+"\n")
		}
		return
	}
	w.fail(h.why(r.Context(), err))
}

// followLogs passes lines on as they come. Unless it returns an error with
// nothing written, it has answered.
func (h *Handler) followLogs(w *response, r *http.Request, id fleet.ReplicaID, tail int, follow bool) error {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	rc := http.NewResponseController(w.ResponseWriter)
	if tail == math.MaxInt32 {
		tail = 0
	}
	if follow {
		// The client shall see at once that it is connected.
		w.text()
		if err := rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
		w.rest()
	}
	err := h.cfg.Logs.Logs(ctx, id, tail, follow, func(l fleet.LogLine) {
		if ctx.Err() != nil {
			return
		}
		if !w.started {
			w.text()
		}
		w.extend()
		_, err := io.WriteString(w, l.Text+"\n")
		if err == nil && follow {
			if err = rc.Flush(); errors.Is(err, http.ErrNotSupported) {
				err = nil
			}
			w.rest()
		}
		if err != nil {
			cancel(err)
		}
	})
	w.extend() // the end is still to be written
	if err == nil && !w.started {
		w.text()
	}
	return err
}

// text begins an answer of plain text, whatever is in it.
func (w *response) text() {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
}

// endedLog returns the kept lines of a replica that has ended.
func (h *Handler) endedLog(id fleet.ReplicaID) ([]string, bool) {
	for _, s := range h.cfg.Fleet.Servers(h.cfg.Desired.State()) {
		for i := range s.LastEnded {
			if s.LastEnded[i].ID == id {
				return s.LastEnded[i].Log, true
			}
		}
	}
	return nil, false
}

// logOptions reads tail and follow. Without a tail all lines are meant.
func logOptions(query string) (tail int, follow bool, err error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return 0, false, badRequest("query: %v", err)
	}
	tail = math.MaxInt32
	if text, ok := values["tail"]; ok {
		n, err := strconv.ParseUint(text[0], 10, 31)
		if err != nil && !errors.Is(err, strconv.ErrRange) || text[0] == "0" {
			return 0, false, badRequest("tail must be a number of lines, 1 or more, got %s", shorten(text[0]))
		}
		if err == nil && n > 0 {
			tail = int(n)
		}
	}
	if text, ok := values["follow"]; ok && text[0] != "" {
		if follow, err = strconv.ParseBool(text[0]); err != nil {
			return 0, false, badRequest("follow must be true or false, got %s", shorten(text[0]))
		}
	} else {
		follow = ok
	}
	return tail, follow, nil
}
