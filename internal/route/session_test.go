package route

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func of(id fleet.SessionID) func(*fleet.Call) { return func(c *fleet.Call) { c.Session = id } }

// Each case begins with replicas r1 and r2, of two workers and with one slot
// each, and the session "mine" pinned to r1.
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
		{"its replica serves others too", func(b *bench, w1, w2 *worker) {
			a, c := b.call("a"), b.call("c")
			mine := b.call("mine", of("mine"))
			b.counts(1, 2)
			w2.next(b.T).ok() // the wrong one
			b.counts(1, 1)
			w1.next(b.T).ok()
			w1.next(b.T).ok()
			for _, p := range []*pending{a, c, mine} {
				<-p.done
			}
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
			wantErr(b.T, waiting, fleet.ErrSessionLost, "replica r1")
			wantErr(b.T, b.call("3", of("mine")), fleet.ErrSessionLost)
			w1.next(b.T).ok()
			wantResult(b.T, running, "1")
			b.router.Unpin("s", "mine")
			fresh := b.call("4", of("mine"))
			w2.next(b.T).ok()
			wantResult(b.T, fresh, "4")
		}},
		{"its replica comes back", func(b *bench, w1, w2 *worker) {
			b.replicas(Replica{ID: "r2", Backend: w2})
			b.replicas(Replica{ID: "r2", Backend: w2}, Replica{ID: "r1", Backend: w1})
			p := b.call("1", of("mine"))
			w1.next(b.T).ok()
			wantResult(b.T, p, "1")
		}},
		{"its replica dies in mid-call", func(b *bench, w1, w2 *worker) {
			p := b.call("1", of("mine"), repeatable)
			w1.next(b.T).fail(fleet.ErrReplicaLost)
			wantErr(b.T, p, fleet.ErrReplicaLost)
			if errors.Is(p.err, fleet.ErrSessionLost) || w2.total() != 0 {
				b.Errorf("%v, and %d calls elsewhere", p.err, w2.total())
			}
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
		{"a first call that is refused goes elsewhere", func(b *bench, w1, w2 *worker) {
			b.view.Replicas[1].Ongoing = 5 // r1 is the first choice
			b.update()
			p := b.call("1", of("new"))
			w1.next(b.T).fail(fleet.ErrNotDelivered)
			w2.next(b.T).ok()
			wantResult(b.T, p, "1")
			p = b.call("2", of("new"))
			w2.next(b.T).ok()
			wantResult(b.T, p, "2")
		}},
		{"it is pinned to the replica of its first call", func(b *bench, w1, w2 *worker) {
			busy := b.call("busy", of("mine"))
			p := b.call("1", of("new"))
			w2.next(b.T).ok()
			wantResult(b.T, p, "1")
			w1.next(b.T).ok()
			<-busy.done
			for i := range 20 {
				p = b.call(fmt.Sprint(i), of("new"))
				w2.next(b.T).ok()
				wantResult(b.T, p, fmt.Sprint(i))
			}
		}},
		{"it is pinned anew while calls wait", func(b *bench, w1, w2 *worker) {
			first, second := b.call("1", of("mine")), b.call("2", of("mine"))
			if err := b.router.Pin("s", "mine", "r2"); err != nil {
				b.Error(err)
			}
			w2.next(b.T).ok()
			wantResult(b.T, second, "2")
			w1.next(b.T).ok()
			<-first.done
		}},
		{"too many", func(b *bench, w1, w2 *worker) {
			for i := range maxSessions - 1 {
				if err := b.router.Pin("s", fleet.SessionID(fmt.Sprint(i)), "r1"); err != nil {
					b.Fatal(err)
				}
			}
			if err := b.router.Pin("s", "one more", "r1"); !errors.Is(err, fleet.ErrOverloaded) {
				b.Errorf("got %v", err)
			}
			wantErr(b.T, b.call("1", of("one more")), fleet.ErrOverloaded, "sessions")
			if err := b.router.Pin("s", "mine", "r2"); err != nil {
				b.Errorf("a session that is pinned already: %v", err)
			}
			b.router.Unpin("s", "7")
			p := b.call("2", of("one more"))
			if w1.waiting() {
				w1.next(b.T).ok()
			} else {
				w2.next(b.T).ok()
			}
			wantResult(b.T, p, "2")
		}},
		{"the server is removed", func(b *bench, w1, _ *worker) {
			running, waiting := b.call("1", of("mine")), b.call("2", of("mine"))
			b.router.Update(nil)
			wantErr(b.T, waiting, fleet.ErrNoReplica)
			w1.next(b.T).ok()
			<-running.done
			if err := b.router.Pin("s", "mine", "r1"); !errors.Is(err, fleet.ErrUnknownServer) {
				b.Errorf("got %v", err)
			}
			b.router.Unpin("s", "mine")
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w1, w2 := &worker{name: "w1"}, &worker{name: "w2"}
				b := newBench(t, Server{Replicas: []Replica{{ID: "r1", Backend: w1}, {ID: "r2", Backend: w2}}})
				if err := b.router.Pin("s", "mine", "r1"); err != nil {
					t.Fatal(err)
				}
				tc.run(b, w1, w2)
			})
		})
	}
}
