package interest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/notice"
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/recent"
)

// fakeWorker is a worker to which a board listens.
type fakeWorker struct {
	observe.Worker
	mu      sync.Mutex
	told    []string
	on      func(fleet.Hearing)
	streams int
	holds   bool               // it does not say what is in effect
	running []fleet.ServerName // it has replicas of these
	number  uint64             // the last that it was told
	err     error              // of the next Listen
	broken  chan struct{}
}

func newFakeWorker() *fakeWorker { return &fakeWorker{broken: make(chan struct{})} }

func (w *fakeWorker) Listen(ctx context.Context, interests <-chan fleet.Interests, on func(fleet.Hearing)) error {
	w.mu.Lock()
	w.on, w.streams = on, w.streams+1
	err, broken := w.err, w.broken
	w.mu.Unlock()
	if err != nil {
		return err
	}
	for {
		select {
		case is := <-interests:
			w.mu.Lock()
			w.told, w.number = append(w.told, fmt.Sprint(is.Servers)), is.Number
			holds := w.holds
			w.mu.Unlock()
			if !holds {
				w.acknowledges()
			}
		case <-broken:
			return errors.New("broken")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// acknowledges says that what it was told is in effect.
func (w *fakeWorker) acknowledges() {
	w.mu.Lock()
	h, on := fleet.Hearing{InEffect: w.number, Running: w.running}, w.on
	w.running = nil
	w.mu.Unlock()
	on(h)
}

// hold makes it say only with acknowledges what is in effect, and which servers run.
func (w *fakeWorker) hold(running []fleet.ServerName) {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.holds, w.running = true, running
}

// breaks ends the stream.
func (w *fakeWorker) breaks() {
	w.mu.Lock()
	broken := w.broken
	w.broken, w.told = make(chan struct{}), nil
	w.mu.Unlock()
	close(broken)
	synctest.Wait()
}

func (w *fakeWorker) last() string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.told) == 0 {
		return "nothing"
	}
	return w.told[len(w.told)-1]
}

func (w *fakeWorker) says(server fleet.ServerName, replica fleet.ReplicaID, method, params string) {
	w.mu.Lock()
	on := w.on
	w.mu.Unlock()
	on(fleet.Hearing{News: []fleet.News{{Server: server, Replica: replica, Method: "notifications/" + method, Params: []byte(params)}}})
}

// world is the view of a board.
type world struct {
	notice.Board
	mu   sync.Mutex
	snap *observe.Snapshot
}

func (v *world) Snapshot() *observe.Snapshot {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.snap
}

func (v *world) set(workers ...*fakeWorker) {
	s := &observe.Snapshot{Nodes: map[fleet.NodeID]observe.Node{"lost": {}}}
	for i, w := range workers {
		s.Nodes[fleet.NodeID(fmt.Sprint("n", i))] = observe.Node{Worker: w, Connected: true}
	}
	v.mu.Lock()
	v.snap = s
	v.mu.Unlock()
	v.Post()
}

func run(t *testing.T, v *world) *Board {
	b := New(v, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := b.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return b
}

// hearing is what a client was told.
type hearing struct {
	mu  sync.Mutex
	all []string
}

func (h *hearing) on(n fleet.News) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, fmt.Sprintf("%s %s %s", n.Server, strings.TrimPrefix(n.Method, "notifications/"), n.Params))
}

func (h *hearing) heard() string {
	time.Sleep(2 * gather)
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.all
	h.all = nil
	slices.Sort(all)
	return strings.Join(all, "; ")
}

