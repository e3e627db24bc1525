package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

type answer struct {
	fleet.CallResult
	err error
}

// begin makes a call in the background.
func begin(ctx context.Context, s *site, req fleet.CallRequest, h fleet.CallHooks) <-chan answer {
	c := make(chan answer, 1)
	go func() {
		r, err := s.Call(ctx, req, h)
		c <- answer{r, err}
	}()
	return c
}

func TestCallOrderOfEvents(t *testing.T) {
	sc := newScript()
	s := start(t, sc.worker())
	rel := newReleased()
	progressed := make(chan struct{}, 10)
	want := fleet.CallRequest{Replica: "r-1", Method: "tools/call", Params: []byte(`{"x":1}`), Trace: fleet.Trace{RequestID: "q", Traceparent: "t"}}
	got := begin(t.Context(), s, want, fleet.CallHooks{Progress: func() { progressed <- struct{}{} }, Released: rel.hook})
	c := get(t, sc.calls)
	if fmt.Sprint(c.req) != fmt.Sprint(want) {
		t.Errorf("the worker got %v, want %v", c.req, want)
	}
	for range 3 {
		c.events(fleet.CallEvent{Kind: fleet.CallProgress, Ongoing: 1})
		get(t, progressed)
	}
	freed := make(chan struct{})
	c.events(fleet.CallEvent{Kind: fleet.CallReply, Result: []byte(`{"y":2}`), Ongoing: 4, Free: func() { close(freed) }})
	a := get(t, got)
	if a.err != nil || string(a.Result) != `{"y":2}` || a.Error != nil || a.Stream != nil {
		t.Errorf("Call gave %+v", a)
	}
	rel.is(t, 4) // before Call returned
	get(t, freed)
}

// Notifications are sent to callers that have a hook for them, in order with the
// other events.
func TestNotifications(t *testing.T) {
	sc := newScript()
	s := start(t, sc.worker())
	var notes []string
	got := begin(t.Context(), s, fleet.CallRequest{}, fleet.CallHooks{Notification: func(method string, params []byte) {
		notes = append(notes, method+string(params))
	}})
	c := get(t, sc.calls)
	if !c.req.Notifications {
		t.Error("the worker was not asked for notifications")
	}
	large := string(payload(100 << 10)) // more than a message takes of others
	for _, params := range []string{"1", large, "2"} {
		c.events(fleet.CallEvent{Kind: fleet.CallNotification, Method: "m", Params: []byte(params)})
	}
	c.reply("{}")
	if a := get(t, got); a.err != nil || fmt.Sprint(notes) != fmt.Sprint([]string{"m1", "m" + large, "m2"}) {
		t.Errorf("%.200s, %v", notes, a.err)
	}
	got = begin(t.Context(), s, fleet.CallRequest{}, fleet.CallHooks{})
	if c = get(t, sc.calls); c.req.Notifications {
		t.Error("the worker was asked for notifications that nobody takes")
	}
	c.reply("{}")
	get(t, got)
}

func TestCallError(t *testing.T) {
	sc := newScript()
	s := start(t, sc.worker())
	got := begin(t.Context(), s, fleet.CallRequest{}, fleet.CallHooks{})
	get(t, sc.calls).events(fleet.CallEvent{Kind: fleet.CallReply, Error: []byte(`{"code":-1}`)})
	if a := get(t, got); a.err != nil || string(a.Error) != `{"code":-1}` || a.Result != nil {
		t.Errorf("Call gave %+v", a)
	}
}

