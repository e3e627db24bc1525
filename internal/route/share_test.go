package route

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// counter answers calls at once and counts them.
type counter struct{ calls atomic.Int64 }

func (c *counter) Call(_ context.Context, req fleet.CallRequest, h fleet.CallHooks) (fleet.CallResult, error) {
	c.calls.Add(1)
	h.Released(0)
	return fleet.CallResult{Result: req.Params}, nil
}

// canaryOf returns a server with replicas of two revisions.
func canaryOf(percent float64, old, fresh Backend) Server {
	return Server{Name: "s", MaxOngoing: 100, MaxQueued: 1000, Canary: &Canary{Percent: percent}, Replicas: []Replica{
		{ID: "old", Backend: old}, {ID: "new", Backend: fresh, Canary: true},
	}}
}

func TestShareIsExact(t *testing.T) {
	for _, tt := range []struct {
		percent     float64
		calls, want int64
	}{{5, 100, 5}, {5, 19, 0}, {5, 20, 1}, {25, 1000, 250}, {50, 7, 3}, {33.3, 1000, 333}, {0.5, 1000, 5}, {100, 10, 10}, {7, 100, 7}, {29, 100, 29}} {
		t.Run(fmt.Sprintf("%g%% of %d", tt.percent, tt.calls), func(t *testing.T) {
			old, fresh := &counter{}, &counter{}
			router := New(Config{})
			router.Update([]Server{canaryOf(tt.percent, old, fresh)})
			for i := range tt.calls {
				if _, err := router.Call(t.Context(), fleet.Call{Server: "s"}); err != nil {
					t.Fatal(err)
				}
				if got, most := fresh.calls.Load(), tt.percent/100*float64(i+1)+1e-6; float64(got) > most {
					t.Fatalf("of %d calls the new revision got %d", i+1, got)
				}
			}
			if got := fresh.calls.Load(); got != tt.want || got+old.calls.Load() != tt.calls {
				t.Errorf("the new revision got %d calls, the old one %d; want %d and the rest", got, old.calls.Load(), tt.want)
			}
		})
	}
}

