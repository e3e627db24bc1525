package agent

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// What a replica uses is reported within some seconds, and again only once it has changed
// noticeably. An ended replica uses nothing.
func TestUsageIsReported(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", nil)
		time.Sleep(usagePeriod / 4) // so that no step is at the moment of a reading
		busy := func(cores float64, memory int64) {
			for range 5 {
				r.rt.Consume("a", time.Duration(cores*float64(time.Second)), memory)
				time.Sleep(time.Second)
			}
		}
		busy(0.5, 100<<20)
		if got := r.now("a").Usage; got.CPUs < 0.49 || got.CPUs > 0.51 || got.Memory != 100<<20 {
			t.Errorf("got %+v, want half a core and 100 MiB", got)
		}
		version := r.view.snapshot().last.Version
		busy(0.52, 101<<20)
		if got := r.view.snapshot().last.Version; got != version {
			t.Errorf("a small change was reported: %+v", r.now("a").Usage)
		}
		busy(0, 101<<20)
		busy(0, 101<<20)
		if got := r.now("a").Usage; got.CPUs != 0 || got.Memory != 101<<20 {
			t.Errorf("got %+v, want no CPU", got)
		}
		r.order("a", "no longer needed")
		if got := r.until("a", fleet.PhaseStopped).Usage; got != (fleet.Usage{}) {
			t.Errorf("an ended replica uses %+v", got)
		}
	})
}

// Nothing is reported of a replica whose usage is not known.
func TestUnknownUsage(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := r.now("a").Usage; got != (fleet.Usage{}) {
			t.Errorf("got %+v", got)
		}
	})
}

func TestNoticeable(t *testing.T) {
	for _, tt := range []struct {
		was, is fleet.Usage
		want    bool
	}{
		{fleet.Usage{}, fleet.Usage{Memory: 2 << 20}, true},
		{fleet.Usage{CPUs: 0.001}, fleet.Usage{CPUs: 0.009}, false},
		{fleet.Usage{CPUs: 0.02}, fleet.Usage{}, true},
		{fleet.Usage{CPUs: 2}, fleet.Usage{CPUs: 2.1}, false},
		{fleet.Usage{CPUs: 2}, fleet.Usage{CPUs: 1.7}, true},
		{fleet.Usage{Memory: 100 << 20}, fleet.Usage{Memory: 109 << 20}, false},
		{fleet.Usage{Memory: 100 << 20}, fleet.Usage{Memory: 80 << 20}, true},
	} {
		if got := noticeable(tt.was, tt.is); got != tt.want {
			t.Errorf("from %+v to %+v: %v", tt.was, tt.is, got)
		}
	}
}
