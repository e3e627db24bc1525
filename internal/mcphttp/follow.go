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

// followOpened follows all servers of a merged endpoint at which a session has replicas of
// its own, from their first use on.
func (f *Front) followOpened(ctx context.Context, s *session, u *updates, after eventID) {
	look, cancel := f.cfg.Sessions.Changed()
	defer cancel()
	var readers sync.WaitGroup
	defer readers.Wait()
	following := make(map[fleet.ServerName]bool)
	for {
		for _, server := range f.cfg.Sessions.Opened(s.id()) {
			if following[server] {
				continue
			}
			if len(following) == 0 {
				readers.Go(func() { f.keepUsed(ctx, s) })
			}
			following[server] = true
			readers.Go(func() { f.follow(ctx, s, server, u, after) })
		}
		select {
		case <-look:
		case <-ctx.Done():
			return
		}
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
	for ctx.Err() == nil && f.streams.awaitFirst(ctx, s.uid, u) {
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
					m.Params = tasks.params(m.Method, m.Params)
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
