package mcphttp

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/lookup"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// watch finds which lists of an endpoint have changed.
type watch struct {
	modern bool              // the client is of the modern era
	asked  map[string]bool   // the notifications that the client asked for; nil: all
	wanted map[string]bool   // those of asked that the endpoint announces
	seen   map[string]string // the hash of each list, by its method
}

// newWatch returns a watch of the lists whose changes the endpoint announces, for a client
// of the modern era that asked for some of them, or for a legacy client, with a nil
// wanted, that gets all. A nil view announces nothing yet.
func newWatch(view View, wanted map[string]bool) *watch {
	w := &watch{modern: wanted != nil, asked: wanted}
	if view != nil {
		w.begin(view)
	}
	return w
}

// begin takes the lists as they are now.
func (w *watch) begin(view View) {
	w.wanted, w.seen = make(map[string]bool), make(map[string]string)
	for method, kind := range listKinds {
		if (w.asked == nil || w.asked[kind.changed]) && has(view.Info().Capabilities, kind.capability, "listChanged") {
			w.wanted[kind.changed] = true
		}
		w.seen[method] = hashOf(view.List(method, w.modern))
	}
}

// changes returns the notifications of what has changed since the last look.
func (w *watch) changes(view View) (changed []string) {
	if w.seen == nil {
		w.begin(view)
	}
	for _, method := range [...]string{mcp.MethodToolsList, mcp.MethodResourcesList, mcp.MethodResourceTemplates, mcp.MethodPromptsList} {
		hash, name := hashOf(view.List(method, w.modern)), listKinds[method].changed
		if w.seen[method] == hash {
			continue
		}
		w.seen[method] = hash
		if w.wanted[name] && (len(changed) == 0 || changed[len(changed)-1] != name) {
			changed = append(changed, name)
		}
	}
	return changed
}

// announced returns the notifications that the client gets, as far as is known.
func (w *watch) announced() map[string]bool { return maps.Clone(w.wanted) }

func hashOf(list *fleet.ViewList) string {
	if list == nil {
		return ""
	}
	return list.Hash
}

// serveGet serves the stream of a legacy session's messages that belong to no request.
func (f *Front) serveGet(w *web.Response, r *http.Request) error {
	version := r.Header.Get(headerVersion)
	if r.Header.Get(headerSession) == "" || version != "" && !mcp.IsLegacy(version) {
		w.Header().Set("Allow", http.MethodPost)
		return errNoStream
	}
	if !acceptsOf(r).events {
		return errAcceptEvents
	}
	session, err := f.open(r)
	if err == nil {
		err = f.exists(r.Context(), session.scope)
	}
	if err != nil {
		return err
	}
	if r.Method == http.MethodHead {
		w.Begin(http.StatusOK, typeEvent, -1)
		return nil
	}
	var after eventID
	if last := r.Header.Get(headerLastEvent); last != "" {
		if after, err = parseEventID(last); err != nil || !after.isOf(session) {
			return errEvent
		}
		if !after.Stream.IsSession() {
			return f.serveResumed(w, r, session, after)
		}
	}
	return f.serveSession(w, r, session, after)
}

// serveSession serves the stream of a session's messages that belong to no request, after
// the one that the client got last.
func (f *Front) serveSession(w *web.Response, r *http.Request, session *session, after eventID) error {
	ctx, _, done := f.calls.add(r.Context(), callKey{session.uid, "GET " + w.RequestID()}) // DELETE ends it
	defer done()
	f.metrics.gets.Inc()
	defer f.metrics.gets.Dec()
	s := newEvents(w)
	from, detach, err := f.attach(ctx, session, s, after)
	if err != nil {
		return err
	}
	defer detach()
	return s.run(f.untilRemoved(from, session.scope, func() { s.end() }))
}

