package mcphttp

import (
	"maps"
	"sync"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// updates tells a client what servers say of themselves, on one stream of events: that
// lists, resources and tasks have changed. A change of a list may be told twice, as what is known
// of the list changes a moment later, or not at all, if other replicas have not changed.
type updates struct {
	front  *Front
	scope  fleet.Scope
	events *events
	lists  map[string]bool // the changes of lists that are wanted, by notification
	tell   func(method string, params []byte) event
	set    func(map[fleet.ServerName][]string) (inEffect <-chan struct{})
	cancel func()
	watch  *watch        // of the stream of a session
	first  chan struct{} // closed once it is the first stream of its session
	before *updates      // the one that was before it; set then

	session *session          // whose stream it is; nil for a subscription
	tasks   map[string]string // the client's ids of the tasks that a subscription names, by their URIs

	wanting  sync.Mutex
	wanted   []fleet.Subscription // of its session
	inEffect <-chan struct{}      // of that; nil: nothing was wanted yet

	mu  sync.Mutex
	own map[fleet.ServerName][]string // the URIs that are wanted, as servers know them
}

// newUpdates returns updates of nothing yet. close must be called later.
func (f *Front) newUpdates(scope fleet.Scope, s *events, lists map[string]bool, tell func(method string, params []byte) event) *updates {
	u := &updates{front: f, scope: scope, events: s, lists: lists, tell: tell, first: make(chan struct{})}
	u.set, u.cancel = f.cfg.News.Listen(u.on)
	return u
}

func (u *updates) close() { u.cancel() }

// want tells of these resources and tasks from now on, and of the lists that are wanted. It returns
// a channel that is closed when no change is missed any more.
func (u *updates) want(all []fleet.Subscription) (inEffect <-chan struct{}) {
	own := make(map[fleet.ServerName][]string)
	if view, err := u.front.cfg.Offers.View(u.scope); err == nil && len(u.lists) > 0 {
		for _, server := range view.Servers() {
			own[server] = nil
		}
	}
	for _, s := range all {
		own[s.Server] = append(own[s.Server], s.URI)
	}
	u.mu.Lock()
	u.own = own
	u.mu.Unlock()
	return u.set(maps.Clone(own)) // nobody changes the lists
}

// takeOver goes on where the stream before ended, which has sent what was told until then.
func (u *updates) takeOver() {
	if u.before == nil {
		return
	}
	if seen := u.before.watch.seen; seen != nil {
		u.watch.seen = seen
	}
	unsent, _ := u.before.events.take()
	for _, e := range unsent {
		u.events.add(e)
	}
	u.before = nil
}

// subscribable returns the resources among these of which a client can be told, with
// their subscriptions: the servers are known, serve many clients, and announce changes.
func (f *Front) subscribable(scope fleet.Scope, uris []string) (honoured []string, all []fleet.Subscription) {
	for _, uri := range uris {
		view, err := f.cfg.Offers.View(scope)
		if err != nil {
			break
		}
		found, err := view.Resources(uri)
		if err != nil || ownsTasks(found[0]) || !f.announces(found[0].Server) {
			continue
		}
		honoured = append(honoured, uri)
		all = append(all, fleet.Subscription{Server: found[0].Server, URI: found[0].Name})
	}
	return honoured, all
}

// announces reports whether a server announces changes of resources.
func (f *Front) announces(server fleet.ServerName) bool {
	view, err := f.cfg.Offers.View(fleet.Scope(server))
	return err == nil && has(view.Info().Capabilities, "resources", "subscribe")
}

// on passes news on to the client, with the URI that it knows.
func (u *updates) on(n fleet.News) {
	if u.session != nil && !u.front.speaks(u.session) {
		return
	}
	if u.lists[n.Method] {
		u.events.add(u.tell(n.Method, nil))
		return
	}
	if n.Task != "" {
		u.onTask(&n)
		return
	}
	uri, _, err := mcp.Target(n.Method, n.Params)
	if err != nil || fleet.IsTaskURI(uri) {
		return
	}
	u.mu.Lock()
	one := fleet.CoveringURI(u.own[n.Server], uri)
	u.mu.Unlock()
	view, err := u.front.cfg.Offers.View(u.scope)
	if one == "" || err != nil {
		return
	}
	params := n.Params
	if name := view.URI(n.Server, one); name != one {
		if params, err = mcp.WithTarget(n.Method, params, name+uri[len(one):]); err != nil {
			return
		}
	}
	if !u.events.add(u.tell(n.Method, params)) {
		u.front.metrics.drop(droppedSlow)
	}
}
