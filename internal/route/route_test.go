package route

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// worker is a backend whose calls the test answers.
type worker struct {
	name  string
	mu    sync.Mutex
	calls []*delivery // those that nobody has answered yet
	seen  int
}

// delivery is one call that reached a worker.
type delivery struct {
	req    fleet.CallRequest
	hooks  fleet.CallHooks
	answer chan outcome
}

type outcome struct {
	res  fleet.CallResult
	err  error
	left int // calls that remain on the replica
}

func (w *worker) Call(ctx context.Context, req fleet.CallRequest, hooks fleet.CallHooks) (fleet.CallResult, error) {
	d := &delivery{req: req, hooks: hooks, answer: make(chan outcome, 1)}
	w.mu.Lock()
	w.calls = append(w.calls, d)
	w.seen++
	w.mu.Unlock()
	select {
	case o := <-d.answer:
		hooks.Released(o.left)
		return o.res, o.err
	case <-ctx.Done(): // the slot stays held until the test releases it
		return fleet.CallResult{}, context.Cause(ctx)
	}
}

// next waits for a call to arrive and takes it.
func (w *worker) next(t *testing.T) *delivery {
	t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.calls) == 0 {
		t.Fatalf("no call arrived at %s", w.name)
	}
	d := w.calls[0]
	w.calls = w.calls[1:]
	return d
}

func (w *worker) waiting() bool {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.calls) > 0
}

func (w *worker) total() int {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

func (d *delivery) ok()            { d.answer <- outcome{res: fleet.CallResult{Result: d.req.Params}} }
func (d *delivery) fail(err error) { d.answer <- outcome{err: fmt.Errorf("fake: %w", err), left: -1} }

// pending is a call under way.
type pending struct {
	done   chan struct{}
	res    fleet.CallResult
	err    error
	cancel context.CancelFunc
}

func (p *pending) wait(t *testing.T) (string, error) {
	t.Helper()
	<-p.done
	return string(p.res.Result), p.err
}

func (p *pending) isDone() bool {
	synctest.Wait()
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

type bench struct {
	*testing.T
	router *Router
	view   Server
}

func newBench(t *testing.T, view Server) *bench {
	view.Name = "s"
	if view.MaxOngoing == 0 {
		view.MaxOngoing = 1
	}
	if view.MaxQueued == 0 {
		view.MaxQueued = 10
	}
	b := &bench{T: t, router: New(Config{}), view: view}
	b.update()
	return b
}

func (b *bench) update() { b.router.Update([]Server{b.view}) }

func (b *bench) replicas(rs ...Replica) {
	b.view.Replicas = rs
	b.update()
}

func (b *bench) call(params string, change ...func(*fleet.Call)) *pending {
	b.Helper()
	c := fleet.Call{Server: "s", Method: "tools/call", Params: []byte(params)}
	for _, f := range change {
		f(&c)
	}
	ctx, cancel := context.WithCancel(b.Context())
	p := &pending{done: make(chan struct{}), cancel: cancel}
	go func() {
		defer close(p.done)
		defer cancel()
		p.res, p.err = b.router.Call(ctx, c)
	}()
	synctest.Wait()
	return p
}

func repeatable(c *fleet.Call) { c.Idempotent = true }

func (b *bench) counts(queued, ongoing int) {
	b.Helper()
	synctest.Wait()
	q, o := (*b.router.servers.Load())["s"].counts()
	if q != queued || o != ongoing {
		b.Errorf("%d queued and %d ongoing, want %d and %d", q, o, queued, ongoing)
	}
}

func wantErr(t *testing.T, p *pending, kind error, words ...string) {
	t.Helper()
	synctest.Wait()
	select {
	case <-p.done:
	default:
		t.Errorf("the call still waits, want %v", kind)
		return
	}
	if !errors.Is(p.err, kind) {
		t.Errorf("got %v, want %v", p.err, kind)
		return
	}
	for _, w := range words {
		if !strings.Contains(p.err.Error(), w) {
			t.Errorf("got %q, want it to contain %q", p.err, w)
		}
	}
}

func wantResult(t *testing.T, p *pending, want string) {
	t.Helper()
	synctest.Wait()
	select {
	case <-p.done:
	default:
		t.Fatalf("the call still waits, want %q", want)
	}
	if string(p.res.Result) != want || p.err != nil {
		t.Errorf("got %q, %v; want %q", p.res.Result, p.err, want)
	}
}

func one(w *worker) []Replica { return []Replica{{ID: "r1", Backend: w}} }

func TestFIFOAndBound(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{Replicas: one(w), MaxQueued: 3})
		var calls []*pending
		for i := range 4 {
			calls = append(calls, b.call(fmt.Sprint(i)))
		}
		b.counts(3, 1)
		over := b.call("4")
		wantErr(t, over, fleet.ErrOverloaded, `server "s"`, "3 calls")
		var r interface{ RetryAfter() time.Duration }
		if !errors.As(over.err, &r) || r.RetryAfter() < time.Second {
			t.Errorf("%v carries no Retry-After", over.err)
		}
		for i, p := range calls {
			d := w.next(t)
			if string(d.req.Params) != fmt.Sprint(i) {
				t.Errorf("call %s came as number %d", d.req.Params, i)
			}
			d.ok()
			wantResult(t, p, fmt.Sprint(i))
		}
		b.counts(0, 0)
	})
}

