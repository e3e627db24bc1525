package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/notice"
	"github.com/mcpfleet/mcpfleet/internal/recent"
)

const (
	// maxSubscriptions bounds the resources of one server to which the worker subscribes.
	maxSubscriptions = 10_000
	// maxNews bounds the notifications that wait for one controller. There is one of each
	// kind and resource. If there are more, the controller has to listen again, and takes
	// it that everything has changed.
	maxNews = 10_000
	// newsPause gathers what several replicas of a server say about the same change.
	newsPause = 20 * time.Millisecond
	// subscribePatience bounds how long a controller is not told that what it wants is in
	// effect, and how long a start waits, because a server does not answer.
	subscribePatience = 2 * time.Second
)

// listeners are the controllers that want notifications which belong to no call and no
// session, and the replicas that are subscribed for them.
type listeners struct {
	changed notice.Board // what they want

	mu       sync.Mutex
	all      map[*listener]struct{}
	replicas map[*subscriptions]struct{}     // whose servers tell of changes
	version  uint64                          // of what they want
	recent   recent.Map[newsKey, fleet.News] // updates of resources
}

// listener is one controller. listeners.mu guards it.
type listener struct {
	look    chan struct{} // there is news, or a replica has subscribed
	wants   map[fleet.ServerName]wish
	pending []fleet.News
	at      map[newsKey]int // where each is in pending
	flooded bool            // there was more
}

// wish is what a controller wants of one server.
type wish struct {
	uris    []string
	version uint64    // with which it became that
	at      time.Time // when it did
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
	wants, now := make(map[fleet.ServerName]wish, len(interests)), time.Now()
	ls.mu.Lock()
	ls.version++
	for _, i := range interests {
		w, is := l.wants[i.Server]
		if !is || !slices.Equal(w.uris, i.URIs) {
			w = wish{i.URIs, ls.version, now}
		}
		wants[i.Server] = w
	}
	// What a controller begins to want may have been updated just before: its client may have
	// subscribed through another one.
	for key, n := range ls.recent.All() {
		if fleet.CoveringURI(wants[key.server].uris, key.uri) != "" && fleet.CoveringURI(l.wants[key.server].uris, key.uri) == "" {
			l.add(key, n)
		}
	}
	l.wants = wants
	ls.mu.Unlock()
	ls.changed.Post()
}

// wanted returns the resources of a server whose updates any controller wants, sorted,
// and the version of that.
func (ls *listeners) wanted(server fleet.ServerName) (uris []string, version uint64) {
	all := map[string]bool{}
	ls.mu.Lock()
	for l := range ls.all {
		for _, uri := range l.wants[server].uris {
			all[uri] = true
		}
	}
	version = ls.version
	ls.mu.Unlock()
	uris = slices.Sorted(maps.Keys(all))
	return uris[:min(len(uris), maxSubscriptions)], version
}

// lookAgain needs ls.mu held.
func (ls *listeners) lookAgain() {
	for l := range ls.all {
		notify(l.look)
	}
}

// inEffect reports whether all replicas are subscribed to what a controller wants. Those
// that have not managed that in time are not waited for, until it wants something else of
// them. It returns when to look again at the latest.
func (ls *listeners) inEffect(l *listener, now time.Time) (is bool, next time.Time) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for s := range ls.replicas {
		w, wanted := l.wants[s.r.order.Server]
		if !wanted || !s.begun || len(w.uris) == 0 || s.version >= w.version {
			continue
		}
		if late := w.at.Add(subscribePatience); now.Before(late) {
			if next.IsZero() || late.Before(next) {
				next = late
			}
			continue
		}
		s.r.log.Warn("subscriptions not in effect yet", "after", subscribePatience)
		s.version, s.late = w.version, true
	}
	return next.IsZero(), next
}

// tell passes news to the controllers that want it. uri is the resource that it is about,
// or "".
func (ls *listeners) tell(n fleet.News, uri string) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	key := newsKey{n.Server, n.Method, uri}
	if uri != "" {
		ls.recent.Put(key, n)
	}
	for l := range ls.all {
		w, interested := l.wants[n.Server]
		if !interested || uri != "" && fleet.CoveringURI(w.uris, uri) == "" {
			continue
		}
		l.add(key, n)
	}
}

// add adds news for a controller.
func (l *listener) add(key newsKey, n fleet.News) {
	if i, waits := l.at[key]; waits {
		l.pending[i] = n
	} else if len(l.pending) < maxNews {
		l.at[key] = len(l.pending)
		l.pending = append(l.pending, n)
	} else {
		l.flooded = true
	}
	notify(l.look)
}

func (ls *listeners) hasNews(l *listener) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return len(l.pending) > 0
}

func (ls *listeners) take(l *listener) (news []fleet.News, flooded bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	news, flooded = l.pending, l.flooded
	l.pending, l.flooded = nil, false
	clear(l.at)
	return news, flooded
}

var errFlooded = fmt.Errorf("%w: more notifications than the controller can take", fleet.ErrOverloaded)

// Listen tells of the notifications that a controller wants, until ctx or the agent ends
// or send fails. Each value of interests replaces the one before. The worker subscribes to
// the resources that any controller wants, at each replica of their server.
func (a *Agent) Listen(ctx context.Context, interests <-chan fleet.Interests, send func(fleet.Hearing) error) error {
	l := a.listeners.add()
	defer a.listeners.remove(l)
	var gathered, late <-chan time.Time
	var due uint64 // the number that is to be in effect, 0 for none
	first := true
	for {
		select {
		case is := <-interests:
			a.listeners.set(l, is.Servers)
			due = is.Number
		case <-l.look:
			if gathered == nil && a.listeners.hasNews(l) {
				gathered = time.After(newsPause)
			}
		case <-gathered:
			gathered = nil
			news, flooded := a.listeners.take(l)
			if err := send(fleet.Hearing{News: news}); err != nil {
				return err
			}
			if flooded {
				return errFlooded
			}
		case <-late:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-a.stopped:
			return nil
		}
		if late = nil; due == 0 {
			continue
		}
		is, next := a.listeners.inEffect(l, time.Now())
		if !is {
			late = time.After(time.Until(next))
			continue
		}
		h := fleet.Hearing{InEffect: due}
		if first {
			h.Running = a.listenable()
		}
		if err := send(h); err != nil {
			return err
		}
		due, first = 0, false
	}
}

// listenable returns the servers that have replicas here which serve many clients.
func (a *Agent) listenable() []fleet.ServerName {
	all := map[fleet.ServerName]bool{}
	a.live.Range(func(_, r any) bool {
		if order := r.(*replica).order; !order.Raw {
			all[order.Server] = true
		}
		return true
	})
	return slices.Sorted(maps.Keys(all))
}
