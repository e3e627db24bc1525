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
)

// fakeWorker is a worker to which a board listens.
type fakeWorker struct {
	observe.Worker
	mu      sync.Mutex
	told    []string
	on      func([]fleet.News)
	streams int
	err     error // of the next Listen
	broken  chan struct{}
}

func newFakeWorker() *fakeWorker { return &fakeWorker{broken: make(chan struct{})} }

func (w *fakeWorker) Listen(ctx context.Context, interests <-chan []fleet.Interest, on func([]fleet.News)) error {
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
			w.told = append(w.told, fmt.Sprint(is))
			w.mu.Unlock()
		case <-broken:
			return errors.New("broken")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
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
	on([]fleet.News{{Server: server, Replica: replica, Method: "notifications/" + method, Params: []byte(params)}})
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
		w.mu.Lock()
		broken := w.broken
		w.broken, w.told = make(chan struct{}), nil
		w.mu.Unlock()
		close(broken)
		time.Sleep(2 * firstPause)
		is(t, "after a break", w.last(), "[{s []}]")
		time.Sleep(time.Minute)
		if w.streams != 2 || old.streams != 1 {
			t.Errorf("%d streams, and %d of the old worker", w.streams, old.streams)
		}
	})
}
