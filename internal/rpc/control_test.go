package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetpb"
)

func TestOrders(t *testing.T) {
	order := fleet.Order{Cluster: "c", Incarnation: 1763000000, Epoch: 7}
	w := &fakeWorker{
		start: func(_ context.Context, o fleet.Order, a fleet.Assignment) (uint64, error) {
			if o != order || a.ID != "r" || a.Generation != 3 || a.Template.Image != "img" {
				return 0, fmt.Errorf("got %v %v", o, a)
			}
			return 11, nil
		},
		stop: func(_ context.Context, o fleet.Order, id fleet.ReplicaID, reason string) (uint64, error) {
			if o != order || id != "r" || reason != "scaled down" {
				return 0, fmt.Errorf("got %v %v %v", o, id, reason)
			}
			return 12, nil
		},
		wake: func(_ context.Context, o fleet.Order, id fleet.ReplicaID) (uint64, error) {
			if o != order || id != "r" {
				return 0, fmt.Errorf("got %v %v", o, id)
			}
			return 14, nil
		},
		pull: func(_ context.Context, o fleet.Order, image string, policy fleet.PullPolicy) error {
			if o != order || image != "img" || policy != fleet.PullAlways {
				return fmt.Errorf("got %v %v %v", o, image, policy)
			}
			return nil
		},
		fence: func(_ context.Context, o fleet.Order, renewed bool) (uint64, error) {
			if o != order || !renewed {
				return 0, fmt.Errorf("got %v, renewed: %v", o, renewed)
			}
			return 13, nil
		},
	}
	s := start(t, w)
	if v, err := s.StartReplica(t.Context(), order, fleet.Assignment{ID: "r", Generation: 3, Template: &fleet.Template{Image: "img"}}); v != 11 || err != nil {
		t.Errorf("StartReplica gave %d, %v", v, err)
	}
	if v, err := s.StopReplica(t.Context(), order, "r", "scaled down"); v != 12 || err != nil {
		t.Errorf("StopReplica gave %d, %v", v, err)
	}
	if v, err := s.ActivateReplica(t.Context(), order, "r"); v != 14 || err != nil {
		t.Errorf("ActivateReplica gave %d, %v", v, err)
	}
	if err := s.PullImage(t.Context(), order, "img", fleet.PullAlways); err != nil {
		t.Errorf("PullImage gave %v", err)
	}
	if v, err := s.Fence(t.Context(), order); v != 13 || err != nil {
		t.Errorf("Fence gave %d, %v", v, err)
	}
}

// olderWorker knows the service as it was before Fence.
type olderWorker struct {
	fleetpb.UnimplementedWorkerServiceServer
}

