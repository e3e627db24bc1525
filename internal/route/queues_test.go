package route

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// await waits for a replica as the HTTP API does before the server's tools are known.
func (b *bench) await(timeout time.Duration) *pending {
	ctx, cancel := context.WithCancel(b.Context())
	p := &pending{done: make(chan struct{}), cancel: cancel}
	since := time.Now()
	go func() {
		defer close(p.done)
		defer cancel()
		p.err = b.router.Await(ctx, "s", timeout, since)
	}()
	synctest.Wait()
	return p
}

// Queues counts what waits. A notice comes with each change of that, and with
// nothing else.
func TestQueues(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newBench(t, Server{})
		look, cancel := b.router.Subscribe()
		defer cancel()
		expect := func(when string, notice bool, want int) {
			t.Helper()
			synctest.Wait()
			select {
			case <-look:
				if !notice {
					t.Errorf("%s: there was a notice", when)
				}
			default:
				if notice {
					t.Errorf("%s: there was no notice", when)
				}
			}
			wanted := map[fleet.ServerName]int{}
			if want > 0 {
				wanted["s"] = want
			}
			if got := b.router.Queues(); !maps.Equal(got, wanted) {
				t.Errorf("%s: %v, want %v", when, got, wanted)
			}
		}
		w := &worker{name: "w"}
		b.replicas(Replica{ID: "r", Backend: w})
		expect("no call", false, 0)
		first := b.call("1")
		expect("a call that got a slot at once", false, 0)
		second, third := b.call("2"), b.call("3")
		expect("two calls wait", true, 2)
		third.cancel()
		_, _ = third.wait(t)
		expect("one of them was cancelled", true, 1)
		w.next(t).ok()
		expect("the other got a slot", true, 0)
		w.next(t).ok()
		for _, p := range []*pending{first, second} {
			if _, err := p.wait(t); err != nil {
				t.Error(err)
			}
		}
		expect("all were answered", false, 0)
		b.replicas()
		awaits := b.await(0)
		expect("one waits for any replica", true, 1)
		b.replicas(Replica{ID: "r2", Backend: w})
		if _, err := awaits.wait(t); err != nil {
			t.Error(err)
		}
		expect("there is one", true, 0)
	})
}

// Await returns once there is a replica, whether or not it has a free slot, or
// once waiting is of no use. It shares the bound of the queue.
func TestAwait(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newBench(t, Server{MaxQueued: 2})
		awaits, call := b.await(0), b.call("1")
		if p := b.call("2"); !p.isDone() || !errors.Is(p.err, fleet.ErrOverloaded) {
			t.Errorf("a call that found the queue full: %v", p.err)
		}
		if p := b.await(0); !p.isDone() || !errors.Is(p.err, fleet.ErrOverloaded) {
			t.Errorf("it awaits, and found the queue full: %v", p.err)
		}
		w := &worker{name: "w"}
		b.replicas(Replica{ID: "r", Backend: w})
		if _, err := awaits.wait(t); err != nil {
			t.Errorf("with a replica that has no free slot: %v", err)
		}
		if p := b.await(0); !p.isDone() || p.err != nil {
			t.Errorf("while there is a replica: %v", p.err)
		}
		w.next(t).ok()
		if _, err := call.wait(t); err != nil {
			t.Error(err)
		}

		b.replicas()
		began := time.Now()
		late := b.await(3 * time.Second)
		if _, err := late.wait(t); !errors.Is(err, fleet.ErrTimeout) || time.Since(began) != 3*time.Second {
			t.Errorf("its deadline passed: %v after %v", err, time.Since(began))
		}
		cancelled := b.await(0)
		cancelled.cancel()
		if _, err := cancelled.wait(t); !errors.Is(err, context.Canceled) {
			t.Errorf("it was cancelled: %v", err)
		}
		failing := b.await(0)
		b.view.Down = "exit code 3"
		b.update()
		if _, err := failing.wait(t); !errors.Is(err, fleet.ErrNoReplica) || err.Error() != `server "s": no replica is ready: exit code 3` {
			t.Errorf("the start failed: %v", err)
		}
		if p := b.await(0); !p.isDone() || !errors.Is(p.err, fleet.ErrNoReplica) {
			t.Errorf("the start had failed: %v", p.err)
		}
		b.view.Down = ""
		b.update()
		removed := b.await(0)
		b.router.Update(nil)
		if _, err := removed.wait(t); !errors.Is(err, fleet.ErrNoReplica) {
			t.Errorf("the server was removed: %v", err)
		}
		if p := b.await(0); !p.isDone() || !errors.Is(p.err, fleet.ErrUnknownServer) {
			t.Errorf("there is no such server: %v", p.err)
		}
	})
}

// The time for which a call awaited its server counts.
func TestDeadlineCountsFromSince(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newBench(t, Server{CallTimeout: 10 * time.Second})
		since := time.Now()
		time.Sleep(7 * time.Second)
		p := b.call("1", func(c *fleet.Call) { c.Since = since })
		if _, err := p.wait(t); !errors.Is(err, fleet.ErrTimeout) || time.Since(since) != 10*time.Second {
			t.Errorf("%v after %v", err, time.Since(since))
		}
	})
}

// A call that waits hears once a second how many wait before it, and why there is no
// replica.
func TestQueued(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newBench(t, Server{Pending: "image is being pulled"})
		var heard []string
		b.call("1")
		second := b.call("2", func(c *fleet.Call) {
			c.Queued = func(before int, why string) { heard = append(heard, fmt.Sprint(before, " ", why)) }
		})
		time.Sleep(2500 * time.Millisecond)
		w := &worker{name: "w"}
		b.replicas(Replica{ID: "r", Backend: w})
		time.Sleep(time.Second)
		w.next(t).ok()
		w.next(t).ok()
		<-second.done
		time.Sleep(5 * time.Second)
		if want := []string{"1 image is being pulled", "1 image is being pulled", "0 "}; !slices.Equal(heard, want) {
			t.Errorf("heard %q, want %q", heard, want)
		}
	})
}