func TestCallFailures(t *testing.T) {
	sc := newScript()
	s := start(t, sc.worker())
	for _, want := range sentinels {
		if want.kind == 0 {
			continue
		}
		got := begin(t.Context(), s, fleet.CallRequest{}, fleet.CallHooks{})
		get(t, sc.calls).events(fleet.CallEvent{Kind: fleet.CallReply, Err: fmt.Errorf("why \xff: %w", want.err)})
		a := get(t, got)
		for _, other := range sentinels {
			if is := errors.Is(a.err, other.err); is != (other == want) {
				t.Errorf("%q is %q: %v", a.err, other.err, is)
			}
		}
		if !strings.Contains(a.err.Error(), "why \uFFFD: "+want.err.Error()) {
			t.Errorf("the text of %q is lost", a.err)
		}
	}
	for _, tc := range []struct {
		err  error
		want []error
	}{
		{fmt.Errorf("%w: %w", fleet.ErrNotDelivered, fleet.ErrUnknownReplica), []error{fleet.ErrNotDelivered, fleet.ErrUnknownReplica}},
		{errors.New("something else"), []error{fleet.ErrReplicaLost}},
	} {
		got := begin(t.Context(), s, fleet.CallRequest{}, fleet.CallHooks{})
		get(t, sc.calls).events(fleet.CallEvent{Kind: fleet.CallReply, Err: tc.err})
		a := get(t, got)
		for _, want := range tc.want {
			if !errors.Is(a.err, want) {
				t.Errorf("%q arrived as %q, want it to be %q", tc.err, a.err, want)
			}
		}
	}
}

// A cancelled call returns at once, with the cause; its slot is told of later.
func TestCancel(t *testing.T) {
	for _, tc := range []struct {
		name    string
		cause   error
		is      error
		timeout bool
		then    []fleet.CallEvent
	}{
		{"client gone, slot free at once", context.Canceled, context.Canceled, false,
			[]fleet.CallEvent{{Kind: fleet.CallReply, Err: context.Canceled, Ongoing: 5}}},
		{"timeout, slot held", fleet.ErrTimeout, fleet.ErrTimeout, true,
			[]fleet.CallEvent{{Kind: fleet.CallReply, Err: fleet.ErrTimeout, Ongoing: 9, Holding: true}, {Kind: fleet.CallReleased, Ongoing: 5}}},
		{"reply came first", fmt.Errorf("the front: %w", fleet.ErrTimeout), fleet.ErrTimeout, true,
			[]fleet.CallEvent{{Kind: fleet.CallReply, Result: []byte("1"), Ongoing: 5}}},
		{"a large reply came first", errors.New("shutting down"), context.Canceled, false,
			[]fleet.CallEvent{{Kind: fleet.CallReply, Result: payload(largeBytes + 1), Ongoing: 5}}},
		{"deadline of the context", context.DeadlineExceeded, fleet.ErrTimeout, true,
			[]fleet.CallEvent{{Kind: fleet.CallReply, Err: fleet.ErrTimeout, Ongoing: 5}}},
	} {
		for _, params := range []int{10, largeBytes + 1} {
			t.Run(fmt.Sprintf("%s, %d bytes", tc.name, params), func(t *testing.T) {
				sc := newScript()
				s := start(t, sc.worker())
				rel := newReleased()
				ctx, cancel := context.WithCancelCause(t.Context())
				got := begin(ctx, s, fleet.CallRequest{Params: payload(params)}, fleet.CallHooks{Released: rel.hook})
				c := get(t, sc.calls)
				cancel(tc.cause)
				if a := get(t, got); !errors.Is(a.err, tc.is) || !errors.Is(a.err, tc.cause) || a.Result != nil {
					t.Errorf("Call gave %+v, want %v", a, tc.is)
				}
				if timeout := get(t, c.cancel); timeout != tc.timeout {
					t.Errorf("the worker was told timeout = %v", timeout)
				}
				select {
				case <-rel.any:
					t.Error("released before the worker said so")
				default:
				}
				freed := make(chan struct{})
				for _, e := range tc.then {
					if e.Kind == fleet.CallReply {
						e.Free = func() { close(freed) }
					}
					c.events(e)
				}
				get(t, rel.any)
				rel.is(t, 5)
				get(t, freed)
				eventually(t, func() string { return s.leftovers() })
			})
		}
	}
}

