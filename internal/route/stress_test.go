package route

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// flaky checks that a replica never has more calls than it may, and answers,
// refuses and loses calls at random.
type flaky struct {
	ongoing  atomic.Int64
	most     int64
	exceeded atomic.Bool
}

func (f *flaky) Call(_ context.Context, req fleet.CallRequest, h fleet.CallHooks) (fleet.CallResult, error) {
	if f.ongoing.Add(1) > f.most {
		f.exceeded.Store(true)
	}
	left := int(f.ongoing.Add(-1))
	h.Released(left)
	switch rand.IntN(20) {
	case 0:
		return fleet.CallResult{}, fleet.ErrNotDelivered
	case 1:
		return fleet.CallResult{}, fleet.ErrReplicaLost
	}
	return fleet.CallResult{Result: req.Params}, nil
}

// Callers, cancellations and changing views at once: every answer is the
// caller's own, and nothing is left held or queued.
func TestManyCallers(t *testing.T) {
	router := New(Config{})
	var backends []*flaky
	for range 4 {
		backends = append(backends, &flaky{most: 3})
	}
	view := func(n int) {
		s := Server{Name: "s", MaxOngoing: 3, MaxQueued: 1000}
		for i := range n {
			s.Replicas = append(s.Replicas, Replica{ID: fleet.ReplicaID(fmt.Sprint("r", i)), Backend: backends[i]})
		}
		router.Update([]Server{s})
	}
	view(4)
	stop := make(chan struct{})
	var updates, callers sync.WaitGroup
	updates.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				view(2 + i%3)
			}
		}
	})
	for c := range 32 {
		callers.Go(func() {
			for i := range 300 {
				ctx, cancel := context.WithCancel(t.Context())
				switch {
				case i%17 == 0:
					cancel()
				case i%7 == 0:
					time.AfterFunc(time.Duration(rand.IntN(1000))*time.Microsecond, cancel)
				}
				want := fmt.Sprint(c, "-", i)
				res, err := router.Call(ctx, fleet.Call{Server: "s", Params: []byte(want), Idempotent: i%2 == 0})
				cancel()
				switch {
				case err == nil && string(res.Result) != want:
					t.Errorf("got %s, want %s", res.Result, want)
				case err != nil && !errors.Is(err, fleet.ErrNotDelivered) && !errors.Is(err, fleet.ErrReplicaLost) && !errors.Is(err, context.Canceled):
					t.Error(err)
				}
			}
		})
	}
	callers.Wait()
	close(stop)
	updates.Wait()
	view(4)
	if q, o := (*router.servers.Load())["s"].counts(); q != 0 || o != 0 {
		t.Errorf("%d queued and %d ongoing remain", q, o)
	}
}

func TestLimitHolds(t *testing.T) {
	router := New(Config{})
	f := &flaky{most: 2}
	router.Update([]Server{{Name: "s", MaxOngoing: 2, MaxQueued: 1000, Replicas: []Replica{{ID: "r", Backend: f}}}})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 200 {
				_, _ = router.Call(t.Context(), fleet.Call{Server: "s"})
			}
		})
	}
	wg.Wait()
	if f.exceeded.Load() {
		t.Error("more calls on the replica than it may have")
	}
}

type noop struct{ result []byte }

func (n *noop) Call(_ context.Context, _ fleet.CallRequest, h fleet.CallHooks) (fleet.CallResult, error) {
	h.Released(0)
	return fleet.CallResult{Result: n.result}, nil
}

func BenchmarkCall(b *testing.B) {
	for _, callers := range []int{1, 64} {
		for _, replicas := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("C=%d/replicas=%d", callers, replicas), func(b *testing.B) {
				router := New(Config{})
				s := Server{Name: "s", MaxOngoing: 8, MaxQueued: 128}
				for i := range replicas {
					s.Replicas = append(s.Replicas, Replica{ID: fleet.ReplicaID(fmt.Sprint("r", i)), Backend: &noop{[]byte("{}")}})
				}
				router.Update([]Server{s})
				ctx, cancel := context.WithCancel(b.Context())
				defer cancel()
				b.ReportAllocs()
				b.SetParallelism(callers)
				if callers == 1 {
					for b.Loop() {
						if _, err := router.Call(ctx, fleet.Call{Server: "s"}); err != nil {
							b.Fatal(err)
						}
					}
					return
				}
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if _, err := router.Call(ctx, fleet.Call{Server: "s"}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}
