package rpc

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// fakeWorker is a Worker whose methods are what the test sets; by default it
// echoes params as results.
type fakeWorker struct {
	start func(context.Context, fleet.Order, fleet.Assignment) (uint64, error)
	stop  func(context.Context, fleet.Order, fleet.ReplicaID, string) (uint64, error)
	wake  func(context.Context, fleet.Order, fleet.ReplicaID) (uint64, error)
	pull  func(context.Context, fleet.Order, string, fleet.PullPolicy) error
	fence func(context.Context, fleet.Order, bool) (uint64, error)
	watch func(context.Context, fleet.Order, func(fleet.Report) error) error
	call  func(fleet.CallRequest, func(fleet.CallEvent)) func(bool)
	logs  func(context.Context, fleet.ReplicaID, int, bool, func([]fleet.LogLine) error) error
	Streams
	Sessions
}

func (w *fakeWorker) StartReplica(ctx context.Context, o fleet.Order, a fleet.Assignment) (uint64, error) {
	return w.start(ctx, o, a)
}

func (w *fakeWorker) StopReplica(ctx context.Context, o fleet.Order, id fleet.ReplicaID, reason string) (uint64, error) {
	return w.stop(ctx, o, id, reason)
}

func (w *fakeWorker) ActivateReplica(ctx context.Context, o fleet.Order, id fleet.ReplicaID) (uint64, error) {
	return w.wake(ctx, o, id)
}

func (w *fakeWorker) PullImage(ctx context.Context, o fleet.Order, image string, policy fleet.PullPolicy) error {
	return w.pull(ctx, o, image, policy)
}

func (w *fakeWorker) Fence(ctx context.Context, o fleet.Order, renewed bool) (uint64, error) {
	return w.fence(ctx, o, renewed)
}

func (w *fakeWorker) Watch(ctx context.Context, o fleet.Order, send func(fleet.Report) error) error {
	return w.watch(ctx, o, send)
}

func (w *fakeWorker) Call(r fleet.CallRequest, events func(fleet.CallEvent)) func(bool) {
	if w.call == nil {
		return echo(r, events)
	}
	return w.call(r, events)
}

func (w *fakeWorker) Logs(ctx context.Context, id fleet.ReplicaID, tail int, follow bool, send func([]fleet.LogLine) error) error {
	return w.logs(ctx, id, tail, follow, send)
}

func echo(r fleet.CallRequest, events func(fleet.CallEvent)) func(bool) {
	events(fleet.CallEvent{Kind: fleet.CallReply, Result: r.Params, Ongoing: 3})
	return func(bool) {}
}

// site is a served worker with a client.
type site struct {
	*Client
	addr  string
	stop  context.CancelFunc // of the server
	ended <-chan struct{}
}

func start(t testing.TB, w Worker, change ...func(*ServerConfig, *ClientConfig)) *site {
	t.Helper()
	var sc ServerConfig
	var cc ClientConfig
	sc.Worker, sc.Log = w, slog.New(slog.DiscardHandler)
	for _, f := range change {
		f(&sc, &cc)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := NewServer(sc).Serve(ctx, l); err != nil {
			t.Errorf("Serve: %v", err)
		}
	}()
	c, err := Dial(l.Addr().String(), cc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		stop()
		<-ended
	})
	return &site{Client: c, addr: l.Addr().String(), stop: stop, ended: ended}
}

// script is a worker's side of calls that a test answers by hand.
type script struct {
	calls chan *scripted
}

type scripted struct {
	req    fleet.CallRequest
	events func(fleet.CallEvent)
	cancel chan bool // what cancel was called with
}

func newScript() *script { return &script{calls: make(chan *scripted, 100)} }

func (s *script) worker() *fakeWorker {
	return &fakeWorker{call: func(r fleet.CallRequest, events func(fleet.CallEvent)) func(bool) {
		c := &scripted{r, events, make(chan bool, 10)}
		s.calls <- c
		return func(timeout bool) { c.cancel <- timeout }
	}}
}

func (c *scripted) reply(result string) {
	c.events(fleet.CallEvent{Kind: fleet.CallReply, Result: []byte(result)})
}

// released records CallHooks.Released.
type released struct {
	mu   sync.Mutex
	seen []int
	any  chan struct{}
}

func newReleased() *released { return &released{any: make(chan struct{}, 100)} }

func (r *released) hook(ongoing int) {
	r.mu.Lock()
	r.seen = append(r.seen, ongoing)
	r.mu.Unlock()
	r.any <- struct{}{}
}

// is checks that Released was called exactly once, with want.
func (r *released) is(t *testing.T, want int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if got := fmt.Sprint(r.seen); got != fmt.Sprint([]int{want}) {
		t.Errorf("Released was called with %s, want [%d]", got, want)
	}
}

func get[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came within 10 s")
		panic("unreachable")
	}
}

func discard(r io.ReadCloser) (int64, error) {
	defer r.Close()
	return io.Copy(io.Discard, r)
}
