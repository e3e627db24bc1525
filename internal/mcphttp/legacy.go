package mcphttp

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"

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
		if err := f.take(r.Context(), s, m); err != nil {
			return err
		}
		return accepted(w)
	}
	p := newReply(w, r, m.id, a)
	return p.finish(f.answerLegacy(p, s, m))
}

// take takes a message of a legacy client that has no answer.
func (f *Front) take(ctx context.Context, s *session, m *message) error {
	switch {
	case m.kind == mcp.KindResponse, m.kind == mcp.KindErrorResponse:
		return f.takeAnswer(ctx, s, m)
	case m.method == mcp.MethodInitialized: // the worker has said so
	case m.method == mcp.MethodCancelled:
		f.cancelRequest(ctx, s, m.params)
	default:
		if to := f.hearers(s, m.method); len(to) > 0 {
			note := mcp.OneLine(mcp.AppendNotification(nil, m.method, m.params))
			var errs []error
			for _, server := range to {
				errs = append(errs, f.sendToOwned(ctx, s, server, note))
			}
			return errors.Join(errs...)
		}
		// The conversation with a shared replica is not this client's: it has asked
		// nothing of it, and what it says is for nobody.
		f.metrics.drop(droppedShared)
	}
	return nil
}

// hearers returns the servers whose replicas of their own get a notification of a session's
// client. Where servers are merged it is that of its roots, for which any may have asked, at
// all that the session has used. What else it says is about a request of one of them.
func (f *Front) hearers(s *session, method string) (servers []fleet.ServerName) {
	view, err := f.cfg.Offers.View(s.scope)
	if err != nil {
		return nil
	}
	if only, ok := view.Only(); ok {
		if only.PerSession && !only.Modern {
			servers = append(servers, only.Server)
		}
	} else if method == mcp.MethodRootsListChanged {
		for _, dest := range f.ownReplicas(s, view) {
			servers = append(servers, dest.Server)
		}
	}
	return servers
}

// maxReason bounds a client's reason for a cancellation that its server is told.
const maxReason = 1 << 10

// cancelRequest cancels the request that a notification of the session names.
func (f *Front) cancelRequest(ctx context.Context, s *session, params []byte) {
	found, err := mcp.Fields(params, "requestId", "reason")
	if err != nil || found[0] == nil {
		return
	}
	reason, err := mcp.String(found[1])
	if err != nil {
		reason = ""
	}
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "")
	}
	f.calls.cancel(callKey{s.uid, string(found[0])})
	f.cfg.Streams.CancelCalls(ctx, s.streamOf(found[0]), s.owner(), reason)
}

// takeAnswer passes on the answer to a request that a server, or its worker, sent to the
// client.
func (f *Front) takeAnswer(ctx context.Context, s *session, m *message) error {
	if server, id, ok := f.askedBy(s, m.id); ok {
		answer := mcp.AppendRawError(nil, id, m.answer.Error)
		if m.kind == mcp.KindResponse {
			answer = mcp.AppendResult(nil, id, f.ownTaskIDs(s.scope, m.answer.Result))
		}
		return f.sendToOwned(ctx, s, server, mcp.OneLine(answer))
	}
	text, err := mcp.String(m.id)
	if err != nil {
		return nil
	}
	id, err := fleet.ParseAskID(text)
	if err != nil {
		return nil // nobody here asked
	}
	a := fleet.Answer{Stream: id.Stream, Owner: s.owner(), N: id.N, Result: bytes.Clone(m.answer.Result), Error: bytes.Clone(m.answer.Error)}
	err = f.cfg.Streams.Answer(ctx, id.Life, a)
	if errors.Is(err, fleet.ErrNotAsked) || errors.Is(err, fleet.ErrUnknownStream) {
		return nil // too late
	}
	return err
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
		out := f.answerHere(s, view, m)
		if only, ok := view.Only(); !ok || !only.PerSession || only.Modern || out.err != nil && !isList(m.method) {
			if out.err == nil && !isList(m.method) {
				out = f.passSetting(p, q, s, view, m, out)
			}
			return out
		} // the session's replica answers, and its level and subscriptions are known, if it has to be replaced
	case mcp.ModernOnly(m.method):
		return outcome{err: unknownMethod(m.method)}
	}
	ctx := p.r.Context()
	if !p.piped { // the client may go away without cancelling
		ctx = context.WithoutCancel(ctx)
	}
	ctx, leave, done := f.calls.add(ctx, callKey{s.uid, string(m.id)})
	defer done()
	p.resume = &resumption{stream: s.streamOf(m.id), prime: !p.piped && s.version >= mcp.Version20251125}
	p.leave, p.leaving = leave, f.cfg.Leaving
	// A stream that begins before a worker has the call has no id to come back with. If the
	// controller dies then, official clients wait for ever, but they report a connection
	// that broke without an answer.
	p.wait = patient
	if !p.piped {
		defer context.AfterFunc(p.r.Context(), func() { p.goOn(ctx, cmp.Or(f.cfg.ResumeWindow, fleet.DefaultWindow)) })()
	}
	all, err := f.destinations(ctx, q, p, m, func(View) error { return nil })
	if err == nil {
		all, err = withoutOpenings(all, m, func() []fleet.ServerName { return f.cfg.Sessions.Opened(s.id()) })
	}
	if err != nil {
		err = cause(ctx, err)
		return outcome{err: err, unanswered: errors.Is(err, errCancelled)}
	}
	out := ask(all, func(dest fleet.Destination) outcome { return f.sendLegacy(ctx, p, q, s, m, dest) })
	out.unanswered = errors.Is(out.err, errCancelled)
	if errors.Is(context.Cause(ctx), errSession) {
		f.cfg.Streams.CancelCalls(context.WithoutCancel(ctx), p.resume.stream, s.owner(), "the session has ended") // it would run on for nobody
	}
	return out
}

