package route

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func streamedCall(c *fleet.Call) {
	c.Stream = fleet.StreamRequest{ID: "s", Owner: "o", Window: time.Minute}
	c.Ask, c.Logs = true, true
}

// A worker gets what it needs to run a call on without its caller.
func TestStreamedCall(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{Replicas: one(w), CallTimeout: 10 * time.Second, MaxCallDuration: time.Minute})
		first := b.call("first", streamedCall)
		d := w.next(t)
		want := fleet.StreamRequest{ID: "s", Owner: "o", Window: time.Minute}
		if r := d.req; r.Stream != want || !r.Ask || !r.Logs || r.Timeout != 10*time.Second || r.Limit != time.Minute {
			t.Errorf("a call got %+v", r)
		}
		var message fleet.Message
		var sent fleet.LifeID
		second := b.call("second", streamedCall, func(c *fleet.Call) {
			c.Message, c.Sent = func(m fleet.Message) { message = m }, func(l fleet.LifeID) { sent = l }
		})
		time.Sleep(3 * time.Second)
		d.ok()
		wantResult(t, first, "first")
		d = w.next(t)
		want.Keep = true // its client may know the stream by now
		if r := d.req; r.Stream != want || r.Limit != 57*time.Second {
			t.Errorf("a call that had waited got %+v", r)
		}
		d.hooks.Sent("l1")
		d.hooks.Message(fleet.Message{Seq: 7})
		d.ok()
		wantResult(t, second, "second")
		if sent != "l1" || message.Seq != 7 {
			t.Errorf("the caller was told of worker %q and message %d", sent, message.Seq)
		}
		third := b.call("third")
		if r := w.next(t).req; r.Stream.ID != "" || r.Stream.Keep || r.Limit != 0 {
			t.Errorf("a call without a stream got %+v", r)
		}
		third.cancel()
	})
}

// The deadline stands still while the call waits for its client, within the longest
// duration of a call.
func TestDeadlineStandsStill(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{Replicas: one(w), MaxOngoing: 5, CallTimeout: time.Second, MaxCallDuration: 5 * time.Second})
		start := time.Now()
		p := b.call("x", streamedCall)
		d := w.next(t)
		time.Sleep(900 * time.Millisecond)
		d.hooks.Waiting(true)
		time.Sleep(2 * time.Second)
		d.hooks.Progress() // of another part of the call: does not shorten it
		time.Sleep(time.Second)
		if p.isDone() {
			t.Fatalf("ended after %v: %v", time.Since(start), p.err)
		}
		d.hooks.Waiting(false)
		_, err := p.wait(t)
		if took := time.Since(start); !errors.Is(err, fleet.ErrTimeout) || took != 4900*time.Millisecond {
			t.Errorf("ended after %v with %v, want 1s after it went on", took, err)
		}
		d.hooks.Waiting(true) // late: changes nothing

		start = time.Now()
		p = b.call("y", streamedCall)
		w.next(t).hooks.Waiting(true)
		_, err = p.wait(t)
		if took := time.Since(start); !errors.Is(err, fleet.ErrTimeout) || took != 5*time.Second {
			t.Errorf("ended after %v with %v, want 5s, the longest duration", took, err)
		}
	})
}

// A replica whose calls wait for their clients is not silent.
func TestAskingIsNoSilence(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{Replicas: one(w), MaxOngoing: 5, CallTimeout: time.Minute, MaxCallDuration: time.Hour})
		s := (*b.router.servers.Load())["s"]
		var calls []*delivery
		for range 3 {
			b.call("x", streamedCall)
			calls = append(calls, w.next(t))
		}
		time.Sleep(2 * silentFor)
		if s.silent() != 1 {
			t.Error("three calls without an answer are no silence")
		}
		for _, d := range calls {
			d.hooks.Waiting(true)
			d.hooks.Waiting(true)
		}
		time.Sleep(2 * maxSilentFor)
		if s.silent() != 0 {
			t.Error("calls that wait for their clients count")
		}
		for _, d := range calls[1:] {
			d.hooks.Waiting(false)
		}
		time.Sleep(2 * silentFor)
		if s.silent() != 1 {
			t.Error("calls that go on do not count")
		}
		for _, d := range calls {
			d.ok()
		}
		time.Sleep(silentFor)
		calls[0].hooks.Waiting(true) // late: changes nothing
		if r := s.replicas[0]; r.ongoing != 0 || r.asking != 0 {
			t.Errorf("%d slots, %d ask", r.ongoing, r.asking)
		}
	})
}

// A call whose client is asked by a modern server frees its slot until it goes on.
func TestAskingFreesTheSlot(t *testing.T) {
	for _, asks := range []bool{true, false} {
		t.Run(fmt.Sprint(asks), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := &worker{}
				b := newBench(t, Server{Replicas: one(w), MaxOngoing: 1, MaxQueued: 5, CallTimeout: time.Minute, MaxCallDuration: time.Hour})
				streamed := func(c *fleet.Call) { streamedCall(c); c.Ask = asks }
				p := b.call("x", streamed)
				first := w.next(t)
				second := b.call("y", streamed)
				synctest.Wait()
				if n := b.router.Queues()["s"]; n != 1 {
					t.Fatalf("%d calls wait, want 1", n)
				}
				first.hooks.Waiting(true)
				synctest.Wait()
				if free := b.router.Queues()["s"] == 0; free != asks {
					t.Fatalf("the slot is free: %v, want %v", free, asks)
				}
				if asks {
					other := w.next(t)
					first.hooks.Waiting(false) // goes on at once, and there is no room for others
					third := b.call("z", streamed)
					other.ok()
					synctest.Wait()
					if n := b.router.Queues()["s"]; n != 1 {
						t.Errorf("%d calls wait for the one that goes on, want 1", n)
					}
					first.ok()
					w.next(t).ok()
					_, _ = third.wait(t)
				} else {
					first.ok()
					w.next(t).ok()
				}
				_, _ = p.wait(t)
				_, _ = second.wait(t)
				synctest.Wait()
				if r := (*b.router.servers.Load())["s"].replicas[0]; r.ongoing != 0 || r.asking != 0 || r.idle != 0 {
					t.Errorf("%d slots, %d ask, %d are idle", r.ongoing, r.asking, r.idle)
				}
			})
		})
	}
}
