package mcphttp

import (
	"context"
	"net/http"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// serveLegacy answers a message of a client of the legacy era.
func (f *Front) serveLegacy(w *web.Response, r *http.Request, m *message, a accepts) error {
	f.metrics.message(eraLegacy, m)
	if m.kind == mcp.KindRequest && m.method == mcp.MethodInitialize {
		return withID(f.initialize(w, r, m, a), m.id)
	}
	s, err := f.open(r)
	if err != nil {
		return withID(err, m.id)
	}
	if m.kind != mcp.KindRequest {
		f.take(s, m)
		return accepted(w)
	}
	p := newReply(w, r, m.id, a)
	return p.finish(f.answerLegacy(p, s, m))
}

// take takes a message of a legacy client that has no answer.
func (f *Front) take(s *session, m *message) {
	switch m.method {
	case mcp.MethodCancelled:
		if found, err := mcp.Fields(m.params, "requestId"); err == nil && found[0] != nil {
			f.calls.cancel(callKey{s.uid, string(found[0])})
		}
	case mcp.MethodInitialized:
	default:
		// The conversation with a shared replica is not this client's: it has asked
		// nothing of it, and what it says is for nobody.
		f.metrics.drop(droppedShared)
	}
}

// answerLegacy answers a request of a session.
func (f *Front) answerLegacy(p *reply, s *session, m *message) outcome {
	q, err := newQuery(p.r)
	if err != nil {
		return outcome{err: err}
	}
	switch {
	case m.method == mcp.MethodPing:
		return outcome{result: emptyObject}
	case m.method == mcp.MethodSetLevel, m.method == mcp.MethodSubscribe, m.method == mcp.MethodUnsubscribe, isList(m.method):
		view, err := f.view(p.r.Context(), q)
		if err != nil {
			return outcome{err: err}
		}
		return f.answerHere(s, view, m)
	case mcp.ModernOnly(m.method):
		return outcome{err: unknownMethod(m.method)}
	}
	all, err := f.destinations(p.r.Context(), q, m, func(View) error { return nil })
	if err != nil {
		return outcome{err: err}
	}
	ctx, done := f.calls.add(p.r.Context(), callKey{s.uid, string(m.id)})
	defer done()
	return ask(all, func(dest fleet.Destination) outcome { return f.sendLegacy(ctx, p, q, s, m, dest) })
}

// sendLegacy sends a request of a session to a destination.
func (f *Front) sendLegacy(ctx context.Context, p *reply, q *query, s *session, m *message, dest fleet.Destination) outcome {
	if !dest.Modern {
		return f.forward(ctx, p, q, dest, m, m.params)
	}
	client, err := s.client()
	if err != nil {
		return outcome{err: err}
	}
	client.LogLevel = f.sessions.level(s.uid)
	params, err := mcp.ParamsToModern(m.params, mcp.LatestModern, client)
	if err != nil {
		return outcome{err: invalidParams("Invalid params: %v", err)}
	}
	q.logs = client.LogLevel != ""
	out := f.forward(ctx, p, q, dest, m, params)
	if out.refusal != nil {
		out.refusal = mcp.ErrorToLegacy(m.method, out.refusal)
	}
	return out
}

// answerHere answers a request of a legacy client that needs no replica.
func (f *Front) answerHere(s *session, view View, m *message) outcome {
	info := view.Info()
	switch m.method {
	case mcp.MethodSetLevel:
		return f.setLevel(s, info.Capabilities, m)
	case mcp.MethodSubscribe, mcp.MethodUnsubscribe:
		return f.subscribe(s, view, m)
	}
	list, err := listOf(view, m, false)
	if err != nil {
		return outcome{err: err}
	}
	return outcome{result: renderLegacyList(m.method, list)}
}

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
	f.sessions.setLevel(s.uid, level)
	return outcome{result: emptyObject}
}

// subscribe keeps, or ends, a session's subscription of a resource.
func (f *Front) subscribe(s *session, view View, m *message) outcome {
	if !has(view.Info().Capabilities, "resources", "subscribe") {
		return outcome{err: unknownMethod(m.method)}
	}
	uri, _, err := mcp.Target(m.method, m.params)
	if err != nil {
		return outcome{err: invalidParams("Invalid params: %v", err)}
	}
	if m.method == mcp.MethodUnsubscribe {
		f.sessions.unsubscribe(s.uid, uri)
		return outcome{result: emptyObject}
	}
	if _, err := view.Resources(uri); err != nil {
		return outcome{err: err}
	}
	if !f.sessions.subscribe(s.uid, uri) {
		return outcome{err: invalidParams("Invalid params: a session has at most %d subscriptions", maxSubscriptions)}
	}
	return outcome{result: emptyObject}
}

// serveDelete ends a session.
func (f *Front) serveDelete(w *web.Response, r *http.Request) error {
	if r.Header.Get(headerSession) == "" {
		w.Header().Set("Allow", http.MethodPost)
		return errNoSession
	}
	s, err := f.open(r)
	if err != nil {
		return err
	}
	f.sessions.end(s.uid)
	f.calls.cancelAll(s.uid)
	f.metrics.ended.Inc()
	w.WriteHeader(http.StatusNoContent)
	return nil
}
