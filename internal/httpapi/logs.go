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
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// serveLogs writes a replica's stderr as lines of text. Of a replica that has
// ended it has the lines that were kept.
func (h *Handler) serveLogs(w *response, r *http.Request, arg string) {
	id := fleet.ReplicaID(arg)
	o, err := logOptions(r.URL.RawQuery)
	if err != nil {
		w.fail(err)
		return
	}
	o.follow = o.follow && r.Method != http.MethodHead
	running := slices.ContainsFunc(h.cfg.Fleet.Replicas(), func(r api.Replica) bool { return r.ID == id })
	err = fmt.Errorf("%w %s", fleet.ErrUnknownReplica, shorten(arg))
	if running {
		err = h.followLogs(w, r, id, o)
	}
	if err == nil || w.started {
		if err != nil && r.Context().Err() == nil {
			w.err = err
			panic(http.ErrAbortHandler) // the lines are not all there
		}
		return
	}
	if ended := h.endedReplica(id); ended != nil {
		w.text()
		for _, line := range ended.Log[max(0, len(ended.Log)-o.tail):] {
			_, _ = io.WriteString(w, o.line(fleet.LogLine{Text: line}))
		}
		return
	}
	w.fail(h.why(r.Context(), err))
}

// followLogs passes lines on as they come. Unless it returns an error with
// nothing written, it has answered.
func (h *Handler) followLogs(w *response, r *http.Request, id fleet.ReplicaID, o logQuery) error {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	rc := http.NewResponseController(w.ResponseWriter)
	tail := o.tail
	if tail == math.MaxInt32 {
		tail = 0
	}
	if o.follow {
		// The client shall see at once that it is connected.
		w.text()
		if err := rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
		w.rest()
	}
	err := h.cfg.Logs.Logs(ctx, id, tail, o.follow, func(l fleet.LogLine) {
		if ctx.Err() != nil {
			return
		}
		if !w.started {
			w.text()
		}
		w.extend()
		_, err := io.WriteString(w, o.line(l))
		if err == nil && o.follow {
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

// endedReplica returns a replica that has ended and is remembered, or nil.
func (h *Handler) endedReplica(id fleet.ReplicaID) *api.Ended {
	for _, s := range h.cfg.Fleet.Servers(h.cfg.Desired.State()) {
		for i := range s.LastEnded {
			if s.LastEnded[i].ID == id {
				return &s.LastEnded[i]
			}
		}
	}
	return nil
}

// logQuery is what a request for logs asks for.
type logQuery struct {
	tail       int // math.MaxInt32: all lines
	follow     bool
	timestamps bool // each line begins with its time, or "-" when that is not known
}

func (o logQuery) line(l fleet.LogLine) string {
	switch {
	case o.timestamps && l.Time.IsZero():
		return "- " + l.Text + "\n"
	case o.timestamps:
		return l.Time.UTC().Format(time.RFC3339Nano) + " " + l.Text + "\n"
	}
	return l.Text + "\n"
}

// logOptions reads tail, follow and timestamps. Without a tail all lines are
// meant.
func logOptions(query string) (o logQuery, err error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return o, badRequest("query: %v", err)
	}
	o.tail = math.MaxInt32
	if text, ok := values["tail"]; ok {
		n, err := strconv.ParseUint(text[0], 10, 31)
		if err != nil && !errors.Is(err, strconv.ErrRange) || text[0] == "0" {
			return o, badRequest("tail must be a number of lines, 1 or more, got %s", shorten(text[0]))
		}
		if err == nil && n > 0 {
			o.tail = int(n)
		}
	}
	flag := func(name string) bool {
		text, given := values[name]
		if !given || text[0] == "" {
			return given
		}
		v, wrong := strconv.ParseBool(text[0])
		if wrong != nil && err == nil {
			err = badRequest("%s must be true or false, got %s", name, shorten(text[0]))
		}
		return v
	}
	o.follow, o.timestamps = flag("follow"), flag("timestamps")
	return o, err
}