// leftovers says what calls have left behind in a client that should be idle.
func (s *site) leftovers() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, st := range s.spare {
		if slices.Contains(s.spare[:i], st) {
			return "a stream for large arguments was put back twice"
		}
	}
	for e := range s.open {
		st, ok := e.(*callStream)
		if !ok {
			return "a result is still being read"
		}
		if st.putBack != nil && !slices.Contains(s.spare, st) {
			return "a stream for large arguments was not put back"
		}
		st.mu.Lock()
		n := len(st.calls)
		st.mu.Unlock()
		if n > 0 {
			return fmt.Sprintf("%d calls are still known", n)
		}
	}
	return ""
}

func TestContextAlreadyOver(t *testing.T) {
	s := start(t, &fakeWorker{call: func(fleet.CallRequest, func(fleet.CallEvent)) func(bool) {
		t.Error("the call was delivered")
		return func(bool) {}
	}})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(fleet.ErrTimeout)
	rel := newReleased()
	if _, err := s.Call(ctx, fleet.CallRequest{}, fleet.CallHooks{Released: rel.hook}); !errors.Is(err, fleet.ErrTimeout) {
		t.Errorf("Call gave %v", err)
	}
	rel.is(t, -1)
}

// Nobody listens: surely not delivered.
func TestNobodyThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	c, err := Dial(l.Addr().String(), ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, n := range []int{10, largeBytes + 1} {
		rel := newReleased()
		if _, err := c.Call(t.Context(), fleet.CallRequest{Params: payload(n)}, fleet.CallHooks{Released: rel.hook}); !errors.Is(err, fleet.ErrNotDelivered) || errors.Is(err, fleet.ErrReplicaLost) {
			t.Errorf("Call gave %v, want it not delivered", err)
		}
		rel.is(t, -1)
	}
}

// A peer that accepts and says nothing: what waits is not delivered, and a
// waiting caller's context is obeyed.
func TestStuckConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := Dial(l.Addr().String(), ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := &site{Client: c}
	rel, rel2 := newReleased(), newReleased()
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := begin(ctx, s, fleet.CallRequest{}, fleet.CallHooks{Released: rel.hook})
	stays := begin(t.Context(), s, fleet.CallRequest{}, fleet.CallHooks{Released: rel2.hook})
	eventually(t, func() string { // both wait
		waiting := 0
		c.mu.Lock()
		defer c.mu.Unlock()
		for e := range c.open {
			st := e.(*callStream)
			st.mu.Lock()
			waiting += len(st.calls)
			st.mu.Unlock()
		}
		if waiting < 2 {
			return "the calls are not there yet"
		}
		return ""
	})
	cancel(context.Canceled)
	if a := get(t, gone); !errors.Is(a.err, context.Canceled) {
		t.Errorf("the cancelled call gave %v", a.err)
	}
	rel.is(t, -1)
	c.Fail(errors.New("gone from the ring"))
	if a := get(t, stays); !errors.Is(a.err, fleet.ErrNotDelivered) || errors.Is(a.err, fleet.ErrReplicaLost) {
		t.Errorf("the waiting call gave %v", a.err)
	}
	rel2.is(t, -1)
}

