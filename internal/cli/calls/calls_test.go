package calls

import (
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

func TestSum(t *testing.T) {
	before := api.Replica{TotalCalls: 10, Calls: api.Calls{OK: 9, IsError: 1, Latency: []uint64{10}}}
	now := api.Replica{TotalCalls: 30, Calls: api.Calls{OK: 24, IsError: 2, Error: 1, TimedOut: 1, Lost: 2, Latency: []uint64{10, 0, 18}}}
	var s Sum
	if _, ok := s.Quantile(0.5); ok {
		t.Error("no calls have a median")
	}
	s.Add(&before, &now)
	if d, ok := s.Quantile(0.5); s.Calls != 20 || s.Failed != 5 || d != 3500*time.Microsecond || !ok {
		t.Errorf("between two readings: %+v, median %s", s, d)
	}
	s.Add(&api.Replica{}, &before)
	if s.Calls != 30 || s.Failed != 6 {
		t.Errorf("with all calls of another one: %+v", s)
	}
	s.Add(&now, &before)
	if s.Calls != 30 || s.Failed != 6 {
		t.Errorf("with readings in the wrong order: %+v", s)
	}
}
