package route

import (
	"fmt"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// several returns replicas with a backend each.
func several(n int) (workers []*worker, replicas []Replica) {
	for range n {
		name := string(fleet.NewReplicaID("s", 1))
		w := &worker{name: name}
		workers = append(workers, w)
		replicas = append(replicas, Replica{ID: fleet.ReplicaID(name), Backend: w})
	}
	return workers, replicas
}

// where returns the worker at which calls wait for an answer.
func where(t *testing.T, workers []*worker) *worker {
	t.Helper()
	var found *worker
	for _, w := range workers {
		if w.waiting() {
			if found != nil {
				t.Fatalf("calls arrived at %s and %s, want one place", found.name, w.name)
			}
			found = w
		}
	}
	if found == nil {
		t.Fatal("no call arrived anywhere")
	}
	return found
}

// without returns the replicas but the worker's, which died.
func without(replicas []Replica, dead *worker) (left []Replica) {
	for _, r := range replicas {
		if r.Backend != dead {
			left = append(left, r)
		}
	}
	return left
}

// exited reports to the router that replicas exited by themselves.
func (b *bench) exited(ids ...fleet.ReplicaID) {
	b.Helper()
	for _, id := range ids {
		b.view.Ends = append(b.view.Ends, End{ID: id})
	}
	b.update()
}

func TestPoisonEndsTwoReplicasAtMost(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		workers, replicas := several(4)
		b := newBench(t, Server{MaxOngoing: 5, Replicas: replicas})
		die := func() {
			w := where(t, workers)
			d := w.next(t)
			d.fail(fleet.ErrReplicaLost)
			b.exited(d.req.Replica)
			b.replicas(without(b.view.Replicas, w)...)
		}
		p := b.call("poison", repeatable)
		die()
		die()
		wantErr(t, p, fleet.ErrReplicaLost, "repeated once, alone")

		// An equal call is not repeated, and another one is.
		time.Sleep(pauseGuilty)
		p = b.call("poison", repeatable)
		die()
		wantErr(t, p, fleet.ErrReplicaLost, "equal calls have ended replicas")
		p = b.call("other", repeatable)
		w := where(t, workers)
		w.next(t).fail(fleet.ErrReplicaLost)
		b.replicas(replicas...) // all are back
		time.Sleep(pauseSuspects)
		where(t, workers).next(t).ok()
		wantResult(t, p, "other")
		b.counts(0, 0)

		// An answer clears it.
		time.Sleep(pauseGuilty)
		p = b.call("poison", repeatable)
		where(t, workers).next(t).ok()
		wantResult(t, p, "poison")
		p = b.call("poison", repeatable)
		where(t, workers).next(t).fail(fleet.ErrReplicaLost)
		where(t, workers).next(t).ok()
		wantResult(t, p, "poison")
	})
}

// A call that has ended a replica is repeated alone, but never at the replica of a session,
// which nobody else may use.
func TestNoSuspectAtASession(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		workers, replicas := several(3)
		mine := workers[0]
		replicas[0].Session = "mine"
		b := newBench(t, Server{MaxOngoing: 5, Replicas: replicas})
		suspect := b.call("suspect", repeatable)
		dies := where(t, workers)
		busy := b.call("busy") // at the third one: the session's alone is free
		d := dies.next(t)
		d.fail(fleet.ErrReplicaLost)
		b.exited(d.req.Replica)
		b.replicas(without(b.view.Replicas, dies)...)
		where(t, workers).next(t).ok()
		wantResult(t, busy, "busy")
		where(t, workers).next(t).ok()
		wantResult(t, suspect, "suspect")
		if n := mine.total(); n != 0 {
			t.Errorf("%d calls of others arrived at the replica of a session", n)
		}
	})
}

// A neighbour of calls that each end their replica was inside every time, and
// is answered: each time it turned out that another call had done it.
func TestInnocentAmongPoison(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		id := func(n int) fleet.ReplicaID { return fleet.ReplicaID(fmt.Sprint("r", n)) }
		b := newBench(t, Server{MaxOngoing: 5, Replicas: []Replica{{ID: id(1), Backend: w}}})
		innocent := b.call("innocent", repeatable)
		time.Sleep(time.Millisecond)
		for i, name := range []string{"first", "second", "third", "fourth"} {
			n := 2*i + 1
			poison := b.call(name, repeatable)
			d := []*delivery{w.next(t), w.next(t)}
			b.replicas(Replica{ID: id(n + 1), Backend: w})
			d[1].fail(fleet.ErrReplicaLost)
			b.counts(0, 1)
			d[0].fail(fleet.ErrReplicaLost)
			b.counts(1, 1)
			b.exited(id(n))
			w.next(t).fail(fleet.ErrReplicaLost) // alone
			b.exited(id(n + 1))
			wantErr(t, poison, fleet.ErrReplicaLost, "repeated once, alone")
			b.replicas(Replica{ID: id(n + 2), Backend: w})
			time.Sleep(pauseSuspects)
		}
		w.next(t).ok()
		wantResult(t, innocent, "innocent")
		b.counts(0, 0)
	})
}