// Calls that a worker has, when the way breaks, are lost; the cancelled ones
// among them too. The next call finds a new way.
func TestWayBreaks(t *testing.T) {
	for _, how := range []string{"fail", "connection cut", "close"} {
		t.Run(how, func(t *testing.T) {
			sc := newScript()
			var mu sync.Mutex
			var conns []net.Conn
			s := start(t, sc.worker(), func(_ *ServerConfig, cc *ClientConfig) {
				cc.DialOptions = append(cc.DialOptions, grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
					conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
					mu.Lock()
					conns = append(conns, conn)
					mu.Unlock()
					return conn, err
				}))
			})
			rel, relCancelled := newReleased(), newReleased()
			ctx, cancel := context.WithCancel(t.Context())
			first := begin(ctx, s, fleet.CallRequest{}, fleet.CallHooks{Released: relCancelled.hook})
			held := get(t, sc.calls)
			cancel()
			get(t, first)
			get(t, held.cancel)
			second := begin(t.Context(), s, fleet.CallRequest{}, fleet.CallHooks{Released: rel.hook})
			running := get(t, sc.calls)

			switch how {
			case "fail":
				s.Fail(errors.New("gone from the ring"))
			case "connection cut":
				mu.Lock()
				for _, c := range conns {
					c.Close()
				}
				mu.Unlock()
			case "close":
				s.Close()
			}
			a := get(t, second)
			if !errors.Is(a.err, fleet.ErrReplicaLost) || errors.Is(a.err, fleet.ErrNotDelivered) {
				t.Errorf("the running call gave %v, want it lost", a.err)
			}
			if how == "fail" && !strings.Contains(a.err.Error(), "gone from the ring") {
				t.Errorf("%q does not say why", a.err)
			}
			rel.is(t, -1)
			get(t, relCancelled.any)
			relCancelled.is(t, -1)
			if timeout := get(t, running.cancel); timeout {
				t.Error("the worker was told of a timeout")
			}
			freed := make(chan struct{}) // its stream is gone: nobody wants the answer
			running.events(fleet.CallEvent{Kind: fleet.CallReply, Result: payload(largeBytes + 1), Free: func() { close(freed) }})
			get(t, freed)

			if how == "close" {
				if _, err := s.Call(t.Context(), fleet.CallRequest{}, fleet.CallHooks{}); !errors.Is(err, fleet.ErrNotDelivered) {
					t.Errorf("a call after Close gave %v", err)
				}
				return
			}
			eventually(t, func() string {
				next := begin(t.Context(), s, fleet.CallRequest{}, fleet.CallHooks{})
				select {
				case a := <-next:
					return fmt.Sprint("no new way: ", a.err)
				case c := <-sc.calls:
					c.reply("1")
					if a := get(t, next); a.err != nil {
						return a.err.Error()
					}
					return ""
				}
			})
		})
	}
}

// The worker stops in order: answers that are ready are sent, and the rest is
// lost.
func TestServerStops(t *testing.T) {
	sc := newScript()
	s := start(t, sc.worker())
	answered := begin(t.Context(), s, fleet.CallRequest{Replica: "a"}, fleet.CallHooks{})
	c := get(t, sc.calls)
	c.reply("1")
	if a := get(t, answered); a.err != nil {
		t.Fatal(a.err)
	}
	lost := begin(t.Context(), s, fleet.CallRequest{Replica: "b"}, fleet.CallHooks{})
	get(t, sc.calls)
	s.stop()
	if a := get(t, lost); !errors.Is(a.err, fleet.ErrReplicaLost) {
		t.Errorf("the call that was not answered gave %v", a.err)
	}
	get(t, s.ended)
	if _, err := s.Call(t.Context(), fleet.CallRequest{}, fleet.CallHooks{}); !errors.Is(err, fleet.ErrNotDelivered) {
		t.Errorf("a call to a stopped worker gave %v", err)
	}
}

// A worker that stops in order takes nothing that is still on its way. Those
// calls are not delivered, and may be made elsewhere.
func TestServerStopsBeforeCallsArrive(t *testing.T) {
	busy := make(chan struct{})
	w := &fakeWorker{call: func(r fleet.CallRequest, events func(fleet.CallEvent)) func(bool) {
		cancel := echo(r, events)
		<-busy // the stream's reader gets no further
		return cancel
	}}
	s := start(t, w, func(_ *ServerConfig, cc *ClientConfig) { cc.Streams = 1 })
	taken := begin(t.Context(), s, fleet.CallRequest{Params: []byte("1")}, fleet.CallHooks{})
	if a := get(t, taken); a.err != nil {
		t.Fatal(a.err)
	}
	rel := newReleased()
	onTheWay := begin(t.Context(), s, fleet.CallRequest{Params: []byte("2")}, fleet.CallHooks{Released: rel.hook})
	eventually(t, func() string {
		st := s.lanes[0].cur.Load()
		st.mu.Lock()
		defer st.mu.Unlock()
		for _, p := range st.calls {
			if p.state == handed && !st.sending {
				return ""
			}
		}
		return "the call is not on its way"
	})
	s.stop()
	a := get(t, onTheWay)
	close(busy)
	if !errors.Is(a.err, fleet.ErrNotDelivered) {
		t.Errorf("the call that the worker did not take gave %v", a.err)
	}
	rel.is(t, -1)
}