// attach adds the messages of a session that belong to no request to a stream of events,
// until detach is called. What it returns as the source adds some of them.
func (f *Front) attach(ctx context.Context, session *session, s *events, after eventID) (from source, detach func(), err error) {
	look, cancel := f.cfg.Offers.Subscribe()
	view, _ := f.cfg.Offers.View(session.scope) // one that is not known yet has no lists either
	lists := newWatch(view, nil)
	u := f.newUpdates(session.scope, s, lists.announced(), notification)
	u.watch, u.session = lists, session
	if !f.streams.attach(session.uid, u) {
		u.close()
		cancel()
		return from, nil, errTooManyStreams
	}
	f.cfg.Sessions.SetListener(session.id(), session.until(), f.cfg.Self, true)
	reading, stop := context.WithCancel(ctx)
	var readers sync.WaitGroup
	detach = func() {
		stop()
		readers.Wait()
		f.streams.detach(session.uid, u)
		if f.streams.first(session.uid) == nil {
			f.cfg.Sessions.SetListener(session.id(), session.until(), f.cfg.Self, false)
		}
		u.close()
		cancel()
	}
	if only, ok := onlyOf(view); ok && only.PerSession && !only.Modern {
		readers.Go(func() { f.follow(reading, session, only.Server, u, after) })
		readers.Go(func() { f.keepUsed(reading, session) })
		return source{gone: ctx.Done(), leaving: f.cfg.Leaving}, detach, nil // follow sees the end of the server
	}
	changed, unsubscribe := f.cfg.Sessions.Changed()
	end := detach
	detach = func() {
		end()
		unsubscribe()
	}
	from = f.following(ctx, s, look, session.scope, lists, func(method string) event { return notification(method, nil) })
	from.changed, from.first = changed, u.first
	changes := from.onLook
	own := opened{front: f, session: session, updates: u, after: after, readers: &readers}
	from.onLook = func() {
		if !u.isFirst() {
			return
		}
		u.takeOver()
		f.subscribeAgain(session, u)
		if session.scope.Server() == "" {
			own.look(reading)
		}
		if f.speaks(session) {
			changes()
		}
	}
	if u.isFirst() {
		f.awaitEffect(ctx, f.subscribeAgain(session, u))
	}
	return from, detach, nil
}

// subscribeAgain has the first stream of a session tell of what the session subscribes to,
// and of its tasks. It returns a channel that is closed when that is in effect.
func (f *Front) subscribeAgain(s *session, u *updates) (inEffect <-chan struct{}) {
	u.wanting.Lock() // so that the latest wins
	defer u.wanting.Unlock()
	if wanted := slices.Concat(f.cfg.Sessions.Subscriptions(s.id()), f.coreTasks(s)); u.inEffect == nil || !slices.Equal(wanted, u.wanted) {
		u.wanted, u.inEffect = wanted, u.want(wanted)
	}
	return u.inEffect
}

// awaitEffect waits until what was wanted is in effect, which is bounded.
func (f *Front) awaitEffect(ctx context.Context, inEffect <-chan struct{}) {
	select {
	case <-inEffect:
	case <-f.cfg.Leaving:
	case <-ctx.Done():
	}
}

// exists reports an error if there is no such endpoint. One that another controller may have
// been told of just now is waited for.
func (f *Front) exists(ctx context.Context, scope fleet.Scope) error {
	look := func() error {
		if _, err := f.cfg.Offers.View(scope); lookup.Unknown(err) {
			return err
		}
		return nil // what else is wrong may be over soon
	}
	if err := look(); err != nil {
		return f.lookup.Repeat(ctx, err, 0, time.Now(), look)
	}
	return nil
}

// untilRemoved has a stream look whether its endpoint has been removed, and calls end then. An
// endpoint that this controller does not know yet is waited for.
func (f *Front) untilRemoved(from source, scope fleet.Scope, end func()) source {
	_, err := f.cfg.Offers.View(scope)
	onLook, known := from.onLook, !lookup.Unknown(err)
	from.onLook = func() {
		switch _, err := f.cfg.Offers.View(scope); {
		case !lookup.Unknown(err):
			known = true
		case known:
			end()
			return
		}
		onLook()
	}
	return from
}

// onlyOf returns the server of an endpoint that has only one. A nil view has none.
func onlyOf(view View) (fleet.Destination, bool) {
	if view == nil {
		return fleet.Destination{}, false
	}
	return view.Only()
}

// following returns the source of a stream of the changes of an endpoint's lists.
func (f *Front) following(ctx context.Context, s *events, look <-chan struct{}, scope fleet.Scope, lists *watch, tell func(method string) event) source {
	return source{gone: ctx.Done(), look: look, leaving: f.cfg.Leaving, onLook: func() {
		view, err := f.cfg.Offers.View(scope)
		if err != nil {
			return
		}
		for _, method := range lists.changes(view) {
			if !s.add(tell(method)) {
				f.metrics.drop(droppedSlow)
			}
		}
	}}
}
