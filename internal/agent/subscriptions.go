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

	ready chan struct{} // closed once it has subscribed, or has ended

	// listeners.mu guards these.
	begun   bool   // ready is closed
	late    bool   // somebody has been told that it has, when it had not
	version uint64 // of what was wanted then
}

// subscribe keeps the replica subscribed to what controllers want until ctx ends. It
// returns the subscriptions, nil if the server tells of nothing.
func (r *replica) subscribe(ctx context.Context, s *session, server *stdio.Server) *subscriptions {
	sub := &subscriptions{r: r, conn: s.conn, held: map[string]time.Time{}, ready: make(chan struct{})}
	run := sub.run
	if server.Era == fleet.EraModern {
		all := mcp.Filter{ToolsListChanged: true, PromptsListChanged: true, ResourcesListChanged: true, Resources: []string{"any"}, Tasks: []string{"any"}}
		l := &listening{subscriptions: sub, protocol: server.Protocol, can: all.Honoured(server.Capabilities), acked: make(chan string, maxAcked)}
		if l.can.Empty() {
			return nil
		}
		r.listening.Store(l)
		run = l.run
	} else if !subscribable(server.Capabilities) {
		return nil
	}
	sub.begin()
	s.owned.Go(func() {
		defer sub.end()
		run(ctx)
	})
	return sub
}

// begin has controllers wait for the subscriptions, once there are some. end ends that.
func (s *subscriptions) begin() {
	ls := s.r.listeners
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.replicas == nil {
		ls.replicas = map[*subscriptions]struct{}{}
	}
	ls.replicas[s] = struct{}{}
}

func (s *subscriptions) end() {
	ls := s.r.listeners
	s.subscribed(0)
	ls.mu.Lock()
	defer ls.mu.Unlock()
	delete(ls.replicas, s)
}

// giveUp stops waiting for the first subscriptions.
func (s *subscriptions) giveUp() {
	s.r.listeners.mu.Lock()
	defer s.r.listeners.mu.Unlock()
	s.late = !s.begun
}

// awaitReady waits for the first subscriptions of a replica that starts.
func (s *subscriptions) awaitReady(ctx context.Context) {
	timer := time.NewTimer(subscribePatience)
	defer timer.Stop()
	select {
	case <-s.ready:
		return
	case <-timer.C:
	case <-ctx.Done():
	}
	s.giveUp()
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
		wanted, version := s.r.listeners.wanted(s.r.order.Server)
		wanted = slices.DeleteFunc(wanted, fleet.IsTaskURI) // the server tells of those by itself
		begin, end, next := s.update(wanted, time.Now())
		for _, uri := range begin {
			s.ask(ctx, mcp.MethodSubscribe, uri)
		}
		if s.subscribed(version) {
			for _, uri := range begin {
				s.tellUpdated(uri)
			}
		}
		for _, uri := range end {
			s.ask(ctx, mcp.MethodUnsubscribe, uri)
		}
		if !await(ctx, look, next) {
			return
		}
	}
}

// subscribed records that the replica is subscribed to what was wanted at a version. It
// reports whether that took so long that changes may have been missed.
func (s *subscriptions) subscribed(version uint64) (late bool) {
	ls := s.r.listeners
	ls.mu.Lock()
	defer ls.mu.Unlock()
	late, s.late = s.late, false
	if !s.begun {
		s.begun = true
		close(s.ready)
	}
	s.version = max(s.version, version)
	ls.lookAgain()
	return late
}

// tellUpdated says that a resource may have changed. Clients ask for the status of tasks.
func (s *subscriptions) tellUpdated(uri string) {
	if fleet.IsTaskURI(uri) {
		return
	}
	s.r.listeners.tell(fleet.News{Server: s.r.order.Server, Replica: s.r.order.ID, Method: mcp.MethodResourcesUpdated, Params: mcp.URIParams(uri)}, uri)
}

// ask sends one request. A server that refuses is not asked again while the wish lasts.
func (s *subscriptions) ask(ctx context.Context, method, uri string) {
	ctx, cancel := context.WithTimeout(ctx, subscribeTimeout)
	defer cancel()
	reply := s.conn.Request(ctx, method, mcp.URIParams(uri))
	defer reply.Release()
	if err := reply.Failure(); err != nil && ctx.Err() == nil {
		s.r.log.Warn("subscription refused", "method", method, "uri", uri, "err", err)
	}
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
