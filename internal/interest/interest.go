// Package interest tells workers which notifications of servers the clients of this
// controller want, and passes those on: changes of lists, and updates of resources.
//
// Any number of clients may want the same. A worker is told once, and keeps a subscription
// until nobody wants it any more. What several replicas of a server say about one change
// reaches a client once, unless the replicas are slow.
//
// Notifications may be lost while the connection to a worker is. Afterwards the clients
// that want its servers are told nothing: a client that must not miss a change reads again.
//
// Run owns every goroutine. Other methods may be called at any time.
package interest

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// gather is how long news waits for the same from other replicas.
const gather = 20 * time.Millisecond

// maxGathered bounds the news that waits. Further news is dropped.
const maxGathered = 10_000

// View is what runs. observe.Observer implements it.
type View interface {
	Snapshot() *observe.Snapshot
	Subscribe() (look <-chan struct{}, cancel func())
}

// Board has what the clients want.
type Board struct {
	view View
	log  *slog.Logger

	mu      sync.Mutex
	clients map[*client]struct{}
	wants   []fleet.Interest // of all clients together; nil: not known
	workers map[observe.Worker]*worker
	waiting map[key]fleet.News
	flush   *time.Timer // set while news waits
}

// key identifies news that one notification can stand for.
type key struct {
	server      fleet.ServerName
	method, uri string
}

// client is one client that wants news.
type client struct {
	on    func(fleet.News)
	wants map[fleet.ServerName][]string // under board.mu
}

// New returns a board without clients.
func New(view View, log *slog.Logger) *Board {
	return &Board{
		view: view, log: log.With("component", "interest"),
		clients: map[*client]struct{}{}, workers: map[observe.Worker]*worker{}, waiting: map[key]fleet.News{},
	}
}

// Listen adds a client, which wants nothing yet. set replaces what it wants: changes of the
// lists of these servers, and updates of these resources and their parts. cancel removes
// it. on is called with each piece of news, from any goroutine, perhaps for a moment after
// cancel. It must not block, and nobody may change the news.
func (b *Board) Listen(on func(fleet.News)) (set func(wants map[fleet.ServerName][]string), cancel func()) {
	c := &client{on: on}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clients[c] = struct{}{}
	return func(wants map[fleet.ServerName][]string) { b.set(c, wants) }, func() { b.remove(c) }
}

func (b *Board) set(c *client, wants map[fleet.ServerName][]string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, is := b.clients[c]; is {
		c.wants = wants
		b.tellWorkers()
	}
}

func (b *Board) remove(c *client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.clients, c)
	b.tellWorkers()
}

// tellWorkers passes what all clients want together to the workers. It needs the lock.
func (b *Board) tellWorkers() {
	all := map[fleet.ServerName]map[string]bool{}
	for c := range b.clients {
		for server, uris := range c.wants {
			if all[server] == nil {
				all[server] = map[string]bool{}
			}
			for _, uri := range uris {
				all[server][uri] = true
			}
		}
	}
	wants := make([]fleet.Interest, 0, len(all))
	for _, server := range slices.Sorted(maps.Keys(all)) {
		wants = append(wants, fleet.Interest{Server: server, URIs: slices.Sorted(maps.Keys(all[server]))})
	}
	same := slices.EqualFunc(wants, b.wants, func(x, y fleet.Interest) bool {
		return x.Server == y.Server && slices.Equal(x.URIs, y.URIs)
	})
	if same {
		return
	}
	b.wants = wants
	for _, w := range b.workers {
		w.tell(wants)
	}
}

// hear takes news of a worker.
func (b *Board) hear(news []fleet.News) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range news {
		k := key{n.Server, n.Method, uriOf(&n)}
		if _, waits := b.waiting[k]; !waits && len(b.waiting) >= maxGathered {
			continue // dropped: that many changes within a moment tell nobody anything
		}
		b.waiting[k] = n
	}
	if b.flush == nil && len(b.waiting) > 0 {
		b.flush = time.AfterFunc(gather, b.pass)
	}
}

// pass passes the news that waits to the clients that want it.
func (b *Board) pass() {
	type delivery struct {
		to *client
		n  fleet.News
	}
	var all []delivery
	b.mu.Lock()
	for k, n := range b.waiting {
		for c := range b.clients {
			if uris, wants := c.wants[k.server]; wants && (k.uri == "" || fleet.CoveringURI(uris, k.uri) != "") {
				all = append(all, delivery{c, n})
			}
		}
	}
	clear(b.waiting)
	b.flush = nil
	b.mu.Unlock()
	for _, d := range all {
		d.to.on(d.n)
	}
}

// uriOf returns the resource that news is about, or "".
func uriOf(n *fleet.News) string {
	if n.Method != mcp.MethodResourcesUpdated {
		return ""
	}
	found, err := mcp.Fields(n.Params, "uri")
	if err != nil || found[0] == nil {
		return ""
	}
	uri, err := mcp.String(found[0])
	if err != nil {
		return ""
	}
	return uri
}

// Run keeps listening to every worker until ctx ends.
func (b *Board) Run(ctx context.Context) error {
	look, cancel := b.view.Subscribe()
	defer cancel()
	var children sync.WaitGroup
	defer children.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for {
		b.follow(ctx, &children)
		select {
		case <-look:
		case <-ctx.Done():
			return nil
		}
	}
}