func TestAdmit(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{Replicas: one(w), MaxQueued: 2})
		admit := func(name fleet.ServerName, want error) {
			t.Helper()
			if err := b.router.Admit(name); !errors.Is(err, want) {
				t.Errorf("Admit(%q) = %v, want %v", name, err, want)
			}
		}
		running := b.call("0")
		admit("s", nil)
		waiting := []*pending{b.call("1"), b.call("2")}
		b.counts(2, 1)
		admit("s", fleet.ErrOverloaded)
		admit("", fleet.ErrOverloaded) // the only server
		admit("other", nil)            // the catalogue says what is wrong with it
		b.router.Update([]Server{b.view, {Name: "t", MaxOngoing: 1, MaxQueued: 2}})
		admit("s", fleet.ErrOverloaded)
		admit("", nil) // it may be for the other one
		for i, p := range append([]*pending{running}, waiting...) {
			w.next(t).ok()
			wantResult(t, p, fmt.Sprint(i))
			admit("s", nil)
		}
	})
	bubble.Test(t, func(t *testing.T) {
		b := newBench(t, Server{Replicas: one(&worker{})})
		b.view.MaxQueued = 0 // no call may wait, but there is a slot
		b.update()
		if err := b.router.Admit("s"); err != nil {
			t.Errorf("Admit = %v with a free replica, want nil", err)
		}
	})
}

func TestRetryAfterFollowsTheQueue(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{Replicas: one(w), MaxQueued: 1, CallTimeout: time.Hour, MaxCallDuration: 10 * time.Hour})
		for range 30 {
			p := b.call("x")
			time.Sleep(10 * time.Second)
			w.next(t).ok()
			wantResult(t, p, "x")
		}
		b.call("a")
		b.call("b")
		over := b.call("c")
		wantErr(t, over, fleet.ErrOverloaded)
		var r interface{ RetryAfter() time.Duration }
		if !errors.As(over.err, &r) || r.RetryAfter() < 15*time.Second || r.RetryAfter() > 20*time.Second {
			t.Errorf("two calls of 10 s ahead, Retry-After %v", r.RetryAfter())
		}
		w.next(t).ok()
		w.next(t).ok()
	})
}

