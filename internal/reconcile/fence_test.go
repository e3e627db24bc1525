package reconcile

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// A leader's rights over a worker depend on how that answered the fence, and on
// what it has reported since.
func TestFences(t *testing.T) {
	lost := errors.New("no answer")
	stale := fmt.Errorf("epoch 3: %w", fleet.ErrStaleEpoch)
	foreign := fmt.Errorf("cluster d: %w", fleet.ErrForeignCluster)
	tests := []struct {
		name     string
		asked    bool // the fence was sent
		answered bool
		err      error
		report   uint64 // the node's version; the answer is of version 5
		after    time.Duration

		accepts, refuses, reported, upToDate bool
	}{
		{name: "not asked", report: 9},
		{name: "not answered yet", asked: true, report: 9},
		{name: "not answered for long", asked: true, report: 9, after: fencePatience, accepts: true},
		{name: "answer lost", asked: true, answered: true, err: lost, report: 9},
		{name: "answer lost for long", asked: true, answered: true, err: lost, report: 9, after: fencePatience, accepts: true},
		{name: "answered, not reported yet", asked: true, answered: true, report: 4, accepts: true},
		{name: "answered and reported", asked: true, answered: true, report: 5, accepts: true, reported: true, upToDate: true},
		{name: "obeys a newer leader", asked: true, answered: true, err: stale, report: 9, after: fencePatience, refuses: true, reported: true},
		{name: "of another cluster", asked: true, answered: true, err: foreign, report: 9, after: fencePatience, refuses: true, reported: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFences(slog.New(slog.DiscardHandler), noJitter, true)
			n := observe.Node{Member: fleet.Member{Node: "n1", Life: "l"}, Version: tt.report}
			if tt.asked {
				f.of("l").startTry(t0)
			}
			if tt.answered {
				f.recordAnswer(answer{node: "n1", life: "l", order: &f.of("l").order, version: 5, err: tt.err}, t0)
			}
			now := t0.Add(tt.after)
			if got := f.acceptsStarts("l", now); got != tt.accepts {
				t.Errorf("accepts starts: %v", got)
			}
			if got := f.refusesOrders("l"); got != tt.refuses {
				t.Errorf("refuses orders: %v", got)
			}
			if got := f.hasReported(n); got != tt.reported {
				t.Errorf("has reported: %v", got)
			}
			if f.upToDate("l") {
				t.Error("up to date before the end of the pass")
			}
			f.observe(map[fleet.NodeID]observe.Node{"n1": n})
			if got := f.upToDate("l"); got != tt.upToDate {
				t.Errorf("up to date: %v", got)
			}
			f.forget(map[fleet.LifeID]bool{"other": true})
			if f.refusesOrders("l") || f.upToDate("l") {
				t.Error("the fence of a life that is over is kept")
			}
		})
	}
}

// An answer to a fence that was dropped since says nothing about the new one.
func TestFencesIgnoreOldAnswers(t *testing.T) {
	f := newFences(slog.New(slog.DiscardHandler), noJitter, true)
	old := &f.of("l").order
	f.forget(nil)
	f.recordAnswer(answer{life: "l", order: old, version: 5}, t0)
	f.of("l")
	f.recordAnswer(answer{life: "l", order: old, version: 5}, t0)
	if f.acceptsStarts("l", t0) {
		t.Error("the answer to the old fence counts")
	}
}

// A follower gives no orders: it plans with every worker, and takes no change for
// one that was ordered from here.
func TestFencesOfAFollower(t *testing.T) {
	f := newFences(slog.New(slog.DiscardHandler), noJitter, false)
	n := observe.Node{Member: fleet.Member{Node: "n1", Life: "l"}, Version: 9}
	f.observe(map[fleet.NodeID]observe.Node{"n1": n})
	if !f.acceptsStarts("l", t0) || f.refusesOrders("l") || !f.hasReported(n) || f.upToDate("l") {
		t.Error("a follower waits for fences")
	}
}
