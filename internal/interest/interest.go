// Package interest tells workers which notifications of servers the clients of this
// controller want, and passes those on: changes of lists, and updates of resources.
//
// Any number of clients may want the same. A worker is told once, and keeps a subscription
// until nobody wants it any more. It says when what it was told is in effect: after that no
// change is missed. What several replicas of a server say about one change reaches a client
// once, unless the replicas are slow.
//
// While the connection to a worker is lost, so are notifications. When it is back, the
// clients are told that everything of the servers that run there may have changed.
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
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/recent"
)

// patience bounds how long a client waits for workers, which themselves wait a little less
// for their servers. One of an earlier version does not say that anything is in effect:
// after this it is not waited for any more.
const patience = 3 * time.Second

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
	wants   fleet.Interests // of all clients together
	workers map[observe.Worker]*worker
	waiting map[key]fleet.News
	flush   *time.Timer // set while news waits
	waiters map[*waiter]struct{}
	recent  recent.Map[key, fleet.News] // updates of resources
}

// client is one client that wants news. Board.mu guards it.
type client struct {
	on    func(fleet.News)
	wants map[fleet.ServerName][]string
	told  bool // something that it wanted was in effect
}

// waiter waits until all workers have what was wanted at a time.
type waiter struct {
	client *client
	number uint64
	done   chan struct{}
	timer  *time.Timer
}

// New returns a board without clients.
func New(view View, log *slog.Logger) *Board {
	return &Board{
		view: view, log: log.With("component", "interest"), wants: fleet.Interests{Number: 1},
		clients: map[*client]struct{}{}, workers: map[observe.Worker]*worker{}, waiting: map[key]fleet.News{},
		waiters: map[*waiter]struct{}{},
	}
}

// Listen adds a client, which wants nothing yet. set replaces what it wants: changes of the
// lists of these servers, and updates of these resources and their parts. It returns a
// channel that is closed when that is in effect. cancel removes the client. on is called
// with each piece of news, from any goroutine, perhaps for a moment after cancel. It must
// not block, and nobody may change the news.
func (b *Board) Listen(on func(fleet.News)) (set func(wants map[fleet.ServerName][]string) (inEffect <-chan struct{}), cancel func()) {
	c := &client{on: on}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clients[c] = struct{}{}
	return func(wants map[fleet.ServerName][]string) <-chan struct{} { return b.set(c, wants) }, func() { b.remove(c) }
}

func (b *Board) set(c *client, wants map[fleet.ServerName][]string) <-chan struct{} {
	inEffect, again := b.change(c, wants)
	deliver(again)
	return inEffect
}

// change is set, without the deliveries.
func (b *Board) change(c *client, wants map[fleet.ServerName][]string) (inEffect <-chan struct{}, again []delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := &waiter{client: c, done: make(chan struct{})}
	if _, is := b.clients[c]; !is {
		close(w.done)
		return w.done, nil
	}
	if c.told { // the client is not new: it may have subscribed through another controller just before
		for k, n := range b.recent.All() {
			if _, waits := b.waiting[k]; !waits && fleet.CoveringURI(wants[k.server], k.uri) != "" && fleet.CoveringURI(c.wants[k.server], k.uri) == "" {
				again = append(again, delivery{c, n})
			}
		}
	}
	c.wants = wants
	b.tellWorkers()
	w.number = b.wants.Number
	b.waiters[w] = struct{}{}
	w.timer = time.AfterFunc(patience, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if _, waits := b.waiters[w]; waits {
			b.log.Warn("subscriptions not in effect yet", "after", patience)
			b.release(w)
		}
	})
	b.releaseAll()
	return w.done, again
}

func (b *Board) remove(c *client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.clients, c)
	for w := range b.waiters {
		if w.client == c {
			b.release(w)
		}
	}
	b.tellWorkers()
}

// releaseAll ends the waits of those whose wants are in effect. This and the functions
// below need the lock.
func (b *Board) releaseAll() {
	if len(b.waiters) == 0 {
		return
	}
	least := b.wants.Number
	for _, w := range b.workers {
		if w.answers() {
			least = min(least, w.inEffect)
		}
	}
	for w := range b.waiters {
		if w.number <= least {
			b.release(w)
		}
	}
}

func (b *Board) release(w *waiter) {
	w.timer.Stop()
	w.client.told = true
	delete(b.waiters, w)
	close(w.done)
}

// tellWorkers passes what all clients want together to the workers.
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
	same := slices.EqualFunc(wants, b.wants.Servers, func(x, y fleet.Interest) bool {
		return x.Server == y.Server && slices.Equal(x.URIs, y.URIs)
	})
	if same {
		return
	}
	b.wants = fleet.Interests{Number: b.wants.Number + 1, Servers: wants}
	for _, w := range b.workers {
		w.tell(b.wants)
	}
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
