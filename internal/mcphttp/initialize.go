package mcphttp

import (
	"net/http"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// initialize begins a session. All that is known of it afterwards is sealed in its id.
func (f *Front) initialize(w *web.Response, r *http.Request, m *message, a accepts) error {
	in, err := mcp.ParseInitializeParams(m.params)
	if err != nil {
		return invalidParams("Invalid params: %v", err)
	}
	if len(m.params) > maxParams {
		return invalidParams("Invalid params: those of initialize are longer than %d bytes", maxParams)
	}
	q, err := newQuery(r)
	if err != nil {
		return err
	}
	view, err := f.view(r.Context(), q)
	if err != nil {
		return err
	}
	info := view.Info()
	s, err := newSession(q.scope, mcp.Negotiate(in.ProtocolVersion, info.Protocol), m.params)
	if err != nil {
		return err
	}
	token, err := f.seal(s)
	if err != nil {
		return err
	}
	result := (&mcp.InitializeResult{
		ProtocolVersion: s.version, Capabilities: info.Capabilities, ServerInfo: f.serverInfo(info), Instructions: info.Instructions,
	}).Append(nil)
	w.Header()[headerSession] = []string{token}
	f.metrics.opened.Inc()
	return newReply(w, r, m.id, a).finish(outcome{result: result})
}