// A worker that stops in order keeps a large result until it is fetched, even if
// the fetch comes when it has nothing else to do.
func TestServerStopsBeforeAFetch(t *testing.T) {
	sc := newScript()
	answered, fetch := make(chan struct{}), make(chan struct{})
	s := start(t, sc.worker(), func(_ *ServerConfig, cc *ClientConfig) {
		cc.DialOptions = append(cc.DialOptions, grpc.WithStreamInterceptor(
			func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
				if strings.HasSuffix(method, "/FetchResult") {
					close(answered)
					<-fetch
				}
				return open(ctx, desc, cc, method, opts...)
			}))
	})
	got := begin(t.Context(), s, fleet.CallRequest{}, fleet.CallHooks{})
	get(t, sc.calls).events(fleet.CallEvent{Kind: fleet.CallReply, Result: payload(largeBytes + 1)})
	get(t, answered)
	s.stop()
	select {
	case <-s.ended:
		t.Error("the worker did not wait for the fetch")
	case <-time.After(100 * time.Millisecond):
	}
	close(fetch)
	a := get(t, got)
	if a.err != nil {
		t.Fatal(a.err)
	}
	if n, err := discard(a.Stream); err != nil || n != largeBytes+1 {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

func TestLargeParams(t *testing.T) {
	s := start(t, &fakeWorker{})
	want := payload(5 << 20)
	rel := newReleased()
	res, err := s.Call(t.Context(), fleet.CallRequest{Params: want}, fleet.CallHooks{Released: rel.hook})
	if err != nil {
		t.Fatal(err)
	}
	if res.StreamSize != int64(len(want)) {
		t.Errorf("the result's size is %d, want %d", res.StreamSize, len(want))
	}
	got, err := io.ReadAll(res.Stream)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes came back, want %d; %v", len(got), len(want), err)
	}
	if err := res.Stream.Close(); err != nil {
		t.Error(err)
	}
	rel.is(t, 3)
	eventually(t, s.leftovers)
}