func TestShareOfManyCallers(t *testing.T) {
	old, fresh := &counter{}, &counter{}
	router := New(Config{})
	s := canaryOf(25, old, fresh)
	router.Update([]Server{s})
	stop := make(chan struct{})
	var updates, callers sync.WaitGroup
	updates.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				router.Update([]Server{s}) // the same canary
			}
		}
	})
	for range 20 {
		callers.Go(func() {
			for range 200 {
				if _, err := router.Call(t.Context(), fleet.Call{Server: "s"}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	callers.Wait()
	close(stop)
	updates.Wait()
	if got := fresh.calls.Load(); got != 1000 || old.calls.Load() != 3000 {
		t.Errorf("the new revision got %d of 4000 calls, want a quarter", got)
	}
}

func TestShareFallbacks(t *testing.T) {
	old, fresh := &worker{name: "old"}, &worker{name: "new"}
	half := func(b *bench) { b.view.Canary = &Canary{Percent: 50} }
	both := []Replica{{ID: "old", Backend: old}, {ID: "new", Backend: fresh, Canary: true}}
	for _, tt := range []struct {
		name string
		run  func(t *testing.T, b *bench)
	}{
		{"the old side is full: calls wait", func(t *testing.T, b *bench) {
			first, second, third := b.call("1"), b.call("2"), b.call("3")
			b.counts(1, 2) // the third belongs to the old side again
			fresh.next(t).ok()
			wantResult(t, second, "2")
			b.counts(1, 1) // though the new side is free
			old.next(t).ok()
			wantResult(t, first, "1")
			old.next(t).ok()
			wantResult(t, third, "3")
		}},
		{"the new side is full: the old one takes its calls", func(t *testing.T, b *bench) {
			b.view.MaxOngoing = 2
			b.update()
			for i := range 4 {
				b.call(fmt.Sprint(i)) // 2 on each side
			}
			old.next(t).ok()
			old.next(t).ok()
			for range 6 { // 3 of them are for the new side
				b.call("x")
				old.next(t).ok()
			}
			fresh.next(t).ok()
			fresh.next(t).ok()
			for _, w := range []*worker{fresh, fresh, old, fresh} { // one of the 3 is made up for
				b.call("x")
				w.next(t).ok()
			}
		}},
		{"no replica of the old side", func(t *testing.T, b *bench) {
			b.replicas(both[1])
			for range 3 {
				p := b.call("x")
				fresh.next(t).ok()
				wantResult(t, p, "x")
			}
		}},
		{"no replica of the new side", func(t *testing.T, b *bench) {
			b.replicas(both[0])
			for range 3 {
				p := b.call("x")
				old.next(t).ok()
				wantResult(t, p, "x")
			}
		}},
		{"a tool of the new side alone", func(t *testing.T, b *bench) {
			b.replicas(Replica{ID: "old", Backend: old, Tools: NewTools([]string{"a"})},
				Replica{ID: "new", Backend: fresh, Canary: true, Tools: NewTools([]string{"a", "b"})})
			for range 3 {
				p := b.call("x", func(c *fleet.Call) { c.Tool = "b" })
				fresh.next(t).ok()
				wantResult(t, p, "x")
			}
			p := b.call("y", func(c *fleet.Call) { c.Tool = "a" }) // the new side had more than its share
			old.next(t).ok()
			wantResult(t, p, "y")
		}},
		{"a tool that the new side lacks", func(t *testing.T, b *bench) {
			b.replicas(Replica{ID: "old", Backend: old, Tools: NewTools([]string{"a", "b"})},
				Replica{ID: "new", Backend: fresh, Canary: true, Tools: NewTools([]string{"a"})})
			for range 3 {
				p := b.call("x", func(c *fleet.Call) { c.Tool = "b" })
				old.next(t).ok()
				wantResult(t, p, "x")
			}
		}},
		{"a call that the new side did not take goes to the old one", func(t *testing.T, b *bench) {
			b.view.Canary = &Canary{Percent: 100}
			other := &worker{name: "new2"}
			b.replicas(append(both, Replica{ID: "new2", Backend: other, Canary: true})...)
			p := b.call("1")
			where(t, []*worker{fresh, other}).next(t).fail(fleet.ErrNotDelivered)
			old.next(t).ok()
			wantResult(t, p, "1")
		}},
		{"so does one whose worker was lost, if it may be repeated", func(t *testing.T, b *bench) {
			b.call("1")
			old.next(t).ok()
			p := b.call("2", repeatable)
			fresh.next(t).fail(fleet.ErrWorkerLost)
			old.next(t).ok()
			wantResult(t, p, "2")
		}},
		{"also when the view has changed meanwhile", func(t *testing.T, b *bench) {
			b.view.Canary = &Canary{Percent: 100}
			other := &worker{name: "new2"}
			all := append(slices.Clone(both), Replica{ID: "new2", Backend: other, Canary: true})
			b.replicas(all...)
			p := b.call("1", repeatable)
			lost := where(t, []*worker{fresh, other})
			b.replicas(without(all, lost)...)
			lost.next(t).fail(fleet.ErrWorkerLost)
			old.next(t).ok()
			wantResult(t, p, "1")
		}},
		{"a call that the only old one did not take goes to the new one", func(t *testing.T, b *bench) {
			b.view.Canary = &Canary{Percent: 5}
			b.update()
			p := b.call("1")
			old.next(t).fail(fleet.ErrNotDelivered)
			fresh.next(t).ok()
			wantResult(t, p, "1")
		}},
		{"a new share counts from its beginning", func(t *testing.T, b *bench) {
			for range 3 {
				b.call("x")
				where(t, []*worker{old, fresh}).next(t).ok()
			}
			b.view.Canary = &Canary{Percent: 25}
			b.update()
			for range 3 {
				b.call("x")
				old.next(t).ok()
			}
			b.call("x")
			fresh.next(t).ok()
		}},
		{"the end of the canary", func(t *testing.T, b *bench) {
			p := b.call("1")
			q := b.call("2")
			r := b.call("3")
			fresh.next(t).ok()
			wantResult(t, q, "2")
			b.view.Canary = nil
			b.update()
			fresh.next(t).ok() // it waited for the old side
			wantResult(t, r, "3")
			old.next(t).ok()
			wantResult(t, p, "1")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				*old, *fresh = worker{name: "old"}, worker{name: "new"}
				b := newBench(t, Server{MaxOngoing: 1})
				half(b)
				b.replicas(both...)
				tt.run(t, b)
				b.counts(0, 0)
			})
		})
	}
}

// A suspect is alone on a replica of the old revision while there is any.
func TestSuspectsAvoidTheCanary(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		workers, replicas := several(4)
		for i := range replicas {
			replicas[i].Canary = i < 2
		}
		b := newBench(t, Server{MaxOngoing: 2, Canary: &Canary{Percent: 100}})
		b.replicas(replicas...)
		p := b.call("poison", repeatable)
		dead := where(t, workers[:2])
		dead.next(t).fail(fleet.ErrReplicaLost)
		b.replicas(without(replicas, dead)...)
		b.exited(fleet.ReplicaID(dead.name))
		where(t, workers[2:]).next(t).ok()
		wantResult(t, p, "poison")
	})
}

func TestPickAllocatesNothing(t *testing.T) {
	router := New(Config{})
	s := canaryOf(50, &counter{}, &counter{})
	s.Canary = nil
	router.Update([]Server{s})
	srv := (*router.servers.Load())["s"]
	got := testing.AllocsPerRun(100, func() {
		srv.mu.Lock()
		defer srv.mu.Unlock()
		srv.shared.count(srv.pick(nil, "", "", false).canary)
	})
	if got != 0 {
		t.Errorf("%v allocations to pick a replica without a canary", got)
	}
}
