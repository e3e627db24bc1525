package agent

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/stdio"
)

// maxAcked bounds the acknowledgements that wait to be looked at.
const maxAcked = 16

// listening keeps one stream of notifications of a modern server open: of its lists, and of
// the resources that controllers want. Another wish opens another stream, which takes the
// place of the one before once the server has acknowledged it.
type listening struct {
	*subscriptions
	protocol string
	can      mcp.Filter    // what the server announces
	acked    chan string   // ids of requests that the server has acknowledged
	current  *openStream   // acknowledged
	next     *openStream   // not yet
	stale    bool          // they lack something that is wanted
	missed   bool          // changes may have been missed
	pause    time.Duration // before the next attempt
	retry    time.Time     // when that is
}

// openStream is one subscriptions/listen.
type openStream struct {
	pending *stdio.Pending
	since   time.Time
	wanted  uint64 // the version of what it asks for
	over    chan stdio.Reply
}

// acknowledge takes an acknowledgement of the server. It does not block.
func (l *listening) acknowledge(params []byte) {
	meta, err := mcp.ParseMeta(params)
	if err != nil {
		return
	}
	select {
	case l.acked <- string(meta.SubscriptionID):
	default: // nobody asked for so many
	}
}

// run keeps the stream open until ctx ends, or the server refuses it.
func (l *listening) run(ctx context.Context) {
	look, cancel := l.r.listeners.changed.Subscribe()
	defer cancel()
	l.pause = relisten
	for {
		wanted, version := l.wanted()
		begin, end, next := l.update(wanted, time.Now())
		l.stale = l.stale || len(begin)+len(end) > 0
		switch due := l.current == nil && !time.Now().Before(l.retry); {
		case l.next != nil:
		case l.stale || due:
			if err := l.open(version); err != nil {
				return // the conversation has ended
			}
		default:
			l.subscribed(version)
		}
		if !l.await(ctx, look, next) {
			return
		}
	}
}

// wanted returns the resources to subscribe to, and tasks of the replica, and the version of
// that.
func (l *listening) wanted() ([]string, uint64) {
	wanted, version := l.r.listeners.wanted(l.r.order.Server)
	return slices.DeleteFunc(wanted, func(uri string) bool {
		if !fleet.IsTaskURI(uri) {
			return len(l.can.Resources) == 0
		}
		replica, _, ok := fleet.ParseTaskURI(uri)
		return !ok || replica != l.r.order.ID || len(l.can.Tasks) == 0
	}), version
}

// filter returns what the server is asked for: its lists, and what is held.
func (l *listening) filter() *mcp.Filter {
	f := l.can
	f.Resources, f.Tasks = nil, nil
	for _, uri := range slices.Sorted(maps.Keys(l.held)) {
		if _, task, ok := fleet.ParseTaskURI(uri); ok {
			f.Tasks = append(f.Tasks, task)
		} else {
			f.Resources = append(f.Resources, uri)
		}
	}
	return &f
}

// open opens a stream of all that is wanted.
func (l *listening) open(version uint64) error {
	params, err := mcp.ListenParams(l.protocol, mcp.Implementation{Name: "mcpfleet", Version: l.r.node.Version}, l.filter())
	if err != nil {
		return err
	}
	o := &openStream{since: time.Now(), wanted: version, over: make(chan stdio.Reply, 1)}
	o.pending, err = l.conn.Start(&stdio.Call{Method: mcp.MethodListen, Params: params, Done: func(r stdio.Reply) {
		r.Release()
		o.over <- r
	}})
	if err != nil {
		return err
	}
	l.next, l.stale = o, false
	return nil
}

// await waits for a notice, a time, an acknowledgement or the end of a stream. It reports
// false when ctx has ended, or when there will be no further stream.
func (l *listening) await(ctx context.Context, look <-chan struct{}, at time.Time) bool {
	sooner := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	var over, nextOver <-chan stdio.Reply
	if l.current != nil {
		over = l.current.over
	}
	if l.next != nil {
		nextOver = l.next.over
		sooner(l.next.since.Add(subscribePatience))
	} else if l.current == nil {
		sooner(l.retry)
	}
	var timer <-chan time.Time
	if !at.IsZero() {
		t := time.NewTimer(time.Until(at))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-look:
	case <-timer:
		if l.next != nil && time.Since(l.next.since) >= subscribePatience {
			l.r.log.Warn("server does not acknowledge a subscription", "after", subscribePatience)
			l.establish()
		}
	case id := <-l.acked:
		if l.next != nil && id == strconv.FormatUint(l.next.pending.ID(), 10) {
			l.establish()
		}
	case reply := <-over:
		since := l.current.since
		l.current, l.missed = nil, true
		return l.ended(reply, since)
	case reply := <-nextOver:
		o := l.next
		l.next = nil
		if refused := new(mcp.Error); l.current != nil && errors.As(reply.Failure(), &refused) {
			l.r.log.Warn("subscription refused", "err", refused)
			l.subscribed(o.wanted)
			return true
		}
		return l.ended(reply, o.since)
	case <-ctx.Done():
		for _, o := range []*openStream{l.current, l.next} {
			if o != nil {
				l.conn.Cancel(o.pending, "the replica stops")
			}
		}
		return false
	}
	return true
}

// establish puts the next stream in the place of the current one.
func (l *listening) establish() {
	if l.current != nil {
		l.conn.Cancel(l.current.pending, "another subscription takes its place")
	}
	l.current, l.next = l.next, nil
	if late := l.subscribed(l.current.wanted); late || l.missed {
		l.missed = false
		l.tellMissed()
	}
}

// tellMissed tells of all that may have changed while there was no stream.
func (l *listening) tellMissed() {
	l.r.relist.Or(^uint32(0))
	notify(l.r.changed)
	for method, is := range map[string]bool{
		mcp.MethodToolsListChanged: l.can.ToolsListChanged, mcp.MethodPromptsListChanged: l.can.PromptsListChanged,
		mcp.MethodResourcesListChanged: l.can.ResourcesListChanged,
	} {
		if is {
			l.r.listeners.tell(fleet.News{Server: l.r.order.Server, Replica: l.r.order.ID, Method: method}, "")
		}
	}
	for uri := range l.held {
		l.tellUpdated(uri)
	}
}

// ended takes the end of a stream when there is no other. It reports false if there will
// be none.
func (l *listening) ended(reply stdio.Reply, since time.Time) bool {
	err := reply.Failure()
	switch {
	case errors.Is(err, stdio.ErrLost):
		return false
	case errors.As(err, new(*mcp.Error)):
		l.r.log.Info("server refused subscriptions/listen, so its changes are not announced", "err", err)
		return false
	}
	if time.Since(since) >= relistenMax {
		l.pause = relisten
	}
	l.retry = time.Now().Add(l.pause)
	l.pause = min(2*l.pause, relistenMax)
	return true
}