func TestLeastLoad(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w1, w2 := &worker{name: "w1"}, &worker{name: "w2"}
		b := newBench(t, Server{MaxOngoing: 4, Replicas: []Replica{
			{ID: "r1", Backend: w1, Ongoing: 2}, // by another controller
			{ID: "r2", Backend: w2},
		}})
		first := b.call("1")
		second := b.call("2")
		if w1.total() != 0 || w2.total() != 2 {
			t.Fatalf("r1 got %d, r2 got %d; want 0 and 2", w1.total(), w2.total())
		}
		// The reply says that nine more run there: now r1 is the least loaded.
		w2.next(t).answer <- outcome{res: fleet.CallResult{Result: []byte("1")}, left: 10}
		wantResult(t, first, "1")
		third := b.call("3")
		if w1.total() != 1 {
			t.Errorf("r1 got %d calls, want 1", w1.total())
		}
		// A repeated old report changes nothing, a new one does.
		b.update()
		b.call("4")
		if w1.total() != 2 {
			t.Errorf("r1 got %d calls, want 2", w1.total())
		}
		b.replicas(Replica{ID: "r1", Backend: w1, Ongoing: 2}, Replica{ID: "r2", Backend: w2, Ongoing: 1})
		b.call("5")
		if w2.total() != 3 {
			t.Errorf("r2 got %d calls, want 3", w2.total())
		}
		for _, w := range []*worker{w1, w1, w2, w2} {
			w.next(t).ok()
		}
		<-second.done
		<-third.done
	})
}

// Load from elsewhere ranks but does not bound: it is known too roughly, and
// nothing would tell when it is gone.
func TestForeignLoadDoesNotBlock(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{MaxOngoing: 2, Replicas: []Replica{{ID: "r1", Backend: w, Ongoing: 50}}})
		b.call("1")
		b.call("2")
		b.call("3")
		b.counts(1, 2)
		for range 3 {
			w.next(t).ok()
		}
		b.counts(0, 0)
	})
}

func TestTimeoutHoldsTheSlot(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{Replicas: one(w), CallTimeout: time.Second})
		hung := b.call("hung")
		waits := b.call("waits", func(c *fleet.Call) { c.Timeout = 500 * time.Millisecond })
		time.Sleep(600 * time.Millisecond)
		wantErr(t, waits, fleet.ErrTimeout, "500ms", "waiting for a free replica")
		if w.total() != 1 {
			t.Errorf("%d calls were delivered, want 1", w.total())
		}
		time.Sleep(400 * time.Millisecond)
		wantErr(t, hung, fleet.ErrTimeout, "after 1s")
		b.counts(0, 1)
		next := b.call("next")
		b.counts(1, 1)
		d := w.next(t)
		d.hooks.Released(0)
		b.counts(0, 1)
		d.hooks.Released(0) // twice is once
		b.counts(0, 1)
		w.next(t).ok()
		wantResult(t, next, "next")
		b.counts(0, 0)
	})
}

func TestCallerLeaves(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{Replicas: one(w)})
		running := b.call("1")
		queued, last := b.call("2"), b.call("3")
		queued.cancel()
		wantErr(t, queued, context.Canceled)
		b.counts(1, 1)
		running.cancel()
		wantErr(t, running, context.Canceled)
		b.counts(1, 1) // its slot is held
		w.next(t).hooks.Released(0)
		w.next(t).ok()
		wantResult(t, last, "3")
		b.counts(0, 0)
	})
}

// A slot that comes just when its caller leaves is given on.
func TestSlotComesAsTheCallerLeaves(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{Replicas: one(w)})
		for range 50 {
			b.call("1")
			p := b.call("2")
			d := w.next(t)
			go d.ok()
			go p.cancel()
			<-p.done
			if w.total()%2 == 0 { // it got the slot first
				w.next(t).hooks.Released(0)
			}
			b.counts(0, 0)
			w.seen = 0
		}
	})
}

func TestNotificationsReachTheCaller(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{Replicas: one(w)})
		var got string
		p := b.call("x", func(c *fleet.Call) {
			c.Notification = func(method string, params []byte) { got = method + string(params) }
		})
		d := w.next(t)
		d.hooks.Notification("m", []byte("1"))
		d.ok()
		wantResult(t, p, "x")
		if got != "m1" {
			t.Errorf("the caller was notified of %q", got)
		}
	})
}

