package mcphttp

import (
	"maps"
	"sync"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// updates tells a client of changes of resources, on one stream of events.
type updates struct {
	front  *Front
	scope  fleet.Scope
	events *events
	tell   func(params []byte) event
	set    func(map[fleet.ServerName][]string)
	cancel func()

	mu    sync.Mutex
	own   map[fleet.ServerName][]string          // the URIs that servers know
	names map[fleet.ServerName]map[string]string // and those that the client knows, by them
}

// newUpdates returns updates of nothing yet. close must be called later.
func (f *Front) newUpdates(scope fleet.Scope, s *events, tell func(params []byte) event) *updates {
	u := &updates{front: f, scope: scope, events: s, tell: tell}
	u.set, u.cancel = f.cfg.News.Listen(u.on)
	return u
}

func (u *updates) close() { u.cancel() }

// want tells of these resources from now on, as far as that is possible.
func (u *updates) want(uris []string) {
	_, begin := u.plan(uris)
	begin()
}

// plan returns of which of these resources it can tell: whose servers are known, and
// announce changes. It tells of them once begin was called.
func (u *updates) plan(uris []string) (honoured []string, begin func()) {
	own, names := make(map[fleet.ServerName][]string), make(map[fleet.ServerName]map[string]string)
	for _, uri := range uris {
		view, err := u.front.cfg.Offers.View(u.scope)
		if err != nil {
			break
		}
		all, err := view.Resources(uri)
		if err != nil || !u.front.announces(all[0].Server) {
			continue
		}
		dest := all[0]
		if names[dest.Server] == nil {
			names[dest.Server] = make(map[string]string)
		}
		names[dest.Server][dest.Name] = uri
		own[dest.Server] = append(own[dest.Server], dest.Name)
		honoured = append(honoured, uri)
	}
	return honoured, func() {
		u.mu.Lock()
		u.own, u.names = own, names
		u.mu.Unlock()
		u.set(maps.Clone(own)) // nobody changes the lists
	}
}

// announces reports whether a server announces changes of resources.
func (f *Front) announces(server fleet.ServerName) bool {
	view, err := f.cfg.Offers.View(fleet.Scope(server))
	return err == nil && has(view.Info().Capabilities, "resources", "subscribe")
}

// on passes news on to the client, with the URI that it knows.
func (u *updates) on(n fleet.News) {
	uri, _, err := mcp.Target(n.Method, n.Params)
	if err != nil {
		return
	}
	u.mu.Lock()
	one := fleet.CoveringURI(u.own[n.Server], uri)
	name := u.names[n.Server][one]
	u.mu.Unlock()
	if one == "" {
		return
	}
	params := n.Params
	if name != one {
		if params, err = mcp.WithTarget(n.Method, params, name+uri[len(one):]); err != nil {
			return
		}
	}
	if !u.events.add(u.tell(params)) {
		u.front.metrics.drop(droppedSlow)
	}
}
