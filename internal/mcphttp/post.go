package mcphttp

import (
	"errors"
	"net/http"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// headerVersion is the header with the version of the protocol, in net/http's canonical
// form.
const headerVersion = "Mcp-Protocol-Version"

// message is one message that a client sent. Its parts are spans of the body.
type message struct {
	kind   mcp.Kind
	id     []byte // raw JSON
	method string
	params []byte // raw JSON; nil if there are none
	parts  mcp.Params
	meta   mcp.Meta
	target string       // what a request is about, once about has found it
	found  bool         // about has found it
	task   *taskRoute   // that it is about; nil if it is none, or one of the session's replica
	answer mcp.Envelope // of a response
}

// about returns what a request is about, see mcp.Target.
func (m *message) about() (target string, err error) {
	if !m.found {
		m.target, err = m.parts.Target()
		m.found = err == nil
	}
	return m.target, err
}

// servePost answers a message.
func (f *Front) servePost(w *web.Response, r *http.Request) error {
	body, err := w.ReadJSON(r)
	if err != nil {
		return err
	}
	defer body.Free()
	env, err := mcp.Scan(body.Bytes)
	if env.Kind == mcp.KindBatch && err == nil {
		return f.serveBatch(w, r, body.Bytes)
	}
	m, err := readMessage(env, err)
	if err != nil {
		return withID(err, m.id)
	}
	a := acceptsOf(r)
	if m.kind == mcp.KindRequest && !a.json && !a.events {
		return withID(errAccept, m.id)
	}
	version := r.Header[headerVersion]
	if m.meta.Version != nil || len(version) > 0 && !mcp.IsLegacy(version[0]) {
		return f.serveModern(w, r, &m, a)
	}
	return f.serveLegacy(w, r, &m, a)
}

// readMessage returns the message that an envelope holds, which was scanned with this
// error. Of a message with a fault it returns the id.
func readMessage(env mcp.Envelope, err error) (message, error) {
	m := message{kind: env.Kind, method: string(env.Method), params: env.Params, answer: env}
	if t := mcp.TypeOf(env.ID); t == "string" || t == "number" {
		m.id = env.ID
	}
	if err != nil {
		var syntax *mcp.SyntaxError
		if errors.As(err, &syntax) {
			return m, failuref(http.StatusBadRequest, mcp.CodeParseError, "Parse error: %v", err)
		}
		return m, failuref(http.StatusBadRequest, mcp.CodeInvalidRequest, "Invalid request: %v", err)
	}
	if m.kind == mcp.KindRequest || m.kind == mcp.KindNotification {
		if m.parts, m.meta, err = mcp.ReadParams(m.method, m.params); err != nil {
			return m, &failure{http.StatusBadRequest, *mcp.MetaFault(err)}
		}
	}
	return m, nil
}

// accepted answers a message that has no answer.
func accepted(w *web.Response) error {
	w.WriteHeader(http.StatusAccepted)
	return nil
}
