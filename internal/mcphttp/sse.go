package mcphttp

import (
	"context"
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// The deprecated HTTP+SSE transport of the version 2024-11-05. A client opens a stream with
// GET, is told where to send its messages, and gets everything on the stream.

// pipePurpose is that of the tokens which name the streams of the HTTP+SSE transport.
const pipePurpose = "sse"

// pipeParam is the parameter of the URL that messages are sent to.
const pipeParam = "stream"

// sseRoutes returns the routes of the HTTP+SSE transport. They say so if it is not offered.
func (f *Front) sseRoutes() []web.Route {
	get, post := f.servePipe, f.servePiped
	if !f.cfg.LegacySSE {
		get, post = noSSE, noSSE
	}
	var routes []web.Route
	for _, pattern := range [...]string{"/sse", "/{server}/sse", "/g/{gateway}/sse"} {
		for _, route := range [...]web.Route{web.Get(pattern, web.Call, get), web.Post(pattern, web.Call, post)} {
			route.Errors, route.Hidden = errorBody, !f.cfg.LegacySSE
			routes = append(routes, route)
		}
	}
	return routes
}

// noSSE answers requests of a transport that is not offered.
func noSSE(w *web.Response, r *http.Request) error {
	if r.Method == http.MethodPost {
		return w.RefuseBody(errNoSSE)
	}
	return errNoSSE
}

// servePipe serves the stream of a client of the HTTP+SSE transport.
func (f *Front) servePipe(w *web.Response, r *http.Request) error {
	scope := scopeOf(r)
	if !acceptsOf(r).events {
		return errAcceptEvents
	}
	if err := f.exists(r.Context(), scope); err != nil { // anything else is a matter of initialize
		return err
	}
	if r.Method == http.MethodHead {
		w.Begin(http.StatusOK, typeEvent, -1)
		return nil
	}
	p := f.newPipe(r.Context(), w, scope)
	token, err := f.cfg.Sealer.Seal(pipePurpose, pipeName{f.cfg.Self, p.id, scope}.encode())
	if err != nil {
		f.log.Warn("stream not opened: its address cannot be sealed", "err", err)
		return errUnavailable
	}
	f.metrics.pipes.Inc()
	defer f.metrics.pipes.Dec()
	f.pipes.add(p)
	// Tokens have no characters that URLs escape.
	p.events.put(event{kind: "endpoint", retry: true, keep: true, head: []byte(r.URL.EscapedPath() + "?" + pipeParam + "=" + token)})
	if s := f.resumedSession(r, scope); s != nil {
		p.begin(s)()
	}
	err = p.events.run(source{gone: r.Context().Done(), leaving: f.cfg.Leaving, onLeave: p.leave, stay: true})
	f.pipes.remove(p.id)
	p.close()
	return err
}

// resumedSession returns the session of a client whose stream broke, nil if there is none:
// its id is the only event id of the stream.
func (f *Front) resumedSession(r *http.Request, scope fleet.Scope) *session {
	token := r.Header.Get(headerLastEvent)
	if token == "" {
		return nil
	}
	s, err := f.openID(r.Context(), token, scope)
	if err != nil {
		return nil // it has to initialize
	}
	return s
}

// servePiped takes a message of a client of the HTTP+SSE transport. Its answer goes to the
// client's stream, which another controller may have.
func (f *Front) servePiped(w *web.Response, r *http.Request) error {
	token := r.URL.Query().Get(pipeParam)
	if token == "" { // a client of Streamable HTTP tries this first, and then GET
		w.Header().Set("Allow", "GET, HEAD")
		return w.RefuseBody(errNoPipe)
	}
	body, err := w.ReadJSON(r)
	if err != nil {
		return err
	}
	raw := body.Keep() // the message outlives its request
	m, err := readMessage(mcp.Scan(raw))
	if err == nil && m.kind == mcp.KindBatch {
		err = errPipedBatch
	}
	if err != nil {
		return withID(err, m.id)
	}
	return withID(f.pipe(w, r, token, &m, raw), m.id)
}

// pipe takes a message for the stream that a token names.
func (f *Front) pipe(w *web.Response, r *http.Request, token string, m *message, raw []byte) error {
	name, err := f.openPipeName(r.Context(), token)
	switch {
	case err != nil:
		return err
	case name.scope != scopeOf(r):
		return errPipe
	case name.life != f.cfg.Self:
		return f.relay(w, r, name.life, raw)
	}
	p := f.pipes.get(name.id)
	if p == nil {
		return errPipe
	}
	f.metrics.message(eraLegacy, m)
	if m.kind == mcp.KindRequest {
		if err := p.run(w, r, m, int64(len(raw))); err != nil {
			return err
		}
		return accepted(w)
	}
	s, err := p.session()
	if err == nil {
		err = f.take(r.Context(), s, m)
	}
	if err != nil {
		return err
	}
	return accepted(w)
}

// pipeName is what the token of a stream has.
type pipeName struct {
	life  fleet.LifeID // of its controller
	id    pipeID
	scope fleet.Scope
}

func (n pipeName) encode() []byte {
	return []byte(hex.EncodeToString(n.id[:]) + "\n" + string(n.life) + "\n" + string(n.scope))
}

// openPipeName opens the token of a stream. Its error is the answer.
func (f *Front) openPipeName(ctx context.Context, token string) (n pipeName, err error) {
	text, err := f.unseal(ctx, pipePurpose, token, errPipe)
	if err != nil {
		return n, err
	}
	parts := strings.SplitN(string(text), "\n", 3)
	if len(parts) != 3 {
		return n, errPipe
	}
	if id, err := hex.DecodeString(parts[0]); err != nil || copy(n.id[:], id) != len(n.id) {
		return n, errPipe
	}
	n.life, n.scope = fleet.LifeID(parts[1]), fleet.Scope(parts[2])
	return n, nil
}

var (
	errNoSSE = failuref(http.StatusNotFound, mcp.CodeInvalidRequest,
		"the deprecated HTTP+SSE transport is not offered: use the endpoint that ends in /mcp instead of /sse, or start the controllers with --legacy-sse")
	errNoPipe = &web.Error{
		Status: http.StatusMethodNotAllowed, Code: api.CodeMethodNotAllowed,
		Detail: "this is the deprecated HTTP+SSE transport: open a stream with GET, which says where to POST messages; Streamable HTTP is at the endpoint that ends in /mcp",
	}
	errPipe = &web.Error{
		Status: http.StatusNotFound, Code: nameSessionNotFound,
		Detail: "the stream has ended, or its controller has: open another one with GET",
	}
	errPipedBatch = failuref(http.StatusBadRequest, mcp.CodeInvalidRequest, "Invalid request: the HTTP+SSE transport has no batches")
	errNotBegun   = failuref(http.StatusBadRequest, mcp.CodeInvalidRequest, "Invalid request: a session begins with initialize")
	errBegun      = failuref(http.StatusBadRequest, mcp.CodeInvalidRequest, "Invalid request: the session has begun already")
	errPipeFull   = &web.Error{
		Status: http.StatusServiceUnavailable, Code: api.CodeOverloaded, Detail: "too many requests of this stream, or of all of them, wait for their answers",
	}
)
