package reconcile

import (
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

func TestStartRefusals(t *testing.T) {
	node := func(draining bool, unfit string) *observe.Node {
		return &observe.Node{Member: fleet.Member{Life: "l"}, Draining: draining, Unfit: unfit}
	}
	r := newStartRefusals()
	if r.isDraining(node(false, "")) || r.unfitReason(node(false, ""), t0) != "" {
		t.Error("refused before any answer")
	}
	if !r.isDraining(node(true, "")) || r.unfitReason(node(false, "disk full"), t0) != "disk full" {
		t.Error("the report does not count")
	}
	before := r.clone()
	r.recordDraining("l")
	r.recordUnfit("l", "not recorded", t0)
	if !r.isDraining(node(false, "")) {
		t.Error("the answer that it drains does not count")
	}
	for _, tt := range []struct {
		after  time.Duration
		report string
		want   string
	}{
		{0, "", "not recorded"},
		{refusalTime - 1, "", "not recorded"},
		{refusalTime - 1, "disk full", "disk full"},
		{refusalTime, "", ""},
	} {
		if got := r.unfitReason(node(false, tt.report), t0.Add(tt.after)); got != tt.want {
			t.Errorf("%v after the answer, reported %q: %q, want %q", tt.after, tt.report, got, tt.want)
		}
	}
	r.forget(map[fleet.LifeID]bool{"l": true})
	if !r.isDraining(node(false, "")) {
		t.Error("forgotten while the life lasts")
	}
	r.forget(nil)
	for _, r := range []*startRefusals{r, before} {
		if r.isDraining(node(false, "")) || r.unfitReason(node(false, ""), t0) != "" {
			t.Error("an answer of another life, or after the copy, counts")
		}
	}
}
