package agent

import (
	"bytes"
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
		if uri, _, err := mcp.Target(method, params); err == nil {
			r.tell(method, uri, params)
		}
	case mcp.MethodTaskStatus, mcp.MethodTaskChanged:
		r.tellTask(method, params)
	case mcp.MethodAcknowledged:
		if l := r.listening.Load(); l != nil {
			l.acknowledge(params)
		}
	case mcp.MethodMessage:
		if !r.logger.deliver(params) {
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
	n := fleet.News{Server: r.order.Server, Replica: r.order.ID, Method: method, Params: params}
	if fleet.IsTaskURI(uri) {
		n.Task = uri
	}
	r.listeners.tell(n, uri)
}

// tellTask passes on the status of a task: one of the core tasks to the session that began
// it, one of the extension to those that name it.
func (r *replica) tellTask(method string, params []byte) {
	t, ok := mcp.ReadTask(method, params)
	if !ok {
		return
	}
	if method == mcp.MethodTaskChanged {
		r.tell(method, fleet.TaskURI(r.order.ID, t.ID), params)
	} else if owner := r.tasks.owner(t.ID); owner != "" {
		r.tell(method, fleet.SessionTaskURI(fleet.SessionID(owner), r.order.ID, t.ID), params)
	}
}

// logger is the call in flight that gets the log of a modern server. The messages do not
// name their call, so one call at a time may ask for them.
type logger struct {
	mu   sync.Mutex
	call *call // nil: none has asked
}

// begin reports whether the call may ask for the log.
func (l *logger) begin(c *call) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.call != nil {
		return false
	}
	l.call = c
	return true
}

// finish is called when the call of begin has ended.
func (l *logger) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.call = nil
}

// deliver passes a message of the log to the call that asked for it. It reports false if
// there is none.
func (l *logger) deliver(params []byte) bool {
	l.mu.Lock()
	c := l.call
	l.mu.Unlock()
	if c == nil || c.msg.OnNotification == nil {
		return false
	}
	c.notification(mcp.MethodMessage, bytes.Clone(params))
	return true
}