// An unmarked tool is never repeated; what ended a replica twice runs alone.
func TestPoisonOfAnUnmarkedTool(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		workers, replicas := several(3)
		b := newBench(t, Server{MaxOngoing: 5, Replicas: replicas})
		for range 2 {
			p := b.call("poison")
			w := where(t, workers)
			w.next(t).fail(fleet.ErrReplicaLost)
			wantErr(t, p, fleet.ErrReplicaLost)
			b.replicas(without(b.view.Replicas, w)...)
			time.Sleep(time.Second)
		}
		w := where(t, func() []*worker { b.call("neighbour"); return workers }())
		poison := b.call("poison")
		b.counts(1, 1) // it waits until its neighbour is done
		late := b.call("late")
		b.counts(2, 1) // nobody may join it
		w.next(t).ok()
		d := w.next(t)
		if string(d.req.Params) != "poison" {
			t.Fatalf("%s went first, want poison", d.req.Params)
		}
		b.counts(1, 1)
		d.fail(fleet.ErrReplicaLost)
		wantErr(t, poison, fleet.ErrReplicaLost)
		b.replicas(replicas...)
		where(t, workers).next(t).ok()
		wantResult(t, late, "late")
	})
}

// Three calls were inside: each is repeated alone, the last sent first. Once
// that has ended another replica the others are innocent, and run together.
func TestSuspectsRunAlone(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		workers, replicas := several(1)
		b := newBench(t, Server{MaxOngoing: 5, Replicas: replicas})
		var calls []*pending
		for _, name := range []string{"a", "b", "poison"} {
			calls = append(calls, b.call(name, repeatable))
			time.Sleep(100 * time.Millisecond)
		}
		more, spare := several(2)
		b.replicas(append(replicas, spare...)...)
		busy := []*pending{b.call("x"), b.call("y")}
		dx, dy := more[0].next(t), more[1].next(t)
		for range calls {
			workers[0].next(t).fail(fleet.ErrReplicaLost)
		}
		b.replicas(spare...)
		b.counts(3, 2) // no replica is idle
		dx.ok()
		d := where(t, more).next(t)
		if string(d.req.Params) != "poison" {
			t.Fatalf("%s runs first, want the call that was sent last", d.req.Params)
		}
		b.counts(2, 2)
		// Others go elsewhere meanwhile.
		other := b.call("z")
		if got := more[1].next(t); string(got.req.Params) != "z" {
			t.Errorf("got %s, want z", got.req.Params)
		} else {
			got.ok()
		}
		wantResult(t, other, "z")
		d.fail(fleet.ErrReplicaLost)
		b.exited(d.req.Replica)
		wantErr(t, calls[2], fleet.ErrReplicaLost, "repeated once, alone")
		b.counts(0, 3) // both at once, beside y
		for range 2 {
			more[1].next(t).ok()
		}
		wantResult(t, calls[0], "a")
		wantResult(t, calls[1], "b")
		dy.ok()
		<-busy[0].done
		<-busy[1].done
		b.counts(0, 0)
	})
}

func TestSuspectsDoNotJumpTheQueue(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{Replicas: one(w)})
		poison := b.call("poison", repeatable)
		first := b.call("first")
		second := b.call("second")
		b.counts(2, 1)
		d := w.next(t)
		b.replicas()
		d.fail(fleet.ErrReplicaLost)
		b.counts(3, 0)
		third := b.call("third")
		b.counts(4, 0)
		b.replicas(Replica{ID: "r2", Backend: w})
		for _, want := range []*pending{first, second, poison, third} {
			b.counts(4-w.total()+1, 1)
			w.next(t).ok()
			if _, err := want.wait(t); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A suspect that outlives what it had lived before lets others join it.
func TestSuspectIsClearedAfterAWhile(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{MaxOngoing: 5, Replicas: one(w), CallTimeout: time.Hour, MaxCallDuration: time.Hour})
		slow := b.call("slow", repeatable)
		time.Sleep(150 * time.Millisecond)
		w.next(t).fail(fleet.ErrReplicaLost)
		b.replicas(Replica{ID: "r2", Backend: w})
		d := w.next(t)
		other := b.call("other")
		time.Sleep(550 * time.Millisecond)
		b.counts(1, 1)
		time.Sleep(100 * time.Millisecond) // four times as long
		w.next(t).ok()
		wantResult(t, other, "other")
		d.ok()
		wantResult(t, slow, "slow")
		b.counts(0, 0)
	})
}