func TestProgressMovesTheDeadline(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{Replicas: one(w), MaxOngoing: 5, CallTimeout: time.Second, MaxCallDuration: 5 * time.Second})
		start := time.Now()
		p := b.call("x")
		d := w.next(t)
		for range 4 {
			time.Sleep(900 * time.Millisecond)
			d.hooks.Progress()
		}
		if p.isDone() {
			t.Fatalf("ended after %v: %v", time.Since(start), p.err)
		}
		_, err := p.wait(t)
		if took := time.Since(start); !errors.Is(err, fleet.ErrTimeout) || took != 4600*time.Millisecond {
			t.Errorf("ended after %v with %v, want 4.6s after the last progress", took, err)
		}
		d.hooks.Progress() // late: changes nothing

		start = time.Now()
		p = b.call("y")
		d = w.next(t)
		for !p.isDone() {
			time.Sleep(500 * time.Millisecond)
			d.hooks.Progress()
		}
		if took := time.Since(start); !errors.Is(p.err, fleet.ErrTimeout) || took != 5*time.Second {
			t.Errorf("ended after %v with %v, want 5s, the longest duration", took, p.err)
		}

		start = time.Now()
		p = b.call("z", func(c *fleet.Call) { c.Timeout = time.Minute }) // longer than allowed
		_, err = p.wait(t)
		if took := time.Since(start); !errors.Is(err, fleet.ErrTimeout) || took != time.Second {
			t.Errorf("ended after %v with %v, want the server's 1s", took, err)
		}
	})
}

func TestRetryOnlyWhatIsSafe(t *testing.T) {
	cases := []struct {
		name       string
		err        error
		repeatable bool
		again      bool
	}{
		{"refused", fleet.ErrNotDelivered, false, true},
		{"lost", fleet.ErrReplicaLost, false, false},
		{"lost, repeatable", fleet.ErrReplicaLost, true, true},
		{"lost with its worker", fleet.ErrWorkerLost, false, false},
		{"lost with its worker, repeatable", fleet.ErrWorkerLost, true, true},
		{"bad reply", fleet.ErrBadReply, true, false},
		{"overloaded", fleet.ErrOverloaded, true, false},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				// Any of them may be first, the other must be second.
				w := &worker{}
				b := newBench(t, Server{MaxOngoing: 5, Replicas: []Replica{{ID: "r1", Backend: w}, {ID: "r2", Backend: w}}})
				p := b.call("x", func(c *fleet.Call) { c.Idempotent = tc.repeatable })
				d := w.next(t)
				first := d.req.Replica
				d.fail(tc.err)
				if !tc.again {
					wantErr(t, p, tc.err, "replica "+string(first))
					b.counts(0, 0)
					return
				}
				d = w.next(t)
				if d.req.Replica == first {
					t.Errorf("sent to %s again", first)
				}
				d.ok()
				wantResult(t, p, "x")
			})
		})
	}
}

func TestRepeatsAreBounded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{Replicas: []Replica{{ID: "r1", Backend: w}, {ID: "r2", Backend: w}, {ID: "r3", Backend: w}, {ID: "r4", Backend: w}}})
		p := b.call("x", func(c *fleet.Call) { c.Idempotent = true })
		tried := map[fleet.ReplicaID]bool{}
		for i := range 5 {
			if i >= 4 { // all are suspects
				time.Sleep(tryAgainAfter)
			}
			d := w.next(t)
			if i%2 == 1 { // in between it reached nobody: that is no repeat
				d.fail(fleet.ErrNotDelivered)
				continue
			}
			tried[d.req.Replica] = true
			d.fail(fleet.ErrWorkerLost)
		}
		wantErr(t, p, fleet.ErrReplicaLost)
		if len(tried) < 2 || w.total() != 5 {
			t.Errorf("%d deliveries, lost on %v; want five on several", w.total(), tried)
		}
		b.counts(0, 0)
	})
}

