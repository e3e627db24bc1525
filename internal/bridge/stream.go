package bridge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

const (
	// resumeWindow is how long a broken stream is tried to go on, since its last
	// sign of life. Controllers keep what it missed for 2 min.
	resumeWindow = 2 * time.Minute
	// silenceLimit is how long a stream that has sent comments to keep it alive
	// may be silent. Controllers send one every 15 s.
	silenceLimit = time.Minute

	defaultRetry = time.Second
	longestRetry = 30 * time.Second
)

var errSilent = errors.New("nothing was heard for a minute")

// watch ends a request whose stream falls silent.
type watch struct {
	timer *time.Timer
	alive bool // a comment was seen, so more will come
}

// newWatch returns a context for a request, and the watch of its stream. The
// caller stops the watch.
func newWatch(ctx context.Context) (context.Context, *watch, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{timer: time.AfterFunc(time.Hour, func() { cancel(errSilent) })}
	w.timer.Stop()
	return ctx, w, func() {
		w.timer.Stop()
		cancel(nil)
	}
}

// heard notes a line of the stream.
func (w *watch) heard(comment bool) {
	w.alive = w.alive || comment
	if w.alive {
		w.timer.Reset(silenceLimit)
	}
}

// stream reads the stream of a response until it has the answer. A legacy stream
// with ids goes on at any controller after its connection has broken.
func (c *call) stream(resp answer, w *watch) error {
	body := newBuffer(c.ctx, c.b.places)
	defer body.reset()
	d := newDecoder(resp.Body, body, "", w.heard)
	final, err := c.events(d)
	resp.Body.Close()
	for until := time.Now().Add(resumeWindow); !final; {
		if _, failed := errors.AsType[*failure](err); failed || errors.Is(err, errAgain) || c.ctx.Err() != nil || c.silent.Load() {
			return err
		}
		body.reset() // leaves its place to others meanwhile
		if d.lastID == "" || c.m.modern() || c.m.method == mcp.MethodInitialize || time.Now().After(until) {
			c.b.ends.leave(resp.at)
			return fmt.Errorf("read the stream: %w", err)
		}
		if err := sleep(c.ctx, pauseOf(d.retry)); err != nil {
			return err
		}
		final, err = c.resume(&d, body, &until)
	}
	return err
}

// pauseOf returns the pause before a stream goes on, as the server asked for.
func pauseOf(retry time.Duration) time.Duration {
	if retry < 0 {
		retry = defaultRetry
	}
	return min(max(retry, firstPause), longestRetry)
}

// resume lets a stream go on, and reads it until it breaks again. until moves on
// when the server answers.
func (c *call) resume(d **decoder, body *buffer, until *time.Time) (final bool, err error) {
	ctx, w, stop := newWatch(c.ctx)
	defer stop()
	resp, err := c.b.get(ctx, c.at, (*d).lastID)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || !resp.isSSE() {
		if resp.StatusCode >= http.StatusInternalServerError {
			c.b.ends.leave(resp.at)
			return false, fmt.Errorf("the controller answers %s", resp.Status)
		}
		return false, lost(fmt.Errorf("the controller answers %s to the attempt to go on", resp.Status))
	}
	retry := (*d).retry
	*d = newDecoder(resp.Body, body, (*d).lastID, w.heard)
	(*d).retry = retry
	if final, err = c.events(*d); errors.Is(context.Cause(ctx), errSilent) {
		c.b.ends.leave(resp.at)
	}
	*until = time.Now().Add(resumeWindow)
	return final, err
}

// events passes the messages of a stream on until the answer, or an error.
func (c *call) events(d *decoder) (final bool, err error) {
	for {
		e, err := d.next()
		if errors.Is(err, errTooLong) {
			return false, failf(codeReplyTooLarge, "a message of the answer is longer than 64 MiB")
		}
		if err != nil {
			return false, err
		}
		if len(e.data) == 0 {
			continue
		}
		if final, err := c.forward(e.data); final || err != nil {
			return final, err
		}
	}
}

// get asks for the stream of a session, or for the rest of a stream.
func (b *bridge) get(ctx context.Context, at pass, lastID string) (answer, error) {
	h := http.Header{"Accept": {"text/event-stream"}}
	at.addTo(h)
	if lastID != "" {
		h.Set(headerLastEvent, lastID)
	}
	return b.ends.send(ctx, http.MethodGet, h, nil)
}