// A large result that is read slowly delays no other call, and its bytes
// count until they are sent.
func TestLargeResultSlowReader(t *testing.T) {
	const size = 64 << 20
	var freed atomic.Bool
	s := start(t, &fakeWorker{call: func(r fleet.CallRequest, events func(fleet.CallEvent)) func(bool) {
		if string(r.Params) != "large" {
			return echo(r, events)
		}
		events(fleet.CallEvent{Kind: fleet.CallReply, Result: bytes.Repeat([]byte("ab"), size/2), Free: func() { freed.Store(true) }})
		return func(bool) {}
	}}, func(_ *ServerConfig, cc *ClientConfig) { cc.Streams = 1 })
	res, err := s.Call(t.Context(), fleet.CallRequest{Params: []byte("large")}, fleet.CallHooks{})
	if err != nil {
		t.Fatal(err)
	}
	var sum int64
	buf := make([]byte, 1000)
	for range 200 {
		n, err := res.Stream.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		sum += int64(n)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if _, err := s.Call(ctx, fleet.CallRequest{Params: []byte("1")}, fleet.CallHooks{}); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
	if freed.Load() {
		t.Error("the result was given back before it was sent")
	}
	n, err := discard(res.Stream)
	if sum += n; err != nil || sum != size {
		t.Errorf("read %d of %d bytes, %v", sum, size, err)
	}
	eventually(t, func() string {
		if !freed.Load() {
			return "the result was not given back"
		}
		return s.leftovers()
	})
}

func TestLargeError(t *testing.T) {
	sc := newScript()
	s := start(t, sc.worker())
	got := begin(t.Context(), s, fleet.CallRequest{}, fleet.CallHooks{})
	want := payload(1 << 20)
	get(t, sc.calls).events(fleet.CallEvent{Kind: fleet.CallReply, Error: want})
	if a := get(t, got); a.err != nil || !bytes.Equal(a.Error, want) || a.Stream != nil {
		t.Errorf("Call gave %d bytes of error, %v, want %d", len(a.Error), a.err, len(want))
	}
	eventually(t, s.leftovers)
}

// A reader of a large result learns that its worker is gone, and a reader that
// goes away gives the worker its bytes back.
func TestLargeResultBroken(t *testing.T) {
	for _, how := range []string{"fail", "reader closes", "context ends after the call"} {
		t.Run(how, func(t *testing.T) {
			freed := make(chan struct{})
			s := start(t, &fakeWorker{call: func(r fleet.CallRequest, events func(fleet.CallEvent)) func(bool) {
				events(fleet.CallEvent{Kind: fleet.CallReply, Result: bytes.Repeat([]byte("ab"), 16<<20), Free: func() { close(freed) }})
				return func(bool) {}
			}})
			ctx, cancel := context.WithCancel(t.Context())
			res, err := s.Call(ctx, fleet.CallRequest{}, fleet.CallHooks{})
			if err != nil {
				t.Fatal(err)
			}
			cancel()
			switch how {
			case "fail":
				s.Fail(errors.New("gone from the ring"))
				if _, err := discard(res.Stream); !errors.Is(err, fleet.ErrReplicaLost) || !strings.Contains(err.Error(), "gone from the ring") {
					t.Errorf("reading on gave %v", err)
				}
			case "reader closes":
				res.Stream.Close()
			default: // the caller's context was for the call
				if n, err := discard(res.Stream); err != nil || n != 32<<20 {
					t.Errorf("read %d bytes, %v", n, err)
				}
			}
			get(t, freed)
			eventually(t, s.leftovers)
		})
	}
}

// A result of a size that is on its way in any case has come when Call returns:
// that its worker is lost then is nobody's loss.
func TestLargeResultIsWhole(t *testing.T) {
	for _, size := range []int{largeBytes + 1, 3*chunkBytes + 7, streamWindow} {
		s := start(t, &fakeWorker{})
		want := payload(size)
		res, err := s.Call(t.Context(), fleet.CallRequest{Params: want}, fleet.CallHooks{})
		if err != nil {
			t.Fatal(err)
		}
		s.Fail(errors.New("gone from the ring"))
		if got, err := io.ReadAll(res.Stream); err != nil || !bytes.Equal(got, want) || res.StreamSize != int64(size) {
			t.Errorf("read %d of %d bytes, %v", len(got), size, err)
		}
		eventually(t, s.leftovers)
	}
}

// A call's pending may be another call's as soon as the call has ended, which
// Fail does while events still come.
func TestEventsAfterFailTouchNoOtherCall(t *testing.T) {
	for range 200 {
		s := &callStream{cancel: func(error) {}, wake: make(chan struct{}, 1), calls: map[uint64]*pending{}}
		p := newPending()
		p.id, p.state, p.hooks.Progress = 1, handed, func() {}
		s.calls[1] = p
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 20 {
				s.handle(&event{id: 1, kind: fleet.CallProgress})
			}
		})
		wg.Go(func() { s.end(errors.New("gone")) })
		if out := <-p.done; !out.reusable {
			t.Fatalf("the call ended with %+v", out)
		}
		p.hooks = fleet.CallHooks{Progress: func() { t.Error("another call made progress") }}
		wg.Wait()
	}
}

