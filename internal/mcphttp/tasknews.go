package mcphttp

import (
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// coreTasks returns the interest in the tasks of a session, at all servers of its endpoint
// that serve many clients and have core tasks. The replica of a session tells of them on the
// session's own stream.
func (f *Front) coreTasks(s *session) (all []fleet.Subscription) {
	view, err := f.cfg.Offers.View(s.scope)
	if err != nil {
		return nil
	}
	for _, server := range view.Servers() {
		dest, known := view.At(server)
		if !known || dest.Modern || dest.PerSession || !f.hasCoreTasks(server) {
			continue
		}
		all = append(all, fleet.Subscription{Server: server, URI: fleet.SessionTasksURI(s.id())})
	}
	return all
}

func (f *Front) hasCoreTasks(server fleet.ServerName) bool {
	view, err := f.cfg.Offers.View(fleet.Scope(server))
	return err == nil && has(view.Info().Capabilities, "tasks")
}

// followable returns the tasks among these whose status a client can be told, and with
// their URIs the ids by which it knows them.
func (f *Front) followable(view View, ids []string) (honoured []string, all []fleet.Subscription, known map[string]string) {
	known = make(map[string]string)
	for _, id := range ids {
		task, ok := f.openTask(id)
		if !ok {
			continue
		}
		if dest, is := view.At(task.server); !is || !dest.Modern {
			continue
		}
		uri := fleet.TaskURI(task.replica, task.own)
		known[uri], honoured = id, append(honoured, id)
		all = append(all, fleet.Subscription{Server: task.server, URI: uri})
	}
	return honoured, all, known
}

// onTask passes the status of a task on to the client, if it is one of its own.
func (u *updates) onTask(n *fleet.News) {
	params := n.Params
	if id, named := u.tasks[n.Task]; named {
		params = mcp.MapTaskIDs(n.Method, params, func(string) string { return id })
	} else if s := u.session; s != nil && fleet.CoveringURI([]string{fleet.SessionTasksURI(s.id())}, n.Task) != "" {
		names := taskNames{front: u.front, at: taskRoute{server: n.Server, replica: n.Replica, caller: fleet.Anonymous}}
		params = names.params(fleet.MessageNotification, n.Method, params)
	} else {
		return
	}
	if !u.events.add(u.tell(n.Method, params)) {
		u.front.metrics.drop(droppedSlow)
	}
}