// olderClient returns a client of a worker that lacks these methods and all that it would
// have to do.
func olderClient(t *testing.T, without ...string) *Client {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	older := fleetpb.WorkerService_ServiceDesc
	older.Methods = slices.DeleteFunc(slices.Clone(older.Methods), func(m grpc.MethodDesc) bool { return slices.Contains(without, m.MethodName) })
	older.Streams = slices.DeleteFunc(slices.Clone(older.Streams), func(s grpc.StreamDesc) bool { return slices.Contains(without, s.StreamName) })
	g := grpc.NewServer()
	g.RegisterService(&older, olderWorker{})
	var served sync.WaitGroup
	served.Go(func() {
		if err := g.Serve(l); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(served.Wait)
	t.Cleanup(g.Stop)
	c, err := Dial(l.Addr().String(), ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// A worker one version older cannot be fenced. Nobody must take it for one that
// is, nor for one that refuses.
func TestFenceOfAnOlderWorker(t *testing.T) {
	c := olderClient(t, "Fence")
	_, err := c.Fence(t.Context(), fleet.Order{Cluster: "c", Epoch: 7})
	if err == nil {
		t.Error("it is fenced")
	}
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			t.Errorf("Fence gave %v", err)
		}
	}
	if _, err := c.StopReplica(t.Context(), fleet.Order{}, "r", ""); err == nil {
		t.Error("another order to it is one")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("no longer the leader")
	cancel(why)
	if _, err := c.Fence(ctx, fleet.Order{}); !errors.Is(err, why) {
		t.Errorf("Fence after the end of its context gave %v", err)
	}
}

// An order that a worker one version older does not know has an error of its own,
// which says what to do.
func TestOrdersThatAnOlderWorkerDoesNotKnow(t *testing.T) {
	c := olderClient(t, "ActivateReplica", "PullImage", "OpenSession", "CloseSession")
	_, activate := c.ActivateReplica(t.Context(), fleet.Order{}, "r")
	_, open := c.OpenSession(t.Context(), fleet.Order{}, fleet.SessionStart{Replica: "r"})
	for doing, err := range map[string]error{
		"activate replica r": activate, "pull image img": c.PullImage(t.Context(), fleet.Order{}, "img", fleet.PullMissing),
		"open a session at replica r": open, "close the session of replica r": c.CloseSession(t.Context(), "r", "s", ""),
	} {
		if !errors.Is(err, fleet.ErrOldWorker) || !strings.HasPrefix(err.Error(), doing) || !strings.Contains(err.Error(), c.addr) {
			t.Errorf("%s: got %v", doing, err)
		}
	}
}

// A worker one version older keeps no streams. A client that comes back must be told so, and
// not wait for ever.
func TestStreamsThatAnOlderWorkerDoesNotKeep(t *testing.T) {
	c := olderClient(t, "ReadStream", "CancelCall", "Listen")
	on := func([]fleet.Message) error { return nil }
	if err := c.ReadStream(t.Context(), fleet.ReadRequest{Stream: "s"}, on); !errors.Is(err, fleet.ErrUnknownStream) || !errors.Is(err, fleet.ErrOldWorker) {
		t.Errorf("ReadStream: got %v, want that the stream is unknown", err)
	}
	if err := c.CancelCall(t.Context(), "s", "owner", ""); !errors.Is(err, fleet.ErrUnknownStream) {
		t.Errorf("CancelCall: got %v, want that the stream is unknown", err)
	}
	if err := c.Listen(t.Context(), nil, nil); !errors.Is(err, fleet.ErrOldWorker) || errors.Is(err, fleet.ErrUnknownStream) {
		t.Errorf("Listen: got %v, want that the worker is older", err)
	}
}

// Every sentinel is the same on the other side, and nothing else is.
func TestErrorsCrossTheWire(t *testing.T) {
	var now error
	s := start(t, &fakeWorker{
		stop:  func(context.Context, fleet.Order, fleet.ReplicaID, string) (uint64, error) { return 0, now },
		wake:  func(context.Context, fleet.Order, fleet.ReplicaID) (uint64, error) { return 0, now },
		pull:  func(context.Context, fleet.Order, string, fleet.PullPolicy) error { return now },
		fence: func(context.Context, fleet.Order, bool) (uint64, error) { return 0, now },
		watch: func(context.Context, fleet.Order, func(fleet.Report) error) error { return now },
		logs:  func(context.Context, fleet.ReplicaID, int, bool, func([]fleet.LogLine) error) error { return now },
	})
	for _, want := range sentinels {
		now = fmt.Errorf("node n1 \xff: %w", want.err)
		_, stopErr := s.StopReplica(t.Context(), fleet.Order{}, "r", "")
		_, wakeErr := s.ActivateReplica(t.Context(), fleet.Order{}, "r")
		_, fenceErr := s.Fence(t.Context(), fleet.Order{})
		for rpc, err := range map[string]error{
			"StopReplica":     stopErr,
			"ActivateReplica": wakeErr,
			"PullImage":       s.PullImage(t.Context(), fleet.Order{}, "img", ""),
			"Fence":           fenceErr,
			"Watch":           s.Watch(t.Context(), fleet.Order{}, func(fleet.Report) {}),
			"Logs":            s.Logs(t.Context(), "r", 0, false, nil),
		} {
			for _, other := range sentinels {
				if is := errors.Is(err, other.err); is != (other == want) {
					t.Errorf("%s: %q is %q: %v", rpc, err, other.err, is)
				}
			}
			if err == nil || !strings.HasSuffix(err.Error(), "node n1 \uFFFD: "+want.err.Error()) || !strings.Contains(err.Error(), s.addr) {
				t.Errorf("%s gave %v, want it with the text of %q and the address", rpc, err, now)
			}
		}
	}
	now = errors.New("disk full")
	if _, err := s.StopReplica(t.Context(), fleet.Order{}, "r", ""); err == nil || !strings.HasSuffix(err.Error(), ": disk full") {
		t.Errorf("another error arrived as %v", err)
	}
}

func TestOrderCauseOfContext(t *testing.T) {
	s := start(t, &fakeWorker{stop: func(ctx context.Context, _ fleet.Order, _ fleet.ReplicaID, _ string) (uint64, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	}})
	why := errors.New("no longer the leader")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer time.AfterFunc(20*time.Millisecond, func() { cancel(why) }).Stop()
	if _, err := s.StopReplica(ctx, fleet.Order{}, "r", ""); !errors.Is(err, why) {
		t.Errorf("StopReplica gave %v, want %v", err, why)
	}
}

func TestWatch(t *testing.T) {
	sent := make(chan struct{})
	now := time.Unix(1763000000, 5)
	s := start(t, &fakeWorker{watch: func(_ context.Context, _ fleet.Order, send func(fleet.Report) error) error {
		for _, r := range []fleet.Report{
			{Version: 1, Now: now, Node: &fleet.NodeInfo{Node: "n1"}, Full: true, Replicas: []fleet.Replica{{ID: "a", Generation: 4, Phase: fleet.PhaseReady}}},
			{Version: 2, Replicas: []fleet.Replica{{ID: "b"}}},
			{Version: 2, Draining: true},
		} {
			if err := send(r); err != nil {
				return err
			}
		}
		close(sent)
		return nil
	}})
	var got []fleet.Report
	err := s.Watch(t.Context(), fleet.Order{}, func(r fleet.Report) { got = append(got, r) })
	if err == nil || !strings.Contains(err.Error(), "the worker has stopped") {
		t.Errorf("Watch ended with %v", err)
	}
	get(t, sent)
	if len(got) != 3 || !got[0].Full || got[0].Node.Node != "n1" || got[0].Replicas[0].Node != "n1" || got[0].Replicas[0].Generation != 4 || !got[0].Now.Equal(now) || !got[1].Now.IsZero() ||
		got[1].Replicas[0].Node != "n1" || got[1].Node != nil || !got[2].Draining {
		t.Errorf("Watch reported %+v", got)
	}
}

// A worker that has stopped in order answers every call. Fail ends none of them.
// Close refuses new calls, and waits until the last answer has come and been read.
func TestAStoppedWorkersLastAnswers(t *testing.T) {
	sc := newScript()
	w := sc.worker()
	w.watch = func(context.Context, fleet.Order, func(fleet.Report) error) error { return nil }
	s := start(t, w)
	s.settleFor = time.Minute // this machine may be busy
	small := begin(t.Context(), s, fleet.CallRequest{}, fleet.CallHooks{})
	refused := get(t, sc.calls)
	large := begin(t.Context(), s, fleet.CallRequest{Params: payload(largeBytes + 1)}, fleet.CallHooks{})
	answered := get(t, sc.calls)
	if err := s.Watch(t.Context(), fleet.Order{}, func(fleet.Report) {}); err == nil {
		t.Error("Watch ended without an error")
	}
	s.Fail(errors.New("gone"))
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	waits := func(what string) {
		t.Helper()
		select {
		case err := <-closed:
			t.Fatalf("Close gave %v while %s", err, what)
		case <-time.After(100 * time.Millisecond):
		}
	}
	waits("calls were under way")
	if _, err := s.Call(t.Context(), fleet.CallRequest{}, fleet.CallHooks{}); !errors.Is(err, fleet.ErrNotDelivered) {
		t.Errorf("a call after Close had begun gave %v", err)
	}
	refused.events(fleet.CallEvent{Kind: fleet.CallReply, Err: fleet.ErrNotDelivered})
	if a := get(t, small); !errors.Is(a.err, fleet.ErrNotDelivered) {
		t.Errorf("the refused call gave %v", a.err)
	}
	answered.events(fleet.CallEvent{Kind: fleet.CallReply, Result: payload(8 << 20)})
	res := get(t, large)
	if res.err != nil {
		t.Fatal(res.err)
	}
	waits("a result was being read")
	if n, err := discard(res.Stream); err != nil || n != 8<<20 {
		t.Errorf("read %d bytes, %v", n, err)
	}
	if err := get(t, closed); err != nil {
		t.Error(err)
	}
}

func TestLogs(t *testing.T) {
	want := []fleet.LogLine{{Time: time.Unix(1, 5).UTC(), Text: "one"}, {Time: time.Unix(2, 6).UTC(), Text: "two"}}
	s := start(t, &fakeWorker{logs: func(_ context.Context, id fleet.ReplicaID, tail int, follow bool, send func([]fleet.LogLine) error) error {
		if id != "r" || tail != 5 || !follow {
			return fmt.Errorf("got %s %d %v", id, tail, follow)
		}
		if err := send(want[:1]); err != nil {
			return err
		}
		return send(want[1:])
	}})
	var got []fleet.LogLine
	if err := s.Logs(t.Context(), "r", 5, true, func(l []fleet.LogLine) error { got = append(got, l...); return nil }); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("lines are %v, want %v", got, want)
	}
	enough := errors.New("enough")
	if err := s.Logs(t.Context(), "r", 5, true, func([]fleet.LogLine) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("Logs gave %v, want what its receiver returned", err)
	}
}

// A watch that is open does not keep a stopping worker, and a worker that
// starts again at the same address is found within the reconnect delay.
func TestServerStopsAndReturns(t *testing.T) {
	w := &fakeWorker{watch: func(ctx context.Context, _ fleet.Order, send func(fleet.Report) error) error {
		if err := send(fleet.Report{Version: 1}); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}}
	s := start(t, w)
	watching := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- s.Watch(t.Context(), fleet.Order{}, func(fleet.Report) { watching <- struct{}{} })
	}()
	get(t, watching)
	s.stop()
	if err := get(t, ended); err == nil {
		t.Error("Watch ended without an error")
	}
	get(t, s.ended)

	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	again := grpc.NewServer() // refuses everything, and so answers
	served := make(chan error, 1)
	go func() { served <- again.Serve(l) }()
	begun := time.Now()
	eventually(t, func() string {
		_, err := s.StopReplica(t.Context(), fleet.Order{}, "r", "")
		if err == nil || !strings.Contains(err.Error(), "unknown service") {
			return fmt.Sprint("not connected again: ", err)
		}
		return ""
	})
	t.Logf("connected again after %v", time.Since(begun).Round(time.Millisecond))
	again.Stop()
	<-served
}

// After very many calls of all kinds, and Close, all is as before.
func TestNoLeak(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("calls", func(t *testing.T) {
		s := start(t, &fakeWorker{call: func(r fleet.CallRequest, events func(fleet.CallEvent)) func(bool) {
			if r.Method == "hang" {
				return func(timeout bool) {
					events(fleet.CallEvent{Kind: fleet.CallReply, Err: fleet.ErrTimeout, Holding: true})
					events(fleet.CallEvent{Kind: fleet.CallReleased})
				}
			}
			return echo(r, events)
		}})
		const callers, each = 50, 500
		done := make(chan int, callers)
		var heap [2]uint64
		for round := range 2 {
			for range callers {
				go func() {
					bad := 0
					for i := range each {
						ctx, cancel := t.Context(), context.CancelFunc(func() {})
						req := fleet.CallRequest{Params: []byte(`{"n":1}`)}
						if i%100 == 0 {
							req.Method = "hang"
							ctx, cancel = context.WithTimeoutCause(ctx, time.Millisecond, fleet.ErrTimeout)
						}
						if i%500 == 1 {
							req.Params = payload(largeBytes + 1)
						}
						res, err := s.Call(ctx, req, fleet.CallHooks{})
						if res.Stream != nil {
							_, err = discard(res.Stream)
						}
						if (err != nil) != (req.Method == "hang") {
							bad++
						}
						cancel()
					}
					done <- bad
				}()
			}
			for range callers {
				if bad := <-done; bad > 0 {
					t.Errorf("%d calls went wrong", bad)
				}
			}
			eventually(t, s.leftovers)
			heap[round] = heapInUse()
		}
		if grown := int64(heap[1]) - int64(heap[0]); grown > 4<<20 {
			t.Errorf("the heap grew by %d bytes over %d calls", grown, callers*each)
		}
	})
	eventually(t, func() string {
		if n := runtime.NumGoroutine(); n > before {
			buf := make([]byte, 1<<16)
			return fmt.Sprintf("%d goroutines, %d before:\n%s", n, before, buf[:runtime.Stack(buf, true)])
		}
		return ""
	})
}

func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // pools are emptied by the second
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A stop may overtake the goroutine that was to serve.
func TestServeAfterStop(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 200 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := NewServer(ServerConfig{Worker: &fakeWorker{}, Log: slog.New(slog.DiscardHandler)}).Serve(ctx, l); err != nil {
			t.Fatal(err)
		}
		if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
			t.Fatal("the listener is still open")
		}
	}
}
