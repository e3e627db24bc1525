package mcphttp

import (
	"net/http"
	"strconv"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

var emptyObject = []byte("{}")

// listKinds are the lists of an endpoint: the member of the result that has the items,
// the capability that a server with such a list has, and the notification of a change.
var listKinds = map[string]struct{ key, capability, changed string }{
	mcp.MethodToolsList:         {"tools", "tools", mcp.MethodToolsListChanged},
	mcp.MethodPromptsList:       {"prompts", "prompts", mcp.MethodPromptsListChanged},
	mcp.MethodResourcesList:     {"resources", "resources", mcp.MethodResourcesListChanged},
	mcp.MethodResourceTemplates: {"resourceTemplates", "resources", mcp.MethodResourcesListChanged},
}

// isList reports whether a method asks for a list.
func isList(method string) bool { return listKinds[method].key != "" }

// listOf returns the list that a request asks for. It is never paged, so that no cursor
// is valid.
func listOf(view View, m *message, modern bool) (*fleet.ViewList, error) {
	list := view.List(m.method, modern)
	if list == nil {
		return nil, unknownMethod(m.method)
	}
	switch cursor, err := mcp.Cursor(m.params); {
	case err != nil:
		return nil, invalidParams("Invalid params: %v", err)
	case cursor != "":
		return nil, invalidParams("Invalid params: unknown cursor %s", web.Shorten(cursor))
	}
	return list, nil
}

// renderLegacyList returns the result of a list method as a legacy client expects it.
func renderLegacyList(method string, list *fleet.ViewList) []byte {
	b := append([]byte(`{"`), listKinds[method].key...)
	b = append(append(b, `":`...), list.Items...)
	if list.Meta != nil {
		b = append(append(append(b, `,"_meta":{`...), list.Meta...), '}')
	}
	return append(b, '}')
}

// renderModernList returns the result of a list method as a modern client expects it.
func renderModernList(method string, list *fleet.ViewList, serverInfo []byte) []byte {
	b := append([]byte(`{"resultType":"complete","`), listKinds[method].key...)
	b = append(append(b, `":`...), list.Items...)
	b = strconv.AppendInt(append(b, `,"ttlMs":`...), list.Hint.TTLMs, 10)
	b = mcp.AppendString(append(b, `,"cacheScope":`...), scopeText(list.Hint.Scope))
	if serverInfo != nil || list.Meta != nil {
		b = append(b, `,"_meta":{`...)
		if serverInfo != nil {
			b = append(mcp.AppendString(b, mcp.MetaServerInfo), ':')
			b = append(b, serverInfo...)
			if list.Meta != nil {
				b = append(b, ',')
			}
		}
		b = append(append(b, list.Meta...), '}')
	}
	return append(b, '}')
}

// serverInfo returns the serverInfo of an endpoint.
func (f *Front) serverInfo(info *fleet.ViewInfo) []byte {
	if info.ServerInfo == nil {
		return f.self
	}
	return info.ServerInfo
}

// scopeText returns the scope of a cacheable result. Without one it is private.
func scopeText(scope string) string {
	if scope == mcp.ScopePublic {
		return scope
	}
	return mcp.ScopePrivate
}

// has reports whether capabilities have the one at a path, and it is not null or false.
func has(capabilities []byte, path ...string) bool {
	raw := capabilities
	for _, name := range path {
		found, err := mcp.Fields(raw, name)
		if err != nil {
			return false
		}
		raw = found[0]
	}
	return raw != nil && string(raw) != "false" && !mcp.IsNull(raw)
}

// unknownMethod is the error of a method that an endpoint does not have. To a legacy client
// a status of 404 would say that its session has ended. The modern era wants one, see
// modernOutcome.
func unknownMethod(method string) error {
	return failuref(http.StatusOK, mcp.CodeMethodNotFound, "Method not found: %.100s", method)
}
