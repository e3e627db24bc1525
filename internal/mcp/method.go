package mcp

// The methods of both eras.
const (
	MethodToolsList         = "tools/list"
	MethodToolsCall         = "tools/call"
	MethodResourcesList     = "resources/list"
	MethodResourceTemplates = "resources/templates/list"
	MethodResourcesRead     = "resources/read"
	MethodPromptsList       = "prompts/list"
	MethodPromptsGet        = "prompts/get"
	MethodComplete          = "completion/complete"

	MethodCancelled            = "notifications/cancelled"
	MethodProgress             = "notifications/progress"
	MethodMessage              = "notifications/message"
	MethodToolsListChanged     = "notifications/tools/list_changed"
	MethodResourcesListChanged = "notifications/resources/list_changed"
	MethodPromptsListChanged   = "notifications/prompts/list_changed"
	MethodResourcesUpdated     = "notifications/resources/updated"
)

// The methods of requests to a client. Legacy servers send them, modern ones put them into a result.
const (
	MethodElicit        = "elicitation/create"
	MethodCreateMessage = "sampling/createMessage"
	MethodRootsList     = "roots/list"
)

// The methods of the legacy era alone.
const (
	MethodInitialize       = "initialize"
	MethodInitialized      = "notifications/initialized"
	MethodPing             = "ping"
	MethodSetLevel         = "logging/setLevel"
	MethodSubscribe        = "resources/subscribe"
	MethodUnsubscribe      = "resources/unsubscribe"
	MethodRootsListChanged = "notifications/roots/list_changed"
	MethodElicitComplete   = "notifications/elicitation/complete"
	MethodTaskResult       = "tasks/result"
	MethodTasksList        = "tasks/list"
	MethodTaskStatus       = "notifications/tasks/status"
)

// The methods of the modern era alone.
const (
	MethodDiscover     = "server/discover"
	MethodListen       = "subscriptions/listen"
	MethodAcknowledged = "notifications/subscriptions/acknowledged"
	MethodTaskUpdate   = "tasks/update"        // of the tasks extension
	MethodTaskChanged  = "notifications/tasks" // of the tasks extension
)

// The methods of tasks that both eras have: the core tasks of 2025-11-25 and the tasks extension. The
// two are different protocols, so that neither is translated into the other.
const (
	MethodTaskGet    = "tasks/get"
	MethodTaskCancel = "tasks/cancel"
)

// LegacyOnly reports whether only the legacy era has a method. A modern client must not see such a
// notification, and gets "method not found" for such a request.
func LegacyOnly(method string) bool {
	switch method {
	case MethodInitialize, MethodInitialized, MethodPing, MethodSetLevel, MethodSubscribe, MethodUnsubscribe,
		MethodRootsListChanged, MethodElicitComplete, MethodTaskResult, MethodTasksList, MethodTaskStatus:
		return true
	}
	return false
}

// ModernOnly reports whether only the modern era has a method.
func ModernOnly(method string) bool {
	switch method {
	case MethodDiscover, MethodListen, MethodAcknowledged, MethodTaskUpdate:
		return true
	}
	return false
}

// MayRequireInput reports whether the result of a request may be input_required. It must not be for
// other methods.
func MayRequireInput(method string) bool {
	return method == MethodToolsCall || method == MethodPromptsGet || method == MethodResourcesRead
}

// IsCacheable reports whether a complete result of a request must say how long it may be cached.
func IsCacheable(method string) bool {
	switch method {
	case MethodDiscover, MethodToolsList, MethodPromptsList, MethodResourcesList, MethodResourceTemplates, MethodResourcesRead:
		return true
	}
	return false
}