// Close waits for nothing that may never come.
func TestCloseOfAStuckConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		// A worker that said hello, gave a window that holds all, and was paused.
		const settings, windowUpdate = "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x40\x00\x00\x00", "\x00\x00\x04\x08\x00\x00\x00\x00\x00\x40\x00\x00\x00"
		_, _ = io.WriteString(conn, settings+windowUpdate)
		accepted <- conn
	}()
	c, err := Dial(l.Addr().String(), ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, fleet.ErrTimeout)
	defer cancel()
	params := payload(8 << 20) // more than sockets hold, twice
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if _, err := c.Call(ctx, fleet.CallRequest{Params: params}, fleet.CallHooks{}); !errors.Is(err, fleet.ErrTimeout) {
				t.Errorf("Call gave %v", err)
			}
		})
	}
	all.Wait()
	defer get(t, accepted).Close()
	begun := time.Now()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("Close took %v", took)
	}
}

func TestLargeResultNotFetched(t *testing.T) {
	freed := make(chan struct{}, 1)
	r := newResults(time.Millisecond, slog.New(slog.DiscardHandler))
	token := r.put(fleet.Trace{}, []byte("x"), func() { freed <- struct{}{} }, func() {})
	get(t, freed)
	if r.take(token) != nil {
		t.Error("an expired result was taken")
	}
	r = newResults(time.Hour, slog.New(slog.DiscardHandler))
	a, b := r.put(fleet.Trace{}, []byte("a"), nil, func() {}), r.put(fleet.Trace{}, []byte("b"), func() { freed <- struct{}{} }, func() {})
	if h := r.take(a); h == nil || string(h.data) != "a" || r.take(a) != nil || len(a) < 32 || a == b {
		t.Errorf("tokens %q and %q: a result is there for whoever knows it, once", a, b)
	}
	r.close()
	get(t, freed)
}

// A server that reports progress without end fills no queue.
func TestProgressIsBounded(t *testing.T) {
	c := &callServer{live: map[uint64]*liveCall{}, wake: make(chan struct{}, 1)}
	call := new(liveCall)
	for range 1000 {
		c.event(1, call, fleet.CallEvent{Kind: fleet.CallProgress})
	}
	batch, _ := c.take(nil)
	c.event(1, call, fleet.CallEvent{Kind: fleet.CallProgress})
	again, _ := c.take(nil)
	if len(batch) != 1 || len(again) != 1 {
		t.Errorf("%d, then %d progress events are queued, want 1 each time", len(batch), len(again))
	}
}

// Nor does one that sends notifications without end, be they many or large.
func TestNotificationsAreBounded(t *testing.T) {
	c := &callServer{live: map[uint64]*liveCall{}, wake: make(chan struct{}, 1)}
	for name, tc := range map[string]struct{ size, kept int }{
		"many":      {10, maxNotes},
		"large":     {maxNotesSize/4 - 1, 4},
		"too large": {maxNotesSize + 1, 0},
	} {
		call := new(liveCall)
		pad := strings.Repeat("x", tc.size-5)
		for i := range 100 {
			c.event(1, call, fleet.CallEvent{Kind: fleet.CallNotification, Method: "m", Params: fmt.Appendf(nil, "%04d%s", i, pad)})
		}
		if len(c.queue) > 1 {
			t.Errorf("%s: %d events are queued", name, len(c.queue))
		}
		c.event(1, call, fleet.CallEvent{Kind: fleet.CallReply})
		var batch []queuedEvent
		for more, _ := c.take(nil); len(more) > 0; more, _ = c.take(nil) {
			batch = append(batch, more...)
		}
		notes := batch[:len(batch)-1]
		if batch[len(notes)].Kind != fleet.CallReply || len(notes) != tc.kept || call.notes != nil || call.notesSize != 0 {
			t.Errorf("%s: %d notifications before the reply, want %d", name, len(notes), tc.kept)
		}
		if len(notes) > 1 && (string(notes[0].Params[:4]) != "0000" || string(notes[len(notes)-1].Params[:4]) != "0099") {
			t.Errorf("%s: neither the first nor the newest was kept", name)
		}
	}
}

