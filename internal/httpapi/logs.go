package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"sync"
	"time"

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
	ctx, end := h.untilStopping(r.Context())
	defer end()
	err = h.cfg.Logs.Logs(ctx, id, o.tail, o.follow, func(lines []fleet.LogLine) error {
		if len(lines) == 0 && !o.follow {
			return nil // an error may still come
		}
		if !w.Started() {
			beginText(w)
		}
		w.StartDeadline()
		for _, l := range lines {
			if _, err := io.WriteString(w, o.line(l)); err != nil {
				return err
			}
		}
		if !o.follow {
			return nil
		}
		defer w.ClearDeadline()
		return w.Flush()
	})
	w.StartDeadline() // the end is still to be written
	switch {
	case err == nil && !w.Started():
		beginText(w)
		return nil
	case err == nil || w.Started() && r.Context().Err() != nil:
		return nil
	case w.Started():
		return err
	case errors.Is(err, fleet.ErrUnknownReplica):
		err = fmt.Errorf("%w %s", fleet.ErrUnknownReplica, web.Shorten(string(id)))
	}
	return cause(r.Context(), err)
}

// untilStopping returns a context that also ends when the controller takes no more
// requests. end releases it, and waits for the goroutine that watches.
func (h *API) untilStopping(ctx context.Context) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-h.cfg.Stopping:
			cancel(errStopping)
		case <-ctx.Done():
		}
	})
	return ctx, func() {
		cancel(nil)
		watch.Wait()
	}
}

// beginText begins an answer of plain text. Browsers must not guess another type.
func beginText(w *web.Response) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Begin(http.StatusOK, "text/plain; charset=utf-8", -1)
}

// logQuery has the parameters of a request for logs.
type logQuery struct {
	tail       int // 0: all lines
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
	var tail int64
	err = web.Query(r, web.Number("tail", &tail, 1, math.MaxInt64), web.Flag("follow", &o.follow), web.Flag("timestamps", &o.timestamps))
	o.tail = int(min(tail, math.MaxInt32))
	return o, err
}
