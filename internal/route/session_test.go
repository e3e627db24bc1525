package route

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func of(id fleet.SessionID) func(*fleet.Call) { return func(c *fleet.Call) { c.Session = id } }

// Each case begins with r1, which belongs to the session "mine", and r2, which belongs to
// nobody, of two workers and with one slot each.
func TestSessions(t *testing.T) {
	for _, tc := range []struct {
		name string
		run  func(b *bench, w1, w2 *worker)
	}{
		{"its calls wait for its replica, others pass", func(b *bench, w1, w2 *worker) {
			first, second := b.call("1", of("mine")), b.call("2", of("mine"))
			b.counts(1, 1)
			other := b.call("other")
			w2.next(b.T).ok()
			wantResult(b.T, other, "other")
			b.counts(1, 1)
			w1.next(b.T).ok()
			wantResult(b.T, first, "1")
			w1.next(b.T).ok()
			wantResult(b.T, second, "2")
		}},
		{"its replica serves no others", func(b *bench, w1, w2 *worker) {
			a, c := b.call("a"), b.call("c")
			b.counts(1, 1)
			mine := b.call("mine", of("mine"))
			b.counts(1, 2)
			w2.next(b.T).ok()
			wantResult(b.T, a, "a")
			w2.next(b.T).ok()
			wantResult(b.T, c, "c")
			w1.next(b.T).ok()
			wantResult(b.T, mine, "mine")
		}},
		{"the queue is bounded", func(b *bench, w1, _ *worker) {
			b.view.MaxQueued = 1
			b.update()
			b.call("1", of("mine"))
			b.call("2", of("mine"))
			wantErr(b.T, b.call("3", of("mine")), fleet.ErrOverloaded, "1 calls are waiting")
			w1.next(b.T).ok()
			w1.next(b.T).ok()
		}},
		{"its replica leaves", func(b *bench, w1, w2 *worker) {
			running, waiting := b.call("1", of("mine")), b.call("2", of("mine"))
			b.replicas(Replica{ID: "r2", Backend: w2})
			wantErr(b.T, waiting, fleet.ErrSessionLost)
			wantErr(b.T, b.call("3", of("mine")), fleet.ErrSessionLost)
			w1.next(b.T).ok()
			wantResult(b.T, running, "1")
		}},
		{"a session without a replica", func(b *bench, _, w2 *worker) {
			wantErr(b.T, b.call("1", of("another")), fleet.ErrSessionLost)
			if n := w2.total(); n != 0 {
				b.Errorf("%d calls reached a replica of nobody", n)
			}
		}},
		{"it goes on at another replica", func(b *bench, _, w2 *worker) {
			b.replicas(Replica{ID: "r2", Backend: w2, Session: "mine"})
			p := b.call("1", of("mine"))
			w2.next(b.T).ok()
			wantResult(b.T, p, "1")
		}},
		{"its replica refuses for a moment", func(b *bench, w1, w2 *worker) {
			p := b.call("1", of("mine"))
			w1.next(b.T).fail(fleet.ErrNotDelivered)
			time.Sleep(tryAgainAfter)
			w1.next(b.T).ok()
			wantResult(b.T, p, "1")
			if w2.total() != 0 {
				b.Error("it was sent elsewhere")
			}
		}},
		{"the server is removed", func(b *bench, w1, _ *worker) {
			running, waiting := b.call("1", of("mine")), b.call("2", of("mine"))
			b.router.Update(nil)
			wantErr(b.T, waiting, fleet.ErrNoReplica)
			w1.next(b.T).ok()
			<-running.done
		}},
		{"a call that was lost is not repeated", func(b *bench, w1, w2 *worker) {
			p := b.call("1", of("mine"), func(c *fleet.Call) { c.Idempotent = true })
			w1.next(b.T).fail(fleet.ErrReplicaLost)
			wantErr(b.T, p, fleet.ErrReplicaLost)
			if n := w2.total(); n != 0 {
				b.Errorf("%d calls reached a replica of nobody", n)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w1, w2 := &worker{name: "w1"}, &worker{name: "w2"}
				b := newBench(t, Server{Replicas: []Replica{{ID: "r1", Backend: w1, Session: "mine"}, {ID: "r2", Backend: w2}}})
				tc.run(b, w1, w2)
			})
		})
	}
}

func TestAwaitSession(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{name: "w"}
		b := newBench(t, Server{Replicas: []Replica{{ID: "r1", Backend: w, Session: "mine"}}})
		if err := b.router.AwaitSession(t.Context(), "s", "mine", "r1"); err != nil {
			t.Error(err)
		}
		done := make(chan error, 1)
		go func() { done <- b.router.AwaitSession(t.Context(), "s", "mine", "r2") }()
		synctest.Wait()
		b.replicas(Replica{ID: "r2", Backend: w, Session: "mine"})
		if err := <-done; err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.router.AwaitSession(ctx, "s", "another", "r2"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if err := b.router.AwaitSession(t.Context(), "unknown", "mine", "r2"); !errors.Is(err, fleet.ErrUnknownServer) {
			t.Errorf("got %v", err)
		}
	})
}