// The caller's bytes are its own again when Call has returned, and the
// worker's are the worker's.
func TestManyCallersGetTheirOwn(t *testing.T) {
	s := start(t, &fakeWorker{})
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			buf := make([]byte, 0, 40000)
			for j := range 100 {
				buf = fmt.Appendf(buf[:0], "%d/%d/%s", i, j, strings.Repeat("x", (i*j*37)%30000))
				res, err := s.Call(t.Context(), fleet.CallRequest{Params: buf}, fleet.CallHooks{})
				if err != nil {
					t.Error(err)
					return
				}
				if !bytes.Equal(res.Result, buf) {
					t.Errorf("caller %d got %.20q instead of %.20q", i, res.Result, buf)
					return
				}
			}
		})
	}
	wg.Wait()
}

// eventually polls what nothing announces, till check has nothing to say.
func eventually(t *testing.T, check func() string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for {
		why := check()
		if why == "" {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(why)
		}
	}
}

// Calls with large arguments take the streams of those that are over, of which
// few are kept, and which end with the connection.
func TestSpareStreams(t *testing.T) {
	s := start(t, &fakeWorker{})
	call := func() {
		res, err := s.Call(t.Context(), fleet.CallRequest{Params: payload(largeBytes + 1)}, fleet.CallHooks{})
		if err != nil {
			t.Error(err)
		} else if res.Stream != nil {
			res.Stream.Close()
		}
	}
	for range 3 {
		call()
	}
	if spare := len(s.spare); spare != 1 {
		t.Errorf("%d streams are kept after three calls, one after the other", spare)
	}
	var callers sync.WaitGroup
	for range 4 * maxSpare {
		callers.Go(call)
	}
	callers.Wait()
	eventually(t, s.leftovers)
	s.mu.Lock()
	spare := slices.Clone(s.spare)
	s.mu.Unlock()
	if len(spare) > maxSpare {
		t.Errorf("%d streams are kept", len(spare))
	}
	s.end(errors.New("the connection broke"))
	call()
	for _, old := range spare {
		if slices.Contains(s.spare, old) {
			t.Error("a broken stream was taken again")
		}
	}
}

// Few calls share one lane, more calls use all of them, and long arguments stay
// out of the way of short ones.
func TestLanes(t *testing.T) {
	sc := newScript()
	s := start(t, sc.worker())
	used := func() (n int) {
		for i := range s.lanes {
			if s.lanes[i].cur.Load() != nil {
				n++
			}
		}
		return n
	}
	var calls []<-chan answer
	for range callsPerLane - 1 {
		calls = append(calls, begin(t.Context(), s, fleet.CallRequest{}, fleet.CallHooks{}))
		get(t, sc.calls)
	}
	if n := used(); n != 1 {
		t.Errorf("%d calls use %d lanes", len(calls), n)
	}
	calls = append(calls, begin(t.Context(), s, fleet.CallRequest{Params: payload(directBytes)}, fleet.CallHooks{}))
	get(t, sc.calls)
	if n := used(); n != 2 || s.lanes[len(s.lanes)-1].cur.Load() == nil {
		t.Errorf("with long arguments %d lanes are used", n)
	}
	for len(calls) < 8*callsPerLane {
		calls = append(calls, begin(t.Context(), s, fleet.CallRequest{}, fleet.CallHooks{}))
		get(t, sc.calls)
	}
	if n := used(); n != len(s.lanes) {
		t.Errorf("%d calls use %d lanes", len(calls), n)
	}
	s.end(errors.New("enough"))
	for _, c := range calls {
		get(t, c)
	}
}
