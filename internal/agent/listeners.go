package agent

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/notice"
)

const (
	// maxSubscriptions bounds the resources of one server to which the worker subscribes.
	maxSubscriptions = 10_000
	// maxNews bounds the notifications that wait for one controller. There is one of each
	// kind and resource. Further ones are dropped.
	maxNews = 10_000
	// newsPause gathers what several replicas of a server say about the same change.
	newsPause = 20 * time.Millisecond
)

// listeners are the controllers that want notifications which belong to no call and no
// session.
type listeners struct {
	changed notice.Board // what they want

	mu  sync.Mutex
	all map[*listener]struct{}
}

// listener is one controller. listeners.mu guards it.
type listener struct {
	look    chan struct{} // there is news
	wants   map[fleet.ServerName][]string
	pending []fleet.News
	at      map[newsKey]int // where each is in pending
}

// newsKey identifies news: a later one takes the place of an earlier one.
type newsKey struct {
	server      fleet.ServerName
	method, uri string
}

func (ls *listeners) add() *listener {
	l := &listener{look: make(chan struct{}, 1), at: map[newsKey]int{}}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.all == nil {
		ls.all = map[*listener]struct{}{}
	}
	ls.all[l] = struct{}{}
	return l
}

func (ls *listeners) remove(l *listener) {
	ls.mu.Lock()
	delete(ls.all, l)
	ls.mu.Unlock()
	ls.changed.Post()
}

// set replaces what a controller wants.
func (ls *listeners) set(l *listener, interests []fleet.Interest) {
	wants := make(map[fleet.ServerName][]string, len(interests))
	for _, i := range interests {
		wants[i.Server] = append(wants[i.Server], i.URIs...)
	}
	ls.mu.Lock()
	l.wants = wants
	ls.mu.Unlock()
	ls.changed.Post()
}

// wanted returns the resources of a server whose updates any controller wants, sorted.
func (ls *listeners) wanted(server fleet.ServerName) []string {
	all := map[string]bool{}
	ls.mu.Lock()
	for l := range ls.all {
		for _, uri := range l.wants[server] {
			all[uri] = true
		}
	}
	ls.mu.Unlock()
	uris := slices.Sorted(maps.Keys(all))
	return uris[:min(len(uris), maxSubscriptions)]
}

// tell passes news to the controllers that want it. uri is the resource that it is about,
// or "".
func (ls *listeners) tell(n fleet.News, uri string) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	key := newsKey{n.Server, n.Method, uri}
	for l := range ls.all {
		uris, interested := l.wants[n.Server]
		if !interested || uri != "" && fleet.CoveringURI(uris, uri) == "" {
			continue
		}
		if i, waits := l.at[key]; waits {
			l.pending[i] = n
		} else if len(l.pending) < maxNews {
			l.at[key] = len(l.pending)
			l.pending = append(l.pending, n)
		}
		notify(l.look)
	}
}

func (ls *listeners) take(l *listener) []fleet.News {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	news := l.pending
	l.pending = nil
	clear(l.at)
	return news
}

// Listen sends the notifications that a controller wants, until ctx or the agent ends or
// send fails. Each value of interests replaces the one before. The worker subscribes to
// the resources that any controller wants, at each replica of their server.
func (a *Agent) Listen(ctx context.Context, interests <-chan []fleet.Interest, send func([]fleet.News) error) error {
	l := a.listeners.add()
	defer a.listeners.remove(l)
	var gathered <-chan time.Time
	for {
		select {
		case is := <-interests:
			a.listeners.set(l, is)
		case <-l.look:
			if gathered == nil {
				gathered = time.After(newsPause)
			}
		case <-gathered:
			gathered = nil
			if err := send(a.listeners.take(l)); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-a.stopped:
			return nil
		}
	}
}
