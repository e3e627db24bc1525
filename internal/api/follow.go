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

// EventOptions say which events are wanted.
type EventOptions struct {
	Since  string           // id of the last event known; "": none
	Limit  int              // only so many of the newest of those there are; 0: 1000, or all since Since
	Server fleet.ServerName // "": of all
	Kinds  []string         // empty: all
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

// Events returns events that the controller asked still has, oldest first.
func (c *Client) Events(ctx context.Context, o EventOptions) (Events, error) {
	var out Events
	err := c.get(ctx, withQuery("/api/v1/events", o.query()), &out)
	return out, err
}

// FollowEvents calls on for every event there is, and for those to come, until
// ctx ends, which is no error. It goes on where it was when the controller is
// gone for a while. An event of kind EventGap without an id says that events
// may have been missed before the next. It ends early only when the controller
// refuses the request.
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

// silence is how long a stream may be silent: a controller sends something at
// least every 15 seconds.
const silence = 60 * time.Second

// StreamEvents is FollowEvents over one connection: it returns when that ends,
// and leaves in o.Since where to go on. An orderly end is no error.
func (c *Client) StreamEvents(ctx context.Context, o *EventOptions, on func(Event)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	alarm := time.AfterFunc(silence, func() { cancel(errors.New("the controller fell silent")) })
	defer alarm.Stop()
	ask := *o
	if ask.Since != "" {
		ask.Limit = 0 // it has had the newest
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
			// Also without data, when events passed by that are not wanted.
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
