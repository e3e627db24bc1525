package agent

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/stdio"
)

// listening keeps one stream of notifications of a modern server open: of its lists, and of
// the resources that controllers want. Another wish opens another stream, which takes the
// place of the one before.
type listening struct {
	*subscriptions
	version string
	can     mcp.Filter // what the server announces
	current *openStream
	pause   time.Duration // before the next attempt
	retry   time.Time     // when that is
}

// openStream is one subscriptions/listen.
type openStream struct {
	pending *stdio.Pending
	since   time.Time
	over    chan stdio.Reply
}

// run keeps the stream open until ctx ends, or the server refuses it.
func (l *listening) run(ctx context.Context) {
	if l.can.Empty() {
		return
	}
	look, cancel := l.r.listeners.changed.Subscribe()
	defer cancel()
	l.pause = relisten
	for {
		begin, end, next := l.update(l.wanted(), time.Now())
		due := l.current == nil && !time.Now().Before(l.retry)
		if due || len(begin)+len(end) > 0 {
			if err := l.open(); err != nil {
				return // the conversation has ended
			}
			if due && !l.retry.IsZero() { // something may have changed meanwhile
				l.r.relist.Or(^uint32(0))
				notify(l.r.changed)
			}
		}
		if l.current == nil && (next.IsZero() || l.retry.Before(next)) {
			next = l.retry
		}
		if !l.await(ctx, look, next) {
			return
		}
	}
}

// wanted returns the resources to subscribe to.
func (l *listening) wanted() []string {
	if len(l.can.Resources) == 0 {
		return nil
	}
	return l.r.listeners.wanted(l.r.order.Server)
}

// open opens a stream of all that is wanted, and ends the one before.
func (l *listening) open() error {
	f := l.can
	f.Resources = slices.Sorted(maps.Keys(l.held))
	params, err := mcp.ListenParams(l.version, mcp.Implementation{Name: "mcpfleet", Version: l.r.node.Version}, &f)
	if err != nil {
		return err
	}
	o := &openStream{since: time.Now(), over: make(chan stdio.Reply, 1)}
	o.pending, err = l.conn.Start(&stdio.Call{Method: mcp.MethodListen, Params: params, Done: func(r stdio.Reply) {
		r.Release()
		o.over <- r
	}})
	if err != nil {
		return err
	}
	if l.current != nil {
		l.conn.Cancel(l.current.pending, "another subscription takes its place")
	}
	l.current = o
	return nil
}

// await waits for a notice, a time or the end of the stream. It reports false when ctx has
// ended, or when there will be no further stream.
func (l *listening) await(ctx context.Context, look <-chan struct{}, at time.Time) bool {
	var timer <-chan time.Time
	if !at.IsZero() {
		t := time.NewTimer(time.Until(at))
		defer t.Stop()
		timer = t.C
	}
	var over <-chan stdio.Reply
	if l.current != nil {
		over = l.current.over
	}
	select {
	case <-look:
	case <-timer:
	case reply := <-over:
		return l.ended(reply)
	case <-ctx.Done():
		if l.current != nil {
			l.conn.Cancel(l.current.pending, "the replica stops")
		}
		return false
	}
	return true
}

// ended takes the end of the stream. It reports false if there will be no other.
func (l *listening) ended(reply stdio.Reply) bool {
	lasted := time.Since(l.current.since)
	l.current = nil
	err := reply.Failure()
	switch {
	case errors.Is(err, stdio.ErrLost):
		return false
	case errors.As(err, new(*mcp.Error)):
		l.r.log.Info("server refused subscriptions/listen, so its changes are not announced", "err", err)
		return false
	}
	if lasted >= relistenMax {
		l.pause = relisten
	}
	l.retry = time.Now().Add(l.pause)
	l.pause = min(2*l.pause, relistenMax)
	return true
}
