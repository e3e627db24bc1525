package httpapi

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// serveLogs answers with the stderr of a replica as lines of text. For a replica
// that has ended these are the lines that were kept.
func (h *API) serveLogs(w *web.Response, r *http.Request) error {
	id := fleet.ReplicaID(r.PathValue("id"))
	o, err := logOptions(r)
	if err != nil {
		return err
	}
	o.follow = o.follow && r.Method != http.MethodHead
	running := slices.ContainsFunc(h.cfg.Fleet.Replicas(), func(r api.Replica) bool { return r.ID == id })
	err = fmt.Errorf("%w %s", fleet.ErrUnknownReplica, web.Shorten(string(id)))
	if running {
		err = h.followLogs(w, r, id, o)
	}
	if err == nil || w.Started() && r.Context().Err() != nil {
		return nil
	}
	if w.Started() {
		return err
	}
	if ended := h.endedReplica(id); ended != nil {
		beginText(w)
		for _, line := range ended.Log[max(0, len(ended.Log)-o.tail):] {
			_, _ = io.WriteString(w, o.line(fleet.LogLine{Text: line}))
		}
		return nil
	}
	return cause(r.Context(), err)
}

// followLogs writes the lines of a running replica as they arrive.
func (h *API) followLogs(w *web.Response, r *http.Request, id fleet.ReplicaID, o logQuery) error {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	tail := o.tail
	if tail == math.MaxInt32 {
		tail = 0
	}
	if o.follow {
		// The client sees at once that it is connected.
		beginText(w)
		if err := w.Flush(); err != nil {
			return err
		}
		w.ClearDeadline()
	}
	err := h.cfg.Logs.Logs(ctx, id, tail, o.follow, func(l fleet.LogLine) {
		if ctx.Err() != nil {
			return
		}
		if !w.Started() {
			beginText(w)
		}
		w.StartDeadline()
		_, err := io.WriteString(w, o.line(l))
		if err == nil && o.follow {
			err = w.Flush()
			w.ClearDeadline()
		}
		if err != nil {
			cancel(err)
		}
	})
	w.StartDeadline() // the end is still to be written
	if err == nil && !w.Started() {
		beginText(w)
	}
	return err
}

// beginText begins an answer of plain text. Browsers must not guess another type.
func beginText(w *web.Response) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Begin(http.StatusOK, "text/plain; charset=utf-8", -1)
}

// endedReplica returns what is kept of a replica that has ended, or nil.
func (h *API) endedReplica(id fleet.ReplicaID) *api.Ended {
	for _, s := range h.cfg.Fleet.Servers(h.cfg.Desired.State()) {
		for i := range s.LastEnded {
			if s.LastEnded[i].ID == id {
				return &s.LastEnded[i]
			}
		}
	}
	return nil
}

// logQuery has the parameters of a request for logs.
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

// logOptions reads the parameters of a request for logs. Without a tail it asks
// for all lines.
func logOptions(r *http.Request) (o logQuery, err error) {
	tail := int64(math.MaxInt64)
	err = web.Query(r, web.Number("tail", &tail, 1, math.MaxInt64), web.Flag("follow", &o.follow), web.Flag("timestamps", &o.timestamps))
	o.tail = int(min(tail, math.MaxInt32))
	return o, err
}