func TestReroutesAreBounded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{CallTimeout: time.Hour, Replicas: []Replica{{ID: "r1", Backend: w}, {ID: "r2", Backend: w}}})
		p := b.call("x")
		for i := range maxReroutes + 1 {
			if i >= 2 {
				time.Sleep(skipFor)
			}
			w.next(t).fail(fleet.ErrNotDelivered)
		}
		wantErr(t, p, fleet.ErrNotDelivered)
		b.counts(0, 0)
	})
}

// A whole worker stops, and the news of it take a while: a call that all its
// replicas have refused waits for the news.
func TestRefusedByAllWaitsForNews(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		stopping, other := &worker{name: "stopping"}, &worker{name: "other"}
		var all []Replica
		for i := range 4 {
			all = append(all, Replica{ID: fleet.ReplicaID(fmt.Sprint("r", i)), Backend: stopping})
		}
		b := newBench(t, Server{Replicas: all})
		p := b.call("x")
		refuse := func() {
			for stopping.waiting() {
				stopping.next(t).fail(fleet.ErrNotDelivered)
			}
		}
		for range 10 {
			refuse()
			time.Sleep(tryAgainAfter)
		}
		refuse()
		if p.isDone() {
			_, err := p.wait(t)
			t.Fatalf("after a second the call gave %v", err)
		}
		b.replicas(Replica{ID: "new", Backend: other})
		other.next(t).ok()
		wantResult(t, p, "x")
	})
}

// A worker that lost its connection takes all its replicas with it: the retry
// goes to another worker though it is busier, and so do new calls.
func TestRetryPrefersAnotherWorker(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		dead, alive := &worker{name: "dead"}, &worker{name: "alive"}
		b := newBench(t, Server{MaxOngoing: 9, Replicas: []Replica{
			{ID: "d1", Backend: dead}, {ID: "d2", Backend: dead}, {ID: "d3", Backend: dead}, {ID: "d4", Backend: dead},
			{ID: "a1", Backend: alive, Ongoing: 5},
		}})
		p := b.call("x")
		dead.next(t).fail(fleet.ErrNotDelivered)
		alive.next(t).ok()
		wantResult(t, p, "x")
	})
}

func TestRefusedCallWaitsInFront(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{Replicas: []Replica{{ID: "r1", Backend: w}, {ID: "r2", Backend: w}}})
		b.call("a")
		b.call("b")
		d1, d2 := w.next(t), w.next(t)
		later := b.call("c")
		last := b.call("d")
		d1.fail(fleet.ErrNotDelivered)
		// The other replica is busy: it waits, while c may have the free one.
		d := w.next(t)
		if string(d.req.Params) != "c" || d.req.Replica != d1.req.Replica {
			t.Fatalf("%s went to %s", d.req.Params, d.req.Replica)
		}
		d2.ok()
		if again := w.next(t); string(again.req.Params) != string(d1.req.Params) || again.req.Replica != d2.req.Replica {
			t.Errorf("%s went to %s, want the refused call in front of those that came later", again.req.Params, again.req.Replica)
		} else {
			again.ok()
		}
		d.ok()
		wantResult(t, later, "c")
		w.next(t).ok()
		wantResult(t, last, "d")
	})
}

func TestRefusedByTheOnlyReplica(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{Replicas: one(w)})
		p := b.call("x")
		w.next(t).fail(fleet.ErrNotDelivered)
		b.counts(1, 0)           // not sent there again at once
		other := b.call("other") // while a new call may try it
		w.next(t).ok()
		wantResult(t, other, "other")
		b.counts(1, 0)
		w2 := &worker{}
		b.replicas(Replica{ID: "r2", Backend: w2})
		w2.next(t).fail(fleet.ErrNotDelivered)
		b.counts(1, 0)
		time.Sleep(tryAgainAfter) // nothing is heard: try it again
		w2.next(t).ok()
		wantResult(t, p, "x")
	})
}