func is(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestWorkersAreToldWhatAnyClientWants(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		v, w := new(world), newFakeWorker()
		v.set(w)
		b := run(t, v)
		is(t, "at first", w.last(), "[]")
		one, removeOne := b.Listen(func(fleet.News) {})
		two, removeTwo := b.Listen(func(fleet.News) {})
		one(map[fleet.ServerName][]string{"s": []string{"x", "y"}})
		two(map[fleet.ServerName][]string{"s": []string{"x"}, "a": nil})
		is(t, "together", w.last(), "[{a []} {s [x y]}]")
		told := len(w.told)
		one(map[fleet.ServerName][]string{"s": []string{"y"}})
		synctest.Wait()
		if len(w.told) != told {
			t.Errorf("one client's unsubscribe changed what is wanted: %s", w.last())
		}
		later := newFakeWorker()
		v.set(w, later)
		is(t, "a worker that comes later", later.last(), "[{a []} {s [x y]}]")
		removeTwo()
		two(map[fleet.ServerName][]string{"b": nil})
		is(t, "without the second", w.last(), "[{s [y]}]")
		v.set(later)
		synctest.Wait()
		removeOne()
		is(t, "a worker that has gone", w.last(), "[{s [y]}]")
		is(t, "the other one", later.last(), "[]")
	})
}

func TestNewsReachesThoseThatWantIt(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		v, w := new(world), newFakeWorker()
		v.set(w)
		b := run(t, v)
		var lists, resources hearing
		want, _ := b.Listen(lists.on)
		want(map[fleet.ServerName][]string{"s": nil})
		want, remove := b.Listen(resources.on)
		want(map[fleet.ServerName][]string{"s": []string{"x:1", "x:dir/"}})
		synctest.Wait()
		w.says("s", "s-1", "tools/list_changed", "")
		w.says("s", "s-2", "tools/list_changed", "")
		w.says("other", "o-1", "tools/list_changed", "")
		w.says("s", "s-1", "resources/updated", `{"uri":"x:1"}`)
		w.says("s", "s-2", "resources/updated", `{"uri":"x:1"}`)
		w.says("s", "s-2", "resources/updated", `{"uri":"x:dir/file"}`)
		w.says("s", "s-2", "resources/updated", `{"uri":"x:12"}`)
		is(t, "lists", lists.heard(), "s tools/list_changed ")
		is(t, "resources", resources.heard(), `s resources/updated {"uri":"x:1"}; s resources/updated {"uri":"x:dir/file"}; s tools/list_changed `)
		w.says("s", "s-1", "resources/updated", `{"uri":"x:1"}`)
		is(t, "a later update", resources.heard(), `s resources/updated {"uri":"x:1"}`)
		remove()
		w.says("s", "s-1", "resources/updated", `{"uri":"x:1"}`)
		is(t, "after the end", resources.heard(), "")
	})
}

func TestListeningBeginsAgain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		v, w, old := new(world), newFakeWorker(), newFakeWorker()
		old.err = fmt.Errorf("listen: %w", fleet.ErrOldWorker)
		v.set(w, old)
		b := run(t, v)
		want, _ := b.Listen(func(fleet.News) {})
		want(map[fleet.ServerName][]string{"s": nil})
		synctest.Wait()
		w.breaks()
		time.Sleep(2 * firstPause)
		is(t, "after a break", w.last(), "[{s []}]")
		time.Sleep(time.Minute)
		if w.streams != 2 || old.streams != 1 {
			t.Errorf("%d streams, and %d of the old worker", w.streams, old.streams)
		}
	})
}

// in reports whether what a client wants is in effect.
func in(effect <-chan struct{}) bool {
	synctest.Wait()
	select {
	case <-effect:
		return true
	default:
		return false
	}
}

func TestWantsTakeEffect(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		v, one, two := new(world), newFakeWorker(), newFakeWorker()
		v.set(one, two)
		b := run(t, v)
		synctest.Wait()
		yes := func(what string, effect <-chan struct{}, want bool) {
			t.Helper()
			if in(effect) != want {
				t.Errorf("%s: in effect %t, want %t", what, !want, want)
			}
		}
		want, _ := b.Listen(func(fleet.News) {})
		lists := map[fleet.ServerName][]string{"s": nil}
		yes("workers that answer", want(lists), true)
		yes("the same again", want(lists), true)
		two.hold(nil)
		first := want(map[fleet.ServerName][]string{"s": {"x"}})
		yes("one worker does not answer", first, false)
		other, remove := b.Listen(func(fleet.News) {})
		yes("another client that wants the same", other(lists), false)
		second := other(map[fleet.ServerName][]string{"s": {"y"}})
		remove()
		yes("a client that has gone", second, true)
		two.acknowledges()
		yes("the worker answers", first, true)
		third := want(map[fleet.ServerName][]string{"s": {"z"}})
		v.set(one)
		yes("the worker has gone", third, true)

		v.set(one, two)
		synctest.Wait()
		fourth := want(lists)
		time.Sleep(patience - time.Millisecond)
		yes("a worker that never answers", fourth, false)
		time.Sleep(time.Millisecond)
		yes("a worker that never answers, later", fourth, true)
		yes("it is known then", want(map[fleet.ServerName][]string{"s": {"x"}}), true)
		two.acknowledges()
		yes("it answers after all", want(lists), false)
		two.breaks()
		yes("its stream is broken", want(map[fleet.ServerName][]string{"s": {"y"}}), true)
	})
}