// Where no replica becomes idle a suspect does not wait for ever.
func TestSuspectDoesNotWaitForEver(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w, gone := &worker{}, &worker{}
		b := newBench(t, Server{MaxOngoing: 5, Replicas: []Replica{{ID: "gone", Backend: gone}}, CallTimeout: time.Hour, MaxCallDuration: time.Hour})
		suspect := b.call("suspect", repeatable)
		b.replicas(Replica{ID: "r1", Backend: w})
		hung := b.call("hung")
		d := w.next(t)
		gone.next(t).fail(fleet.ErrReplicaLost)
		time.Sleep(4 * time.Second)
		b.counts(1, 1)
		time.Sleep(2 * time.Second)
		w.next(t).ok()
		wantResult(t, suspect, "suspect")
		d.ok()
		wantResult(t, hung, "hung")
	})
}

// One that was sent so, and was not alone when its replica died, is repeated:
// the other call may have done it.
func TestSuspectThatWasNotAlone(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w, gone := &worker{}, &worker{}
		b := newBench(t, Server{MaxOngoing: 5, Replicas: []Replica{{ID: "gone", Backend: gone}}, CallTimeout: time.Hour, MaxCallDuration: time.Hour})
		suspect := b.call("suspect", repeatable)
		b.replicas(Replica{ID: "r1", Backend: w})
		poison := b.call("poison")
		gone.next(t).fail(fleet.ErrReplicaLost)
		b.exited("gone")
		time.Sleep(aloneWithin + suspectRetry)
		for _, d := range []*delivery{w.next(t), w.next(t)} {
			d.fail(fleet.ErrReplicaLost)
		}
		b.exited("r1")
		wantErr(t, poison, fleet.ErrReplicaLost)
		b.replicas(Replica{ID: "r2", Backend: w})
		d := w.next(t)
		other := b.call("other")
		b.counts(1, 1) // alone
		d.fail(fleet.ErrReplicaLost)
		b.exited("r2")
		wantErr(t, suspect, fleet.ErrReplicaLost, "repeated once, alone")
		b.replicas(Replica{ID: "r3", Backend: w})
		w.next(t).ok()
		wantResult(t, other, "other")
	})
}

// While there is no replica at all, being sent like others would gain nothing.
func TestSuspectsWaitForTheFirstReplica(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{MaxOngoing: 5, Replicas: []Replica{{ID: "r1", Backend: w}}, CallTimeout: time.Hour, MaxCallDuration: time.Hour})
		calls := []*pending{b.call("first", repeatable), b.call("second", repeatable)}
		d := []*delivery{w.next(t), w.next(t)}
		b.replicas()
		for _, one := range d {
			one.fail(fleet.ErrReplicaLost)
		}
		b.exited("r1")
		time.Sleep(3 * aloneWithin)
		b.replicas(Replica{ID: "r2", Backend: w})
		for range calls {
			b.counts(len(calls)-w.total()+2, 1) // one after the other
			w.next(t).ok()
		}
		for _, p := range calls {
			if _, err := p.wait(t); err != nil {
				t.Error(err)
			}
		}
	})
}

// A suspect that leaves frees the replica that was being emptied for it.
func TestSuspectLeaves(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{MaxOngoing: 5, Replicas: []Replica{{ID: "r1", Backend: w}}})
		suspect := b.call("suspect", repeatable)
		gone := w.next(t)
		b.replicas(Replica{ID: "r2", Backend: w})
		hung := b.call("hung")
		d := w.next(t)
		gone.fail(fleet.ErrReplicaLost)
		b.counts(1, 1)
		late := b.call("late")
		b.counts(2, 1)
		suspect.cancel()
		w.next(t).ok()
		wantResult(t, late, "late")
		d.ok()
		wantResult(t, hung, "hung")
		b.counts(0, 0)
	})
}

// A suspect that has turned out to be innocent waits like any other call, and
// may leave as they do.
func TestInnocentLeaves(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{MaxOngoing: 2, Replicas: []Replica{{ID: "r1", Backend: w}}})
		first, second := b.call("first", repeatable), b.call("second", repeatable)
		d1, d2 := w.next(t), w.next(t)
		b.replicas(Replica{ID: "r2", Backend: w})
		hung := []*pending{b.call("hung"), b.call("hung")}
		d1.fail(fleet.ErrReplicaLost)
		d2.fail(fleet.ErrReplicaLost)
		b.counts(2, 2)
		b.view.Ends = []End{{ID: "r1", FromOutside: true}}
		b.update()
		b.counts(2, 2)
		first.cancel()
		b.counts(1, 2)
		for _, p := range hung {
			w.next(t).ok()
			wantResult(t, p, "hung")
		}
		w.next(t).ok()
		wantResult(t, second, "second")
		b.counts(0, 0)
	})
}

