package mcphttp

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// These pauses keep a session whose replicas die at once from asking for others in a loop.
const minHealPause, maxHealPause = 100 * time.Millisecond, 5 * time.Second

// opened follows the servers of a merged endpoint at which a session has replicas of its
// own, from their first use on. Only its stream uses it.
type opened struct {
	front     *Front
	session   *session
	updates   *updates
	after     eventID
	readers   *sync.WaitGroup
	following map[fleet.ServerName]bool
}

// look follows the servers that are new.
func (o *opened) look(ctx context.Context) {
	for _, server := range o.front.cfg.Sessions.Opened(o.session.id()) {
		if o.following[server] {
			continue
		}
		if o.following == nil {
			o.following = make(map[fleet.ServerName]bool)
			o.readers.Go(func() { o.front.keepUsed(ctx, o.session) })
		}
		o.following[server] = true
		o.readers.Go(func() { o.front.follow(ctx, o.session, server, o.updates, o.after) })
	}
}

// follow adds the messages of a session's own stream at a server to a client's stream of
// events, as long as the session lives. A lost replica is replaced, by whichever controller,
// and the client is told that lists may have changed. Where servers are merged, one whose
// replica cannot be had is tried again later, because the others go on.
func (f *Front) follow(ctx context.Context, s *session, server fleet.ServerName, u *updates, after eventID) {
	merged := s.scope.Server() == ""
	tasks := f.tasksOfSession(s.scope, fleet.Destination{Server: server, PerSession: true})
	wait := minHealPause
	var last fleet.ReplicaID
	for ctx.Err() == nil && u.awaitFirst(ctx) {
		given, err := f.replicaOf(ctx, s, server)
		switch {
		case err != nil && merged:
			pause(ctx, maxHealPause)
			continue
		case err != nil:
			u.events.end()
			return
		}
		if given.Healed || last != "" && given.Replica != last {
			f.tellHealed(s, u)
		}
		last = given.Replica
		id := eventID{EventID: fleet.EventID{Life: f.cfg.Streams.LifeOf(given.Node), Stream: fleet.SessionStream(s.id(), server)}}
		if after.Life == id.Life && after.Stream == id.Stream {
			id.Seq = after.Seq
		}
		// A client that does not say what it has seen gets what nobody was sent yet.
		read := fleet.ReadRequest{Stream: id.Stream, Owner: string(s.id()), After: id.Seq, Unread: id.Seq == 0}
		err = f.cfg.Streams.ReadStream(ctx, id.Life, read, func(messages []fleet.Message) error {
			wait = minHealPause // it was found
			for i := range messages {
				id.Seq = messages[i].Seq
				after = id
				m := &messages[i]
				if merged {
					m = f.merged(s.scope, server, m)
					m.Params = tasks.params(m.Kind, m.Method, m.Params)
				}
				if !u.events.add(messageEvent(id.String(), m)) {
					return errSlow
				}
			}
			return nil
		})
		switch {
		case errors.Is(err, errSlow), errors.Is(err, fleet.ErrStreamTaken):
			u.events.end() // the client comes back
			return
		case errors.Is(err, fleet.ErrWorkerLost) && ctx.Err() == nil:
			pause(ctx, workerRetry)
		default:
			pause(ctx, wait)
			wait = min(2*wait, maxHealPause)
		}
		f.owned.forget(ownedKey{s.id(), server})
	}
}

// tellHealed tells a client that its session has a fresh replica, which may offer other
// things than the lost one did.
func (f *Front) tellHealed(s *session, u *updates) {
	view, err := f.cfg.Offers.View(s.scope)
	if err != nil {
		return
	}
	for _, method := range slices.Sorted(maps.Keys(newWatch(view, nil).announced())) {
		u.events.add(notification(method, nil))
	}
}

// merged returns a message of a server outside of calls as clients of a merged endpoint
// know it: with the ids of requests, and the URIs of resources, of that endpoint.
func (f *Front) merged(scope fleet.Scope, server fleet.ServerName, m *fleet.Message) *fleet.Message {
	told := *m
	switch m.Method {
	case mcp.MethodCancelled: // a request of the server
		if found, err := mcp.Fields(m.Params, "requestId"); err == nil && found[0] != nil {
			if params, err := mcp.Edit(m.Params, mcp.Set("requestId", askID(scope, server, found[0]))); err == nil {
				told.Params = params
			}
		}
	case mcp.MethodResourcesUpdated:
		view, err := f.cfg.Offers.View(scope)
		uri, _, wrong := mcp.Target(m.Method, m.Params)
		if err != nil || wrong != nil {
			break
		}
		if name := view.URI(server, uri); name != uri {
			if params, err := mcp.WithTarget(m.Method, m.Params, name); err == nil {
				told.Params = params
			}
		}
	}
	if m.Kind == fleet.MessageRequest {
		told.ID = askID(scope, server, m.ID)
	}
	return &told
}
