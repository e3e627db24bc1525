package mcphttp

import (
	"net/http"
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// listen serves a subscription of a modern client: a stream of the changes that it asked
// for, as far as the endpoint announces them. It begins with what that is, and ends with
// a result when the controller is told to stop.
func (f *Front) listen(w *web.Response, r *http.Request, m *message, a accepts) error {
	if !a.events {
		return errAcceptEvents
	}
	asked, err := mcp.ParseListen(m.params)
	if err != nil {
		return invalidParams("Invalid params: %v", err)
	}
	if len(asked.Tasks) > 0 && !mcp.DeclaresTasks(m.meta.Capabilities) {
		return errTaskUndeclared
	}
	q, err := newQuery(r)
	if err != nil {
		return err
	}
	look, cancel := f.cfg.Offers.Subscribe()
	defer cancel()
	view, err := f.modernView(r.Context(), q, m)
	if err != nil {
		return err
	}
	honoured := asked.Honoured(modernCapabilities(view.Info()))
	f.metrics.listens.Inc()
	defer f.metrics.listens.Dec()
	id := mcp.OneLine(append([]byte(nil), m.id...))
	s := newEvents(w)
	tagged := func(method string, params []byte) event {
		params, err := mcp.WithSubscription(params, id)
		if err != nil {
			params = nil // cannot happen: they are an object
		}
		return notification(method, params)
	}
	lists := newWatch(view, map[string]bool{
		mcp.MethodToolsListChanged: honoured.ToolsListChanged, mcp.MethodPromptsListChanged: honoured.PromptsListChanged,
		mcp.MethodResourcesListChanged: honoured.ResourcesListChanged,
	})
	u := f.newUpdates(q.scope, s, lists.announced(), tagged)
	defer u.close()
	var resources, tasks []fleet.Subscription
	honoured.Resources, resources = f.subscribable(q.scope, honoured.Resources)
	honoured.Tasks, tasks, u.tasks = f.followable(view, honoured.Tasks)
	s.add(notification(mcp.MethodAcknowledged, mcp.AcknowledgedParams(id, &honoured))) // nothing may come before it
	f.awaitEffect(r.Context(), u.want(slices.Concat(resources, tasks)))
	from := f.following(r.Context(), s, look, q.scope, lists, func(method string) event { return tagged(method, nil) })
	from.onLeave = func() { s.end(event{head: mcp.AppendResult(nil, id, mcp.ListenResult(id))}) }
	return s.run(f.untilRemoved(from, q.scope, from.onLeave))
}
