package mcphttp

import (
	"context"
	"errors"
	"sync"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// setLevel keeps the level of a session's log messages.
func (f *Front) setLevel(s *session, capabilities []byte, m *message) outcome {
	if !has(capabilities, "logging") {
		return outcome{err: unknownMethod(m.method)}
	}
	found, err := mcp.Fields(m.params, "level")
	if err != nil {
		return outcome{err: invalidParams("Invalid params: %v", err)}
	}
	level, err := mcp.String(found[0])
	if err != nil || !mcp.IsLogLevel(level) {
		return outcome{err: invalidParams("Invalid params: unknown log level %s", shorten(found[0]))}
	}
	f.cfg.Sessions.SetLevel(s.id(), s.until(), level)
	return outcome{result: emptyObject}
}

// subscribe keeps, or ends, a session's subscription of a resource.
func (f *Front) subscribe(s *session, view View, m *message) outcome {
	if !has(view.Info().Capabilities, "resources", "subscribe") {
		return outcome{err: unknownMethod(m.method)}
	}
	at, err := f.subscriptionOf(view, m)
	if err != nil {
		return outcome{err: err}
	}
	subscription := fleet.Subscription{Server: at.Server, URI: at.Name}
	if m.method == mcp.MethodUnsubscribe {
		f.cfg.Sessions.Unsubscribe(s.id(), s.until(), subscription)
	} else if !f.cfg.Sessions.Subscribe(s.id(), s.until(), subscription) {
		return outcome{err: invalidParams("Invalid params: the session has too many subscriptions")}
	}
	return outcome{result: emptyObject}
}

// subscriptionOf returns the resource that a request subscribes to, or no longer does.
func (f *Front) subscriptionOf(view View, m *message) (fleet.Destination, error) {
	uri, _, err := mcp.Target(m.method, m.params)
	if err != nil {
		return fleet.Destination{}, invalidParams("Invalid params: %v", err)
	}
	found, err := view.Resources(uri)
	if err != nil {
		return fleet.Destination{}, err
	}
	return found[0], nil
}

// passSetting has a level or a subscription, which is kept, take effect where the session
// does not have a lone server to itself: at the replicas of its own that it has, and, for
// a subscription of a shared server, at those of that server. It returns the answer, which
// is out unless a server refuses a subscription.
func (f *Front) passSetting(p *reply, q *query, s *session, view View, m *message, out outcome) outcome {
	ctx := p.r.Context()
	if m.method == mcp.MethodSetLevel {
		var asking sync.WaitGroup
		for _, dest := range f.ownReplicas(s, view) {
			if at, err := f.cfg.Offers.View(fleet.Scope(dest.Server)); err == nil && has(at.Info().Capabilities, "logging") {
				asking.Go(func() { f.setAtOwn(ctx, q, s, dest.Server, m.method, m.params) })
			}
		}
		asking.Wait()
		return out
	}
	at, err := f.subscriptionOf(view, m)
	if err != nil {
		return out
	}
	if !ownsTasks(at) {
		if m.method == mcp.MethodSubscribe {
			f.awaitSubscription(ctx, s, at)
		}
		return out
	}
	for _, dest := range f.ownReplicas(s, view) {
		if dest.Server != at.Server {
			continue
		}
		params, err := mcp.WithTarget(m.method, m.params, at.Name)
		if err != nil {
			return outcome{err: invalidParams("Invalid params: %v", err)}
		}
		if refusal := f.setAtOwn(ctx, q, s, dest.Server, m.method, params); refusal != nil {
			return outcome{refusal: refusal}
		}
	}
	return out
}

// ownReplicas returns the servers of an endpoint at which a session has, or had, a replica
// to itself.
func (f *Front) ownReplicas(s *session, view View) (all []fleet.Destination) {
	for _, server := range f.cfg.Sessions.Opened(s.id()) {
		if dest, offers := view.At(server); offers && ownsTasks(dest) {
			all = append(all, dest)
		}
	}
	return all
}

// setAtOwn sends a setting to a replica of a session, and returns the server's refusal. A
// replica that is lost needs none: the one that takes its place begins with it.
func (f *Front) setAtOwn(ctx context.Context, q *query, s *session, server fleet.ServerName, method string, params []byte) (refusal []byte) {
	res, err := f.cfg.Router.Call(ctx, fleet.Call{
		Server: server, Method: method, Params: mcp.OneLine(append([]byte(nil), params...)), Caller: fleet.Anonymous, Session: s.id(), Timeout: q.timeout,
	})
	if err != nil && !errors.Is(err, fleet.ErrSessionLost) {
		f.log.Info("setting of a session not passed on", "server", server, "method", method, "err", err)
	}
	if res.Stream != nil {
		_ = res.Stream.Close()
	}
	return res.Error
}

// awaitSubscription waits until a change of a resource that a session subscribes to would
// be heard of.
func (f *Front) awaitSubscription(ctx context.Context, s *session, at fleet.Destination) {
	if u := f.streams.first(s.uid); u != nil {
		f.awaitEffect(ctx, f.subscribeAgain(s, u))
		return
	}
	// The session's stream is at another controller, which has been told. Workers keep
	// what it may miss until it has told them.
	set, cancel := f.cfg.News.Listen(func(fleet.News) {})
	defer cancel()
	f.awaitEffect(ctx, set(map[fleet.ServerName][]string{at.Server: {at.Name}}))
}
