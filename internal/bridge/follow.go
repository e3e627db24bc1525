package bridge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

var (
	errNoStream = errors.New("the server offers no stream")
	errGone     = errors.New("the server does not know the session")
)

// follow reads the stream of the legacy session, whichever that is, until the
// bridge ends.
func (b *bridge) follow() {
	for life := 0; ; {
		now, err := b.session.next(b.ctx, life)
		if err != nil {
			return
		}
		life = now.life
		b.followOne(now)
	}
}

// followOne reads the stream of one session until it is over.
func (b *bridge) followOne(now pass) {
	ctx, cancel := context.WithCancel(b.ctx)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		defer cancel() // another session has begun
		_, _ = b.session.next(ctx, now.life)
	}()
	defer func() {
		cancel()
		<-watching
	}()
	body := newBuffer(ctx, b.places)
	defer body.reset()
	lastID, retry := "", time.Duration(-1)
	for pause := firstPause; ctx.Err() == nil; {
		began := time.Now()
		d, err := b.followOnce(ctx, now, lastID, body)
		body.reset()
		switch {
		case errors.Is(err, errNoStream):
			return
		case errors.Is(err, errGone) && lastID != "":
			lastID = "" // maybe only the stream is gone
			continue
		case errors.Is(err, errGone):
			if _, err := b.renew(ctx, now.life); err == nil {
				return
			}
		}
		if ctx.Err() != nil {
			return
		}
		b.log.Debug("the stream of the session broke", "err", err)
		if d != nil {
			lastID, retry = d.lastID, d.retry
		}
		if d != nil && time.Since(began) > longPause || retry >= 0 {
			pause = firstPause
		}
		_ = sleep(ctx, max(pause, min(retry, longestRetry)))
		pause = min(2*pause, longPause)
	}
}

// followOnce reads the stream until it breaks. The decoder is nil if there was
// no stream.
func (b *bridge) followOnce(ctx context.Context, now pass, lastID string, body *buffer) (*decoder, error) {
	ctx, w, stop := newWatch(ctx)
	defer stop()
	resp, err := b.get(ctx, now, lastID)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusMethodNotAllowed:
		return nil, errNoStream
	case resp.StatusCode == http.StatusNotFound:
		return nil, errGone
	case resp.StatusCode != http.StatusOK || !resp.isSSE():
		b.ends.leave(resp.at)
		return nil, fmt.Errorf("the controller answers %s", resp.Status)
	}
	d := newDecoder(resp.Body, body, lastID, w.heard)
	for {
		e, err := d.next()
		if err != nil {
			b.ends.leave(resp.at)
			return d, err
		}
		if len(e.data) == 0 {
			continue
		}
		env, err := mcp.Scan(e.data)
		if err != nil || env.Kind == mcp.KindResponse {
			b.log.Warn("the session's stream has a text that is no message for the client", "kind", env.Kind, "err", err)
			continue
		}
		b.out.message(e.data)
	}
}