func TestViewChangedDuringTheRefusal(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{Replicas: one(w)})
		p := b.call("x")
		d := w.next(t)
		b.replicas()
		b.replicas(one(w)...)
		d.fail(fleet.ErrNotDelivered)
		w.next(t).ok() // the refusal was of an older view
		wantResult(t, p, "x")

		b.replicas(Replica{ID: "r1", Backend: w}, Replica{ID: "r2", Backend: w})
		p = b.call("y")
		d = w.next(t)
		b.replicas(Replica{ID: d.req.Replica, Backend: w}) // the same one, now alone
		d.fail(fleet.ErrNotDelivered)
		w.next(t).ok()
		wantResult(t, p, "y")
	})
}

// A call that times out before any replica takes calls says why none did.
func TestTimeoutWhileTheImageIsPulled(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newBench(t, Server{MaxQueued: 9, CallTimeout: time.Second, Pending: "1 pulling the image"})
		p := b.call("1")
		err := b.router.Await(t.Context(), "s", 0, time.Now())
		if !errors.Is(err, fleet.ErrTimeout) || !strings.HasSuffix(err.Error(), "for the server to start: 1 pulling the image") {
			t.Errorf("awaited: %v", err)
		}
		synctest.Wait()
		wantErr(t, p, fleet.ErrTimeout, "waiting for a free replica: 1 pulling the image")
	})
}

func TestNoReplica(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newBench(t, Server{MaxQueued: 2, CallTimeout: time.Second})
		if _, err := b.router.Call(t.Context(), fleet.Call{Server: "other"}); !errors.Is(err, fleet.ErrUnknownServer) {
			t.Errorf("unknown server: %v", err)
		}
		p := b.call("1") // one is starting: waits
		time.Sleep(time.Second)
		wantErr(t, p, fleet.ErrTimeout, "waiting for a free replica")

		p = b.call("2")
		q := b.call("3")
		wantErr(t, b.call("4"), fleet.ErrOverloaded)
		b.view.Down = "exit code 3: no such key"
		b.update() // the start failed: also those in the queue are told
		wantErr(t, p, fleet.ErrNoReplica, "exit code 3")
		wantErr(t, q, fleet.ErrNoReplica, "exit code 3")
		wantErr(t, b.call("5"), fleet.ErrNoReplica, "exit code 3")

		b.view.Down = ""
		b.update()
		p = b.call("6")
		w := &worker{}
		b.replicas(one(w)...)
		w.next(t).ok()
		wantResult(t, p, "6")

		b.view.Down = "the newest replica did not start" // while others serve
		b.update()
		p = b.call("7")
		w.next(t).ok()
		wantResult(t, p, "7")

		b.view.Stopped = true
		b.replicas()
		wantErr(t, b.call("8"), fleet.ErrStopped, "scale it up")
	})
}

func TestRemovedServer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{Replicas: one(w)})
		running, queued := b.call("1"), b.call("2")
		b.router.Update(nil)
		wantErr(t, queued, fleet.ErrNoReplica, "removed")
		w.next(t).ok() // what runs may end
		wantResult(t, running, "1")
		if _, err := b.router.Call(t.Context(), fleet.Call{Server: "s"}); !errors.Is(err, fleet.ErrUnknownServer) {
			t.Errorf("removed server: %v", err)
		}
	})
}

func TestReplicaLeavesTheView(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{Replicas: one(w)})
		old := b.call("old")
		d := w.next(t)
		queued := b.call("queued", repeatable)
		b.replicas()
		b.counts(1, 0)
		b.replicas(Replica{ID: "r2", Backend: w})
		next := w.next(t)
		d.ok() // late, and no slot of r2's
		wantResult(t, old, "old")
		b.counts(0, 1)
		next.fail(fleet.ErrReplicaLost)
		b.replicas(Replica{ID: "r3", Backend: w})
		w.next(t).ok()
		wantResult(t, queued, "queued")
	})
}

