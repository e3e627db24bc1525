package agent

import (
	"bytes"
	"slices"
	"sync"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// isNews reports whether a notification of a server belongs to no call.
func isNews(method string) bool {
	switch method {
	case mcp.MethodToolsListChanged, mcp.MethodResourcesListChanged, mcp.MethodPromptsListChanged,
		mcp.MethodResourcesUpdated, mcp.MethodElicitComplete, mcp.MethodTaskStatus:
		return true
	}
	return false
}

// notified passes on a notification of a server that serves many clients. Those of a
// session's replica go to its hub.
func (r *replica) notified(method string, params []byte) {
	if r.hub.Load() != nil || r.order.Raw {
		return
	}
	switch method {
	case mcp.MethodToolsListChanged, mcp.MethodResourcesListChanged, mcp.MethodPromptsListChanged:
		r.tell(method, "", params)
	case mcp.MethodResourcesUpdated:
		if uri := uriOf(params); uri != "" {
			r.tell(method, uri, params)
		}
	case mcp.MethodAcknowledged:
		if l := r.listening.Load(); l != nil {
			l.acknowledge(params)
		}
	case mcp.MethodMessage:
		if !r.loggers.deliver(params) {
			r.streams.unattributed()
		}
	}
}

// tell passes news on without the mark of the subscription that it came by, which is ours.
func (r *replica) tell(method, uri string, params []byte) {
	if params = bytes.Clone(params); params != nil {
		without, err := mcp.WithoutSubscription(params)
		if err != nil {
			return
		}
		params = without
	}
	r.listeners.tell(fleet.News{Server: r.order.Server, Replica: r.order.ID, Method: method, Params: params}, uri)
}

func uriOf(params []byte) string {
	found, err := mcp.Fields(params, "uri")
	if err != nil || found[0] == nil {
		return ""
	}
	uri, err := mcp.String(found[0])
	if err != nil {
		return ""
	}
	return uri
}

// loggers are the calls in flight that asked a modern server for its log. Its messages do
// not name their call.
type loggers struct {
	mu    sync.Mutex
	calls []*call
}

func (ls *loggers) begin(c *call) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.calls = append(ls.calls, c)
}

func (ls *loggers) finish(c *call) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.calls = slices.DeleteFunc(ls.calls, func(o *call) bool { return o == c })
}

// deliver passes a message of the log to the only call that it can belong to. It reports
// false if there is none, or more than one: nobody may see what another's call logs.
func (ls *loggers) deliver(params []byte) bool {
	ls.mu.Lock()
	var c *call
	if len(ls.calls) == 1 {
		c = ls.calls[0]
	}
	ls.mu.Unlock()
	if c == nil || c.msg.OnNotification == nil {
		return false
	}
	c.notification(mcp.MethodMessage, bytes.Clone(params))
	return true
}
