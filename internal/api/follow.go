package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// EventOptions select events.
type EventOptions struct {
	Since  string           // id of the last known event, or ""
	Limit  int              // at most this many, the newest; 0: 1000, or all after Since
	Server fleet.ServerName // "": of all servers
	Kinds  []string         // empty: all kinds
}

func (o EventOptions) query() url.Values {
	q := url.Values{}
	if o.Since != "" {
		q.Set("since", o.Since)
	}
	if o.Limit > 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	if o.Server != "" {
		q.Set("server", string(o.Server))
	}
	if len(o.Kinds) > 0 {
		q["kind"] = o.Kinds
	}
	return q
}

// Events returns the events that the controller still has, oldest first.
func (c *Client) Events(ctx context.Context, o EventOptions) (Events, error) {
	var out Events
	err := c.get(ctx, withQuery("/api/v1/events", o.query()), &out)
	return out, err
}

// FollowEvents calls on for all past and future events until ctx ends, and then
// returns nil. If the controller is away for a while it continues after the last
// event. An event of kind EventGap without an id means that events before the next
// one may have been missed. It returns an error only if the controller refuses the
// request.
func (c *Client) FollowEvents(ctx context.Context, o EventOptions, on func(Event)) error {
	const first, most = 100 * time.Millisecond, 5 * time.Second
	delay := first
	for {
		err := c.StreamEvents(ctx, &o, func(e Event) {
			delay = first
			on(e)
		})
		if refused := new(Error); errors.As(err, &refused) && refused.Status < http.StatusInternalServerError {
			return err
		}
		wait := time.NewTimer(delay/2 + rand.N(delay))
		select {
		case <-ctx.Done():
			wait.Stop()
			return nil
		case <-wait.C:
		}
		delay = min(2*delay, most)
	}
}

// silence is how long a stream may be silent. A controller sends something at least
// every 15 seconds.
const silence = 60 * time.Second

// StreamEvents is FollowEvents over one connection. It returns when that ends, nil
// if it ended in order, and sets o.Since to the last event.
func (c *Client) StreamEvents(ctx context.Context, o *EventOptions, on func(Event)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	alarm := time.AfterFunc(silence, func() { cancel(errors.New("the controller fell silent")) })
	defer alarm.Stop()
	ask := *o
	if ask.Since != "" {
		ask.Limit = 0 // the newest ones have been read
	}
	resp, err := c.send(ctx, http.MethodGet, withQuery("/api/v1/events", ask.query()), nil, http.Header{"Accept": {"text/event-stream"}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errorOf(resp)
	}
	if media := resp.Header.Get("Content-Type"); !strings.HasPrefix(media, "text/event-stream") {
		return fmt.Errorf("follow events: the answer is %q, not a stream of events", media)
	}
	var data []byte
	id := o.Since
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		alarm.Reset(silence)
		line := lines.Bytes()
		field, value, _ := bytes.Cut(line, []byte(":"))
		switch value = bytes.TrimPrefix(value, []byte(" ")); {
		case len(line) == 0:
			if len(data) > 0 {
				var e Event
				if err := json.Unmarshal(data, &e); err != nil {
					return fmt.Errorf("decode an event: %w", err)
				}
				data = data[:0]
				on(e)
			}
			// There may be an id without data, for events that are filtered out.
			o.Since = id
		case string(field) == "id":
			id = string(value)
		case string(field) == "data":
			data = append(data, value...)
		}
	}
	if err := lines.Err(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fmt.Errorf("follow events: %w", err)
	}
	return nil
}
