package route

import (
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

func at(id fleet.ReplicaID) func(*fleet.Call) { return func(c *fleet.Call) { c.Replica = id } }

// Each case begins with r1 and r2, of two workers and with one slot each.
func TestTaskCalls(t *testing.T) {
	for _, tc := range []struct {
		name string
		run  func(b *bench, w1, w2 *worker)
	}{
		{"it goes to its replica, full or not", func(b *bench, w1, w2 *worker) {
			a, c := b.call("a"), b.call("c")
			p, q := b.call("p", at("r1")), b.call("q", at("r1"))
			b.counts(0, 4)
			if w1.total() != 3 || w2.total() != 1 {
				b.Errorf("%d and %d calls arrived", w1.total(), w2.total())
			}
			w2.next(b.T).ok()
			for range 3 {
				w1.next(b.T).ok()
			}
			wantResult(b.T, a, "a")
			wantResult(b.T, c, "c")
			wantResult(b.T, p, "p")
			wantResult(b.T, q, "q")
			if p.res.Replica != "r1" {
				b.Errorf("answered by %s", p.res.Replica)
			}
		}},
		{"its replica is gone", func(b *bench, _, w2 *worker) {
			b.replicas(Replica{ID: "r2", Backend: w2})
			wantErr(b.T, b.call("p", at("r1")), fleet.ErrTaskLost)
			wantErr(b.T, b.call("p", at("r3")), fleet.ErrTaskLost)
		}},
		{"its replica drains", func(b *bench, w1, w2 *worker) {
			before := b.call("before", at("r1"))
			b.view.Apart = []Replica{{ID: "r1", Backend: w1}}
			b.replicas(Replica{ID: "r2", Backend: w2})
			p, other := b.call("p", at("r1")), b.call("other")
			w1.next(b.T).ok()
			w1.next(b.T).ok()
			wantResult(b.T, before, "before")
			wantResult(b.T, p, "p")
			w2.next(b.T).ok()
			wantResult(b.T, other, "other")
			b.view.Apart = nil
			b.update()
			wantErr(b.T, b.call("p", at("r1")), fleet.ErrTaskLost)
		}},
		{"its server is stopped", func(b *bench, w1, _ *worker) {
			b.view.Stopped, b.view.Apart = true, []Replica{{ID: "r1", Backend: w1}}
			b.replicas()
			p := b.call("p", at("r1"))
			w1.next(b.T).ok()
			wantResult(b.T, p, "p")
		}},
		{"its worker cannot be reached", func(b *bench, _, w2 *worker) {
			b.view.Apart = []Replica{{ID: "r1"}}
			b.replicas(Replica{ID: "r2", Backend: w2})
			wantErr(b.T, b.call("p", at("r1")), fleet.ErrNoReplica)
		}},
		{"its replica does not take it", func(b *bench, w1, w2 *worker) {
			p := b.call("p", at("r1"), repeatable)
			w1.next(b.T).fail(fleet.ErrNotDelivered)
			wantErr(b.T, p, fleet.ErrNoReplica)
			if w2.total() != 0 {
				b.Error("it went to another replica")
			}
		}},
		{"its replica dies", func(b *bench, w1, w2 *worker) {
			p := b.call("p", at("r1"), repeatable)
			w1.next(b.T).fail(fleet.ErrReplicaLost)
			wantErr(b.T, p, fleet.ErrReplicaLost)
			if w2.total() != 0 {
				b.Error("it went to another replica")
			}
		}},
		{"too many", func(b *bench, w1, _ *worker) {
			for range maxTaskCalls + 1 {
				b.call("p", at("r1"))
			}
			wantErr(b.T, b.call("p", at("r1")), fleet.ErrOverloaded)
			for range maxTaskCalls + 1 {
				w1.next(b.T).ok()
			}
		}},
		{"a result that does not come in time says nothing of the replica", func(b *bench, w1, _ *worker) {
			b.view.CallTimeout = time.Second
			b.update()
			var waiting []*pending
			for range silentCalls {
				waiting = append(waiting, b.call("p", at("r1"), func(c *fleet.Call) { c.Method = mcp.MethodTaskResult }))
			}
			time.Sleep(2 * time.Second)
			for _, p := range waiting {
				wantErr(b.T, p, fleet.ErrTimeout)
			}
			s := (*b.router.servers.Load())["s"]
			if r := s.find("r1"); r.timeouts != 0 {
				b.Errorf("%d timeouts count against it", r.timeouts)
			}
			for range waiting {
				w1.next(b.T).ok()
			}
		}},
		{"it says where it goes", func(b *bench, w1, w2 *worker) {
			var placed []fleet.ReplicaID
			p := b.call("p", at("r2"), func(c *fleet.Call) { c.Placed = func(id fleet.ReplicaID) { placed = append(placed, id) } })
			w2.next(b.T).ok()
			wantResult(b.T, p, "p")
			if len(placed) != 1 || placed[0] != "r2" {
				b.Errorf("placed at %v", placed)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w1, w2 := &worker{name: "w1"}, &worker{name: "w2"}
				b := newBench(t, Server{Replicas: []Replica{{ID: "r1", Backend: w1}, {ID: "r2", Backend: w2}}})
				tc.run(b, w1, w2)
			})
		})
	}
}
