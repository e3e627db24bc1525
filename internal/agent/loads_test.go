package agent

import (
	"fmt"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// A change of the number of running calls is reported within 100 ms, and an idle agent
// reports nothing.
func TestLoadsAreReportedSoon(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", nil)
		soon := func(what string, ongoing int, total uint64) {
			t.Helper()
			time.Sleep(100 * time.Millisecond)
			if got := r.now("a").Load; got != (fleet.Load{Ongoing: ongoing, Total: total}) {
				t.Errorf("100 ms after %s: %+v, want %d running of %d", what, got, ongoing, total)
			}
		}
		for range 3 {
			time.Sleep(300 * time.Millisecond) // whatever the moment
			before := r.now("a").Load.Total
			c := r.call("a", "slow", `{"ms":5010}`)
			soon("its beginning", 1, before+1)
			c.reply(t)
			soon("its end", 0, before+1)
		}
		hung := r.call("a", "hang", "{}")
		time.Sleep(time.Second)
		hung.cancel(true)
		<-hung.replied
		<-hung.released
		soon("its slot was free", 0, 4)

		time.Sleep(time.Second)
		version := r.view.snapshot().last.Version
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := r.view.snapshot().last.Version; got != version {
			t.Errorf("an idle minute made %d changes", got-version)
		}
	})
}

// Counts of a replica with a steady number of calls are reported four times a second at
// most, and none is left out.
func TestCountsAreReportedAtIntervals(t *testing.T) {
	b := newBoard(fleet.NodeInfo{Node: "n"}, 10, time.Minute)
	if _, _, err := b.add(assignment("a", nil), newStderrRing()); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	var c counts
	for _, step := range []struct {
		after    time.Duration
		load     fleet.Load
		ended    bool
		all      bool
		reported uint64 // calls
	}{
		{0, fleet.Load{}, false, true, 0},
		{0, fleet.Load{Ongoing: 1, Total: 1}, false, true, 0},
		{10 * time.Millisecond, fleet.Load{Ongoing: 1, Total: 1}, false, true, 0},
		{20 * time.Millisecond, fleet.Load{Ongoing: 1, Total: 2}, true, false, 0},
		{30 * time.Millisecond, fleet.Load{Ongoing: 1, Total: 2}, true, false, 0}, // a call that timed out, and holds its slot
		{249 * time.Millisecond, fleet.Load{Ongoing: 1, Total: 2}, false, false, 0},
		{250 * time.Millisecond, fleet.Load{Ongoing: 1, Total: 2}, false, true, 2},
		{260 * time.Millisecond, fleet.Load{Ongoing: 1, Total: 2}, false, true, 2},
		{270 * time.Millisecond, fleet.Load{Ongoing: 0, Total: 2}, true, true, 3},
	} {
		if step.ended {
			c.ended(&fleet.CallEvent{Err: fleet.ErrTimeout}, 0)
		}
		all := b.load("a", step.load, &c, begin.Add(step.after))
		if got := b.entries["a"].report.Calls.TimedOut; all != step.all || got != step.reported {
			t.Errorf("after %s: all reported: %v, %d calls; want %v, %d", step.after, all, got, step.all, step.reported)
		}
	}
}

// Each call that has ended is counted once, by its outcome.
func TestCallsAreCounted(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", nil)
		for _, tool := range []string{"echo", "fail", "error", "bad"} {
			r.call("a", tool, `{"text":"x"}`).reply(t)
		}
		r.call("a", "big", fmt.Sprintf(`{"bytes":%d}`, 300<<10)).reply(t)
		r.call("a", "slow", `{"ms":150}`).reply(t)
		late := r.call("a", "hang", "{}")
		late.cancel(true)
		late.reply(t)
		gone := r.call("a", "hang", "{}")
		gone.cancel(false)
		gone.reply(t)
		time.Sleep(time.Second)
		want := fleet.CallCounts{OK: 3, IsError: 1, Error: 2, TimedOut: 1, Latency: make([]uint64, 16)}
		want.Latency[0], want.Latency[7] = 5, 1
		if got := r.now("a").Calls; !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		lost := r.call("a", "hang", "{}")
		r.call("a", "crash", "{}").reply(t)
		lost.reply(t)
		want.Lost = 2
		if got := r.until("a", fleet.PhaseFailed).Calls; !reflect.DeepEqual(got, want) {
			t.Errorf("at its end, got  %+v\nwant %+v", got, want)
		}
	})
}

func TestLatencyBuckets(t *testing.T) {
	last := len(fleet.LatencyBounds)
	for took, want := range map[time.Duration]int{
		0: 0, time.Millisecond: 0, time.Millisecond + 1: 1, 150 * time.Millisecond: 7, time.Minute: last - 1, time.Hour: last,
	} {
		if got := latencyBucket(took); got != want {
			t.Errorf("%s is in bucket %d, want %d", took, got, want)
		}
	}
}

// BenchmarkCallEnded is what counting and reporting add to the path of a call.
func BenchmarkCallEnded(b *testing.B) {
	var c counts
	n := loadNotice{look: make(chan struct{}, 1)}
	n.post()
	e := fleet.CallEvent{Result: []byte(`{"content":[{"type":"text","text":"hello"}],"isError":false}`)}
	began := time.Now()
	for b.Loop() {
		n.post()
		c.ended(&e, time.Since(began))
		n.post()
	}
}