func TestSuspectsAreUsedWhenThereIsNothingElse(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{MaxOngoing: 3, Replicas: []Replica{{ID: "r1", Backend: w}, {ID: "r2", Backend: w}}})
		p := b.call("x")
		d := w.next(t)
		bad := d.req.Replica
		d.fail(fleet.ErrNotDelivered)
		w.next(t).ok()
		wantResult(t, p, "x")
		var all []*delivery
		for range 3 { // the suspect is idle, and passed over
			b.call("y")
			all = append(all, w.next(t))
		}
		for _, d := range all {
			if d.req.Replica == bad {
				t.Errorf("a call went to %s, which has just refused one", bad)
			}
		}
		late := b.call("z")
		b.counts(1, 3)
		time.Sleep(skipFor)
		d = w.next(t)
		if d.req.Replica != bad {
			t.Errorf("went to %s, want the suspect after a while", d.req.Replica)
		}
		d.ok()
		wantResult(t, late, "z")
		for _, d := range all {
			d.ok()
		}
		b.counts(0, 0)
	})
}

// A call that comes when the suspicion has lapsed overtakes none.
func TestNobodyOvertakesAfterSuspicion(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{Replicas: []Replica{{ID: "r1", Backend: w}, {ID: "r2", Backend: w}}})
		b.call("refused")
		w.next(t).fail(fleet.ErrNotDelivered)
		busy := w.next(t)
		time.Sleep(skipFor / 2)
		first := b.call("first")
		b.counts(1, 1)
		time.Sleep(skipFor/2 + time.Millisecond)
		second := b.call("second")
		d := w.next(t)
		if string(d.req.Params) != "first" {
			t.Errorf("%s is next, want first", d.req.Params)
		}
		b.counts(1, 2)
		d.ok()
		w.next(t).ok()
		busy.ok()
		<-first.done
		<-second.done
	})
}

// A refused call looks again when its own suspicion lapses, though no other
// call and no news come.
func TestRefusedCallLooksAgain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{Replicas: []Replica{{ID: "r1", Backend: w}, {ID: "r2", Backend: w}}, CallTimeout: time.Hour, MaxCallDuration: time.Hour})
		hung := b.call("hung")
		busy := w.next(t)
		p := b.call("x")
		w.next(t).fail(fleet.ErrNotDelivered)
		b.counts(1, 1)
		time.Sleep(2 * skipFor)
		w.next(t).ok()
		wantResult(t, p, "x")
		busy.ok()
		<-hung.done
	})
}

func TestCallThatIsTooLarge(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{MaxRequestBytes: 1 << 10, Replicas: one(w)})
		fits := strings.Repeat("x", 1<<10-envelopeBytes-len("tools/call"))
		p := b.call(fits)
		w.next(t).ok()
		wantResult(t, p, fits)
		wantErr(t, b.call(fits+"x"), fleet.ErrRequestTooLarge, `server "s"`, "1025 bytes", "max_request_bytes", "1024")
		if w.total() != 1 {
			t.Errorf("%d calls were delivered, want 1", w.total())
		}
		b.view.MaxRequestBytes = 1 << 20 // in place
		b.update()
		p = b.call(fits + "x")
		w.next(t).ok()
		wantResult(t, p, fits+"x")
	})
}