// Clients are told of everything that they may have missed, and only those.
func TestWhatWasMissedIsTold(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const changed = "s prompts/list_changed ; s resources/list_changed ; s resources/updated {\"uri\":\"x\"}; s tools/list_changed "
		v, w := new(world), newFakeWorker()
		w.running = []fleet.ServerName{"s", "other"}
		v.set(w)
		b := run(t, v)
		synctest.Wait()
		var h, late hearing
		want, _ := b.Listen(h.on)
		want(map[fleet.ServerName][]string{"s": {"x"}, "away": nil})
		is(t, "the first stream", h.heard(), "")
		w.hold([]fleet.ServerName{"s", "other"})
		w.breaks()
		time.Sleep(2 * firstPause)
		v.set() // the worker is not connected for a moment
		synctest.Wait()
		v.set(w)
		synctest.Wait()
		begins, _ := b.Listen(late.on)
		effect := begins(map[fleet.ServerName][]string{"s": {"x"}})
		is(t, "before the next one is in effect", h.heard(), "")
		w.acknowledges()
		is(t, "then", h.heard(), changed)
		is(t, "a client that came meanwhile", late.heard(), "")
		if !in(effect) {
			t.Error("not in effect")
		}
		w.acknowledges()
		is(t, "later", h.heard()+late.heard(), "")

		old := newFakeWorker()
		old.holds = true
		v.set(w, old)
		time.Sleep(patience)
		is(t, "a new worker of an earlier version", late.heard(), changed)
	})
}

// A client that subscribed through another controller hears of what happened before this
// one knew.
func TestUpdatesAreToldAgain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		v, w := new(world), newFakeWorker()
		v.set(w)
		b := run(t, v)
		var h, other hearing
		want, _ := b.Listen(h.on)
		want(map[fleet.ServerName][]string{"s": nil})
		both, _ := b.Listen(other.on)
		both(map[fleet.ServerName][]string{"s": {"x", "y"}})
		synctest.Wait()
		w.says("s", "s-1", "resources/updated", `{"uri":"x"}`)
		is(t, "the other one", other.heard(), `s resources/updated {"uri":"x"}`)
		want(map[fleet.ServerName][]string{"s": {"x"}})
		is(t, "a subscription right after", h.heard(), `s resources/updated {"uri":"x"}`)
		want(map[fleet.ServerName][]string{"s": {"x", "y"}})
		is(t, "another one", h.heard(), "")
		w.says("s", "s-1", "resources/updated", `{"uri":"y"}`)
		other.heard()
		h.heard()
		want(map[fleet.ServerName][]string{"s": nil})
		time.Sleep(recent.Span)
		want(map[fleet.ServerName][]string{"s": {"y"}})
		is(t, "a subscription much later", h.heard()+other.heard(), "")
	})
}

func TestGatheringIsBounded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		v, w := new(world), newFakeWorker()
		v.set(w)
		b := run(t, v)
		heard := 0
		want, _ := b.Listen(func(fleet.News) { heard++ })
		want(map[fleet.ServerName][]string{"s": {"x:"}})
		synctest.Wait()
		for i := range maxGathered + 1 {
			w.says("s", "s-1", "resources/updated", fmt.Sprintf(`{"uri":"x:/%d"}`, i))
		}
		if heard != maxGathered || len(b.waiting) != 1 {
			t.Errorf("heard %d, %d wait", heard, len(b.waiting))
		}
	})
}
