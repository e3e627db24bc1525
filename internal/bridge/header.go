package bridge

import (
	"net/http"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

const (
	headerSession   = "Mcp-Session-Id"
	headerLastEvent = "Last-Event-Id"
)

// baseHeader returns the header of every POST.
func baseHeader() http.Header {
	return http.Header{
		"Content-Type": {"application/json"},
		"Accept":       {"application/json, text/event-stream"},
	}
}

// modernHeader returns the header of a modern message, as Streamable HTTP of
// 2026-07-28 wants it. params are those of the tool that the message calls.
func modernHeader(m *message, params []mcp.ParamHeader) http.Header {
	h := baseHeader()
	h.Set(mcp.HeaderVersion, m.version)
	h.Set(mcp.HeaderMethod, mcp.EncodeHeader(m.method))
	switch m.method {
	case mcp.MethodToolsCall, mcp.MethodPromptsGet, mcp.MethodResourcesRead, mcp.MethodTaskGet, mcp.MethodTaskUpdate, mcp.MethodTaskCancel:
		if name, _, err := mcp.Target(m.method, m.env.Params); err == nil {
			h.Set(mcp.HeaderName, mcp.EncodeHeader(name))
		}
	}
	if len(params) == 0 {
		return h
	}
	arguments := within(m.env.Params, "arguments")
	for _, p := range params {
		if value, ok := p.Value(arguments); ok {
			h.Set(mcp.HeaderParam+p.Name, value)
		}
	}
	return h
}
