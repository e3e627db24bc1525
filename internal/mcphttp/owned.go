package mcphttp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// maxOpenings is how often a request that found its session without a replica has it
// given one.
const maxOpenings = 3

// openTimeout bounds how long a session waits for a replica, unless its client waits for
// less.
const openTimeout = time.Minute

// owned remembers which replicas sessions have. The zero value is ready.
type owned struct {
	mu  sync.Mutex
	all map[ownedKey]fleet.SessionGiven
}

type ownedKey struct {
	session fleet.SessionID
	server  fleet.ServerName
}

// maxOwned bounds what is remembered. Anything of it can be asked for again.
const maxOwned = 10_000

func (o *owned) get(key ownedKey) (fleet.SessionGiven, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	given, known := o.all[key]
	return given, known
}

func (o *owned) put(key ownedKey, given fleet.SessionGiven) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.all == nil || len(o.all) >= maxOwned {
		o.all = make(map[ownedKey]fleet.SessionGiven)
	}
	o.all[key] = given
}

func (o *owned) forget(key ownedKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.all, key)
}

// give gives a session a replica of the server, or returns the one that it has.
func (f *Front) give(ctx context.Context, s *session, server fleet.ServerName, timeout time.Duration) (fleet.SessionGiven, error) {
	params, err := s.params()
	if err != nil {
		return fleet.SessionGiven{}, fmt.Errorf("session: %w", err)
	}
	request := fleet.SessionRequest{Server: server, Session: s.id(), Until: s.until(), Caller: fleet.Anonymous, Initialize: mcp.OneLine(params)}
	given, err := f.openSession(ctx, request, timeout)
	if err != nil {
		return given, err
	}
	if given.Healed {
		f.metrics.healed.Inc()
	}
	return given, nil
}

// openSession asks for the replica of a session.
func (f *Front) openSession(ctx context.Context, request fleet.SessionRequest, timeout time.Duration) (fleet.SessionGiven, error) {
	if timeout <= 0 || timeout > openTimeout {
		timeout = openTimeout
	}
	bounded, cancel := context.WithTimeoutCause(ctx, timeout, fleet.ErrTimeout)
	defer cancel()
	given, err := f.cfg.Sessions.Open(bounded, request)
	if err != nil {
		if errors.Is(err, fleet.ErrSessionLost) {
			return given, errSession
		}
		return given, err
	}
	if given.Error == nil {
		known := given
		known.Healed = false // that is said once
		f.owned.put(ownedKey{request.Session, request.Server}, known)
	}
	return given, nil
}

// sendOwned sends a request of a session to the replica that belongs to it. A session
// that has none is given one, also if it has lost it. A request that may run twice, and was
// at a replica that is lost, is sent again once: should it have ended its replica, it ends
// no more than one other, which is also its own session's.
func (f *Front) sendOwned(ctx context.Context, p *reply, q *query, s *session, m *message, dest fleet.Destination, c fleet.Call) (out outcome) {
	c.Session = s.id()
	pass := c.Message
	tasks := f.tasksOfSession(q.scope, dest)
	c.Message = func(m fleet.Message) {
		m.Params = tasks.params(m.Kind, m.Method, m.Params)
		if m.Kind == fleet.MessageRequest {
			m.ID = askID(q.scope, dest.Server, m.ID)
		}
		pass(m)
	}
	p.start()
	repeat := dest.Idempotent || repeatable[m.method]
	for n := 0; ; n++ {
		out = f.forward(ctx, p, q, dest, m, m.params, c)
		switch {
		case n == maxOpenings:
			return out
		case errors.Is(out.err, fleet.ErrSessionLost):
		case repeat && ctx.Err() == nil && errors.Is(out.err, fleet.ErrReplicaLost):
			repeat = false
		default:
			return out
		}
		var given fleet.SessionGiven
		var err error
		progressOf(p, m).during(ctx, waitsForOwn, func() { given, err = f.give(ctx, s, dest.Server, q.timeout) })
		switch {
		case err != nil:
			return outcome{err: causeAt(ctx, err)}
		case given.Error != nil:
			return outcome{refusal: given.Error}
		}
	}
}

// replicaOf returns the replica of a session.
func (f *Front) replicaOf(ctx context.Context, s *session, server fleet.ServerName) (fleet.SessionGiven, error) {
	if given, known := f.owned.get(ownedKey{s.id(), server}); known {
		return given, nil
	}
	return f.give(ctx, s, server, 0)
}

// sendToOwned passes a message of a client to the replica of its session.
func (f *Front) sendToOwned(ctx context.Context, s *session, server fleet.ServerName, message []byte) error {
	given, err := f.replicaOf(ctx, s, server)
	if err != nil {
		return err
	}
	err = f.cfg.Streams.SendToSession(ctx, s.id(), given.Replica, message)
	switch {
	case errors.Is(err, fleet.ErrNotAsked), errors.Is(err, fleet.ErrInvalid):
		return nil // nobody waits for it
	case errors.Is(err, fleet.ErrUnknownReplica):
		f.owned.forget(ownedKey{s.id(), server})
		return nil // what it was about went with the replica
	}
	return err
}

// usedEvery is how often a session with a GET stream is said to be used.
const usedEvery = 5 * time.Second

// keepUsed says that a session is used as long as its client holds a GET stream: many
// clients never begin another session.
func (f *Front) keepUsed(ctx context.Context, s *session) {
	for ctx.Err() == nil {
		f.cfg.Sessions.Touch(s.id(), s.until())
		pause(ctx, usedEvery)
	}
}

// pause waits, but not longer than ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// askedBy returns the server whose request an answer is for, and the server's own id of
// it. It reports false for requests of workers, which have ids of their own.
func (f *Front) askedBy(s *session, id []byte) (fleet.ServerName, []byte, bool) {
	view, err := f.cfg.Offers.View(s.scope)
	if err != nil {
		return "", nil, false
	}
	if only, ok := view.Only(); ok {
		return only.Server, id, only.PerSession && !only.Modern
	}
	text, err := mcp.String(id)
	if err != nil {
		return "", nil, false
	}
	server, own, found := strings.Cut(text, askMark)
	return fleet.ServerName(server), []byte(own), found && mcp.Valid([]byte(own)) == nil
}

// askMark divides server and id in the ids of requests where servers are merged. No id of
// a worker has it.
const askMark = "~"

// askID returns the id of a request of a server for a client of an endpoint.
func askID(scope fleet.Scope, server fleet.ServerName, own []byte) []byte {
	if scope.Server() != "" {
		return own
	}
	return mcp.AppendString(nil, string(server)+askMark+string(own))
}
