package mcphttp

import (
	"net/http"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// initialize begins a session. All that is known of it afterwards is sealed in its id.
func (f *Front) initialize(w *web.Response, r *http.Request, m *message, a accepts) error {
	q, s, view, err := f.begin(r, m)
	if err != nil {
		return err
	}
	token, err := f.seal(s)
	if err != nil {
		return err
	}
	w.Header()[headerSession] = []string{token}
	p := newReply(w, r, m.id, a)
	out := f.initialized(p, q, s, view)
	if out.err != nil || out.refusal != nil {
		delete(w.Header(), headerSession)
	} else {
		f.metrics.opened.Inc()
	}
	return p.finish(out)
}

// begin returns the session that a client asks for, and what its endpoint offers.
func (f *Front) begin(r *http.Request, m *message) (*query, *session, View, error) {
	in, err := mcp.ParseInitializeParams(m.params)
	if err != nil {
		return nil, nil, nil, invalidParams("Invalid params: %v", err)
	}
	if len(m.params) > maxParams {
		return nil, nil, nil, invalidParams("Invalid params: those of initialize are longer than %d bytes", maxParams)
	}
	q, err := newQuery(r)
	if err != nil {
		return nil, nil, nil, err
	}
	view, err := f.view(r.Context(), q)
	if err != nil {
		return nil, nil, nil, err
	}
	s, err := newSession(q.scope, mcp.Negotiate(in.ProtocolVersion, view.Info().Protocol), m.params)
	return q, s, view, err
}

// initialized returns the answer to initialize: that of the session's own replica, or
// what is known of the endpoint.
func (f *Front) initialized(p *reply, q *query, s *session, view View) outcome {
	if only, ok := view.Only(); ok && only.PerSession && !only.Modern {
		p.start()
		given, err := f.give(p.r.Context(), s, only.Server, q.timeout)
		switch {
		case err != nil:
			return outcome{err: cause(p.r.Context(), err)}
		case given.Error != nil:
			return outcome{refusal: given.Error}
		}
		return outcome{result: given.Result}
	}
	info := view.Info()
	return outcome{result: (&mcp.InitializeResult{
		ProtocolVersion: s.version, Capabilities: legacyCapabilities(info), ServerInfo: f.serverInfo(info), Instructions: info.Instructions,
	}).Append(nil)}
}

// legacyCapabilities returns the capabilities of an endpoint as a legacy client sees them.
func legacyCapabilities(info *fleet.ViewInfo) []byte {
	if info.Modern {
		return mcp.WithoutTasks(info.Capabilities)
	}
	return mcp.WithoutTasksExtension(info.Capabilities)
}