// sendLegacy sends a request of a session to a destination. The call runs on if the
// client goes away, and its messages are kept for a while.
func (f *Front) sendLegacy(ctx context.Context, p *reply, q *query, s *session, m *message, dest fleet.Destination) outcome {
	p.from(originOf(q.scope, dest, m))
	window := f.cfg.ResumeWindow
	if p.piped {
		window = pipedWindow
	}
	c := fleet.Call{
		NoMeta: !dest.Modern && !m.parts.HasMeta(),
		Stream: fleet.StreamRequest{ID: p.resume.stream, Owner: s.owner(), Window: window, Keep: !p.accepts.json},
		Sent:   p.sent,
		Message: func(m fleet.Message) {
			if !p.message(m) {
				f.metrics.drop(droppedSlow)
			}
		},
	}
	switch {
	case dest.Modern:
	case dest.PerSession:
		return f.sendOwned(ctx, p, q, s, m, dest, c)
	default:
		return f.forward(ctx, p, q, dest, m, m.params, c)
	}
	params, err := f.modernParams(s, m.params)
	if err != nil {
		return outcome{err: err}
	}
	c.Ask, c.Logs = p.accepts.events, true
	out := f.forward(ctx, p, q, dest, m, params, c)
	switch {
	case out.refusal != nil:
		out.refusal = mcp.ErrorToLegacy(m.method, out.refusal)
	case out.result != nil && mcp.ResultType(out.result) == mcp.ResultInputRequired:
		out = outcome{err: errCannotAsk}
	}
	return out
}

// modernParams returns the params of a request of a session as a modern server expects
// them. They ask for log messages.
func (f *Front) modernParams(s *session, params []byte) ([]byte, error) {
	client, err := s.client()
	if err != nil {
		return nil, err
	}
	client.LogLevel = cmp.Or(f.cfg.Sessions.Level(s.id()), defaultLevel)
	if params, err = mcp.ParamsToModern(params, mcp.LatestModern, client); err != nil {
		return nil, invalidParams("Invalid params: %v", err)
	}
	return params, nil
}

// defaultLevel is the level of log messages for clients that have not set one. The legacy
// era leaves it to the server which ones they get.
const defaultLevel = "info"

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

// serveDelete ends a session.
func (f *Front) serveDelete(w *web.Response, r *http.Request) error {
	if version := r.Header.Get(headerVersion); r.Header.Get(headerSession) == "" || version != "" && !mcp.IsLegacy(version) {
		w.Header().Set("Allow", http.MethodPost)
		return errNoSession
	}
	s, err := f.open(r)
	if err != nil {
		return err
	}
	f.cfg.Sessions.End(s.id(), s.until())
	f.metrics.ended.Inc()
	w.WriteHeader(http.StatusNoContent)
	return nil
}