func TestStreamKeepsItsContext(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var inner context.Context
		b := newBench(t, Server{CallTimeout: time.Second})
		b.replicas(Replica{ID: "r1", Backend: backendFunc{func(ctx context.Context, _ fleet.CallRequest, h fleet.CallHooks) (fleet.CallResult, error) {
			inner = ctx
			h.Released(0)
			return fleet.CallResult{Stream: io.NopCloser(strings.NewReader("large")), StreamSize: 5}, nil
		}}.ptr()})
		res, err := b.router.Call(t.Context(), fleet.Call{Server: "s"})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if inner.Err() != nil {
			t.Errorf("context ended before the stream was read: %v", context.Cause(inner))
		}
		if got, err := io.ReadAll(res.Stream); string(got) != "large" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
		_ = res.Stream.Close()
		if inner.Err() == nil {
			t.Error("context outlives the stream")
		}
	})
}

type backendFunc struct {
	f func(context.Context, fleet.CallRequest, fleet.CallHooks) (fleet.CallResult, error)
}

func (b backendFunc) ptr() *backendFunc { return &b }

func (b *backendFunc) Call(ctx context.Context, req fleet.CallRequest, h fleet.CallHooks) (fleet.CallResult, error) {
	return b.f(ctx, req, h)
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	r := New(Config{Registry: reg})
	answer := fleet.CallResult{Result: []byte("1")}
	var fail error
	r.Update([]Server{{Name: "s", Replicas: []Replica{{ID: "r1", Backend: backendFunc{func(_ context.Context, _ fleet.CallRequest, h fleet.CallHooks) (fleet.CallResult, error) {
		h.Released(0)
		return answer, fail
	}}.ptr()}}}})
	call := func() { _, _ = r.Call(t.Context(), fleet.Call{Server: "s"}) }
	call()
	call()
	answer = fleet.CallResult{Error: []byte("{}")}
	call()
	fail = fleet.ErrReplicaLost
	call()
	want := `
# HELP mcpfleet_calls_ongoing Calls from this controller that hold a slot of a replica.
# TYPE mcpfleet_calls_ongoing gauge
mcpfleet_calls_ongoing{server="s"} 0
# HELP mcpfleet_calls_queued Calls that wait for a replica, or until the tools of their server are known.
# TYPE mcpfleet_calls_queued gauge
mcpfleet_calls_queued{server="s"} 0
# HELP mcpfleet_calls_total Calls that ended, by server and outcome.
# TYPE mcpfleet_calls_total counter
mcpfleet_calls_total{code="ok",server="s"} 2
mcpfleet_calls_total{code="replica_lost",server="s"} 1
mcpfleet_calls_total{code="tool_error",server="s"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "mcpfleet_calls_ongoing", "mcpfleet_calls_queued", "mcpfleet_calls_total"); err != nil {
		t.Error(err)
	}
	r.Update(nil)
	if n, err := testutil.GatherAndCount(reg); err != nil || n != 0 {
		t.Errorf("%d series remain of a server that is gone, %v", n, err)
	}
}

// Calls that wait for a server that rests make it wanted, whichever came first:
// the call, or the news that it rests.
func TestWanted(t *testing.T) {
	for name, first := range map[string]bool{"it rests": true, "the call": false} {
		t.Run(name+" comes first", func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				b := newBench(t, Server{})
				b.router = New(Config{})
				told := func() bool { return len(b.router.look) > 0 }
				b.view.Resting = first
				b.update()
				if names := b.router.Wanted(); len(names) != 0 || told() {
					t.Errorf("before any call %v are wanted, told: %v", names, told())
				}
				p := b.call("{}")
				if !first {
					if names := b.router.Wanted(); len(names) != 0 || told() {
						t.Errorf("it does not rest, but %v are wanted, told: %v", names, told())
					}
					b.view.Resting = true
					b.update()
				}
				if names := b.router.Wanted(); len(names) != 1 || names[0] != "s" || !told() {
					t.Errorf("%v are wanted, told: %v", names, told())
				}
				w := &worker{name: "w"}
				b.replicas(Replica{ID: "r", Backend: w})
				if names := b.router.Wanted(); len(names) != 0 {
					t.Errorf("%v are wanted while nothing waits", names)
				}
				w.next(t).ok()
				if _, err := p.wait(t); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