// The replica that a suspect runs on refuses it: that is no second death.
func TestSuspectIsRefused(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		workers, replicas := several(3)
		b := newBench(t, Server{MaxOngoing: 5, Replicas: replicas})
		p := b.call("x", repeatable)
		where(t, workers).next(t).fail(fleet.ErrReplicaLost)
		where(t, workers).next(t).fail(fleet.ErrNotDelivered)
		where(t, workers).next(t).ok()
		wantResult(t, p, "x")
		b.counts(0, 0)
	})
}

// Calls that were inside several replicas when these died together, as with
// their machine, are not known to be the reason.
func TestOneFaultOfManyReplicasBlamesNobody(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		workers, replicas := several(3)
		b := newBench(t, Server{MaxOngoing: 5, Replicas: replicas})
		var calls []*pending
		for range 6 {
			calls = append(calls, b.call("same", repeatable))
		}
		for _, w := range workers {
			for w.waiting() {
				w.next(t).fail(fleet.ErrReplicaLost)
			}
		}
		fresh, again := several(1)
		b.replicas(again...)
		for range calls {
			fresh[0].next(t).ok()
		}
		for _, p := range calls {
			wantResult(t, p, "same")
		}
		b.counts(0, 0)
	})
}

func TestBlameIsBoundedAndEnds(t *testing.T) {
	now := time.Now()
	var b blame
	for i := range 2 * maxBlamed {
		b.add(callKey{size: i}, now, now.Add(time.Duration(i)), false)
	}
	if n := len(b.calls); n != maxBlamed || !b.any() {
		t.Errorf("%d calls are blamed, want %d", n, maxBlamed)
	}
	if _, kept := b.calls[callKey{size: 2*maxBlamed - 1}]; !kept {
		t.Error("the newest was dropped")
	}
	k := callKey{caller: "k"}
	now = now.Add(time.Second)
	if b.add(k, now, now, false) || b.add(k, now.Add(-1), now.Add(1), false) || b.guilty(k, now) {
		t.Error("guilty after one death")
	}
	if !b.add(k, now.Add(2), now.Add(3), false) || !b.guilty(k, now.Add(4)) {
		t.Error("not guilty after two deaths")
	}
	if b.guilty(k, now.Add(2*blameFor)) || b.any() {
		t.Error("blamed for ever")
	}
}

// A replica that was killed from outside was ended by no call: those inside
// are innocent as soon as that is known, and may be repeated twice.
func TestKilledFromOutside(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &worker{}
		b := newBench(t, Server{MaxOngoing: 5, Replicas: []Replica{{ID: "r1", Backend: w}}})
		first, second := b.call("first", repeatable), b.call("second", repeatable)
		d1, d2 := w.next(t), w.next(t)
		b.replicas(Replica{ID: "r2", Backend: w})
		d1.fail(fleet.ErrReplicaLost)
		d2.fail(fleet.ErrReplicaLost)
		b.counts(1, 1)
		b.view.Ends = []End{{ID: "r1", FromOutside: true}}
		b.update()
		b.counts(0, 2) // together
		alone := w.next(t)
		w.next(t).ok()
		// The one that ran alone may go on.
		b.view.Ends = []End{{ID: "r2", FromOutside: true}}
		b.replicas(Replica{ID: "r3", Backend: w})
		alone.fail(fleet.ErrReplicaLost)
		w.next(t).ok()
		for _, p := range []*pending{first, second} {
			if _, err := p.wait(t); err != nil {
				t.Error(err)
			}
		}
		if s := (*b.router.servers.Load())["s"]; s.blame.any() || len(s.deaths) != 0 {
			t.Errorf("%d calls are blamed, %d deaths unexplained", len(s.blame.calls), len(s.deaths))
		}
	})
}

// A client that sends a call which is known to end replicas, again and again,
// ends one in a second and not all there are.
func TestGuiltyCallsAreSlowedDown(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		workers, replicas := several(8)
		b := newBench(t, Server{MaxOngoing: 5, Replicas: replicas})
		end := func() {
			w := where(t, workers)
			d := w.next(t)
			d.fail(fleet.ErrReplicaLost)
			b.exited(d.req.Replica)
			b.replicas(without(b.view.Replicas, w)...)
		}
		p := b.call("poison", repeatable)
		end()
		end()
		wantErr(t, p, fleet.ErrReplicaLost)
		began := time.Now()
		for range 3 {
			p := b.call("poison", repeatable)
			b.counts(1, 0)
			neighbour := b.call("neighbour")
			where(t, workers).next(t).ok()
			wantResult(t, neighbour, "neighbour")
			time.Sleep(2 * time.Second) // it looks once a second
			end()
			wantErr(t, p, fleet.ErrReplicaLost)
		}
		if took := time.Since(began); took < 3*pauseGuilty {
			t.Errorf("three more replicas ended within %s", took)
		}
	})
}
