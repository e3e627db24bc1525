package agent

import "github.com/mcpfleet/mcpfleet/internal/mcp"

// isNews reports whether a notification of a server belongs to no call.
func isNews(method string) bool {
	switch method {
	case mcp.MethodToolsListChanged, mcp.MethodResourcesListChanged, mcp.MethodPromptsListChanged,
		mcp.MethodResourcesUpdated, mcp.MethodElicitComplete, mcp.MethodTaskStatus:
		return true
	}
	return false
}
