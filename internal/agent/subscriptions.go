package agent

import (
	"context"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/stdio"
)

const (
	// lingering is how long a subscription outlives the wish for it, so that a controller
	// that loses its connection for a moment ends none.
	lingering = 5 * time.Second
	// subscribeTimeout bounds the server's answer to one subscription.
	subscribeTimeout = 30 * time.Second
	// relisten is the first pause before a modern server's stream of notifications, which
	// it has ended, is begun again. It doubles up to relistenMax.
	relisten    = time.Second
	relistenMax = time.Minute
)

// subscriptions are those of one replica of a server that serves many clients.
type subscriptions struct {
	r    *replica
	conn *stdio.Conn
	held map[string]time.Time // by resource: since when nobody wants it; zero if somebody does
}

// subscribe keeps the replica subscribed to what controllers want until ctx ends.
func (r *replica) subscribe(ctx context.Context, conn *stdio.Conn) {
	c := r.board.catalogue(r.order.ID)
	if c == nil {
		return
	}
	s := &subscriptions{r: r, conn: conn, held: map[string]time.Time{}}
	switch {
	case c.Era == fleet.EraModern:
		all := mcp.Filter{ToolsListChanged: true, PromptsListChanged: true, ResourcesListChanged: true, Resources: []string{"any"}}
		l := &listening{subscriptions: s, version: c.Protocol, can: all.Honoured(c.Capabilities)}
		l.run(ctx)
	case subscribable(c.Capabilities):
		s.run(ctx)
	}
}

// subscribable reports whether a server with those capabilities tells of updates.
func subscribable(capabilities []byte) bool {
	f := mcp.Filter{Resources: []string{"any"}}
	h := f.Honoured(capabilities)
	return len(h.Resources) > 0
}

// update takes in what is wanted now. It returns what is new, what has been unwanted for
// long enough, and when that holds for more.
func (s *subscriptions) update(wanted []string, now time.Time) (begin, end []string, next time.Time) {
	for _, uri := range wanted {
		if _, held := s.held[uri]; !held {
			begin = append(begin, uri)
		}
		s.held[uri] = time.Time{}
	}
	for uri, since := range s.held {
		if _, is := slices.BinarySearch(wanted, uri); is {
			continue
		}
		if since.IsZero() {
			since = now
			s.held[uri] = now
		}
		switch at := since.Add(lingering); {
		case !at.After(now):
			end = append(end, uri)
			delete(s.held, uri)
		case next.IsZero() || at.Before(next):
			next = at
		}
	}
	slices.Sort(end)
	return begin, end, next
}

// run subscribes at a legacy server, each resource on its own.
func (s *subscriptions) run(ctx context.Context) {
	look, cancel := s.r.listeners.changed.Subscribe()
	defer cancel()
	for {
		begin, end, next := s.update(s.r.listeners.wanted(s.r.order.Server), time.Now())
		for _, uri := range begin {
			s.ask(ctx, mcp.MethodSubscribe, uri)
		}
		for _, uri := range end {
			s.ask(ctx, mcp.MethodUnsubscribe, uri)
		}
		if !await(ctx, look, next) {
			return
		}
	}
}

// ask sends one request. A server that refuses is not asked again while the wish lasts.
func (s *subscriptions) ask(ctx context.Context, method, uri string) {
	ctx, cancel := context.WithTimeout(ctx, subscribeTimeout)
	defer cancel()
	reply := s.conn.Request(ctx, method, uriParams(uri))
	defer reply.Release()
	if err := reply.Failure(); err != nil && ctx.Err() == nil {
		s.r.log.Warn("subscription refused", "method", method, "uri", uri, "err", err)
	}
}

// uriParams returns params that name a resource.
func uriParams(uri string) []byte {
	return append(mcp.AppendString([]byte(`{"uri":`), uri), '}')
}

// await waits for a notice or a time, zero for never. It reports false when ctx has ended.
func await(ctx context.Context, look <-chan struct{}, at time.Time) bool {
	var timer <-chan time.Time
	if !at.IsZero() {
		t := time.NewTimer(time.Until(at))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-look:
	case <-timer:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}
