package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

const (
	maxEvents     = 10_000 // a controller keeps no more
	defaultEvents = 1000
	// heartbeat keeps proxies from closing a quiet stream, and detects readers
	// that are gone.
	heartbeat = 15 * time.Second
)

// eventOptions select events.
type eventOptions struct {
	since  string
	limit  int64 // how many of the existing ones, newest last; -1: all
	server fleet.ServerName
	kinds  []string
}

func eventOptionsOf(r *http.Request) (eventOptions, error) {
	o := eventOptions{limit: -1}
	err := web.Query(r, web.Text("since", &o.since), web.Text("server", (*string)(&o.server)), web.List("kind", &o.kinds), web.Number("limit", &o.limit, 0, maxEvents))
	if err == nil && !isEventID(o.since) {
		err = web.BadRequest("since must be the id of an event, like 7-12, got %s", web.Shorten(o.since))
	}
	if o.limit < 0 && o.since == "" {
		o.limit = defaultEvents
	}
	return o, err
}

// isEventID reports whether text may be an id, which must fit in a line.
func isEventID(text string) bool { return len(text) <= 64 && web.Printable(text) }

func (o *eventOptions) wants(e *api.Event) bool {
	return (o.server == "" || e.Server == o.server) && (len(o.kinds) == 0 || slices.Contains(o.kinds, string(e.Kind)))
}

// newest returns the selected events. cut reports whether the limit left some out.
func (o *eventOptions) newest(events []api.Event) (wanted []api.Event, cut bool) {
	wanted = slices.DeleteFunc(events, func(e api.Event) bool { return !o.wants(&e) })
	if o.limit >= 0 && int64(len(wanted)) > o.limit {
		return wanted[len(wanted)-int(o.limit):], true
	}
	return wanted, false
}

// serveEvents answers with a list of events, or with a stream if the client accepts
// text/event-stream.
func (h *API) serveEvents(w *web.Response, r *http.Request) error {
	o, err := eventOptionsOf(r)
	if err != nil {
		return err
	}
	if accepts(r, "text/event-stream") {
		h.streamEvents(w, r, o)
		return nil
	}
	last := h.cfg.Events.Last() // before Since: the client may get an event twice, but misses none
	events, gap := h.cfg.Events.Since(o.since)
	if n := len(events); n > 0 {
		last = events[n-1].ID
	}
	events, cut := o.newest(events)
	w.Header().Set("Cache-Control", "no-store")
	return w.JSON(http.StatusOK, api.Events{Events: notNil(events), Gap: gap || cut && o.since != "", Last: last})
}

func accepts(r *http.Request, media string) bool {
	for _, list := range r.Header["Accept"] {
		for item := range strings.SplitSeq(list, ",") {
			name, _, _ := strings.Cut(item, ";")
			if strings.EqualFold(strings.TrimSpace(name), media) {
				return true
			}
		}
	}
	return false
}

// streamEvents writes events until the client leaves or the controller stops.
// Nothing is queued for a client. A slow reader gets the events that are still
// kept, and a client that stops reading is cut off.
func (h *API) streamEvents(w *web.Response, r *http.Request, o eventOptions) {
	if id := r.Header.Get("Last-Event-Id"); id != "" {
		o.since, o.limit = id, -1 // the client reconnects
	}
	look, cancel := h.cfg.Events.Subscribe()
	defer cancel()
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no")
	header.Set("X-Content-Type-Options", "nosniff")
	w.Begin(http.StatusOK, "text/event-stream", -1)
	if r.Method == http.MethodHead {
		return
	}
	s := eventStream{w: w, o: o, last: o.since}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for s.writeNew(h.cfg.Events) == nil {
		select {
		case <-look:
			continue
		case <-beat.C:
			if s.beat() == nil {
				continue
			}
		case <-r.Context().Done():
		case <-h.cfg.Stopping:
		}
		return
	}
}

// eventStream writes server-sent events.
type eventStream struct {
	w    *web.Response
	o    eventOptions
	last string // id of the newest event that was read from the log
	sent string // id of the last event that the client knows
}

// writeNew writes the new events.
func (s *eventStream) writeNew(log Events) error {
	mark := log.Last()
	events, gap := log.Since(s.last)
	switch n := len(events); {
	case n > 0:
		s.last = events[n-1].ID
	case gap:
		s.last = mark // else the gap would be reported for ever
	}
	if gap {
		e := api.Event{
			Time: time.Now(), Kind: api.EventGap,
			Message: "events may be missing: the event that was asked for is unknown to this controller, or too old to be kept",
		}
		if err := s.write("event: "+api.EventGap+"\n", "", &e); err != nil {
			return err
		}
	}
	wanted, _ := s.o.newest(events)
	s.o.limit = -1
	for i := range wanted {
		if err := s.write("", wanted[i].ID, &wanted[i]); err != nil {
			return err
		}
	}
	return s.flush()
}

// beat shows that the stream is alive. It includes the id of the newest event if
// that was not sent, because the client did not select it.
func (s *eventStream) beat() error {
	text := ": heartbeat\n\n"
	if s.sent != s.last && s.last != "" {
		text = ": heartbeat\nid: " + s.last + "\n\n"
		s.sent = s.last
	}
	s.w.StartDeadline()
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.flush()
}

func (s *eventStream) write(head, id string, e *api.Event) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if id != "" {
		head += "id: " + id + "\n"
		s.sent = id
	}
	s.w.StartDeadline()
	_, err = fmt.Fprintf(s.w, "%sdata: %s\n\n", head, data)
	return err
}

// flush sends what was written, the header too.
func (s *eventStream) flush() error {
	s.w.StartDeadline()
	return s.w.Flush()
}
