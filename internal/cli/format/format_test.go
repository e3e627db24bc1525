package format

import (
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

func TestRevision(t *testing.T) {
	for want, s := range map[string]api.Server{
		"4":              {Revision: 4},
		"1":              {Revision: 1, Rollout: &api.Rollout{To: 1}},
		"3 -> 4":         {Revision: 4, Rollout: &api.Rollout{From: 3, To: 4}},
		"3 (4 failed)":   {Revision: 3, Failed: &api.FailedRevision{Revision: 4}},
		"5 (restarting)": {Revision: 5, Rollout: &api.Rollout{From: 5, To: 5}},
	} {
		if got := Revision(&s); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestReady(t *testing.T) {
	floor := &api.Floor{MinReplicas: 5}
	for want, s := range map[string]api.Server{
		"2/3":                                  {Ready: 2, Desired: 3},
		"3/3 +2 warm":                          {Ready: 3, Desired: 3, Spares: 2},
		"2/2 +1 warm (sessions, at most 9)":    {Ready: 2, Desired: 2, Spares: 1, Sessions: &api.Sessions{Open: 2, Max: 9}},
		"0/0 (sessions, at most 9, 2 waiting)": {Sessions: &api.Sessions{Max: 9, Waiting: 2}},
		"0/0 (0..9)":                           {Autoscaling: &api.Autoscaling{MaxReplicas: 9}},
		"5/5 (1..100, at least 5)":             {Ready: 5, Desired: 5, Autoscaling: &api.Autoscaling{MinReplicas: 1, MaxReplicas: 100, Floor: floor}},
	} {
		if got := Ready(&s); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestLatency(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0.5ms": 500 * time.Microsecond, "12ms": 12345 * time.Microsecond, "1.5s": 1500 * time.Millisecond, ">1m": time.Minute,
	} {
		if got := Latency(d); got != want {
			t.Errorf("%s: got %q, want %q", d, got, want)
		}
	}
}

func TestNodeState(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	later, before := now.Add(time.Minute), now.Add(-time.Minute)
	for want, n := range map[string]api.Node{
		"READY, leader":                   {State: api.NodeReady, Leader: true},
		"DRAINING, drains until 12:01:00": {State: api.NodeDraining, DrainUntil: &later, Cordoned: true},
		"READY, drained":                  {State: api.NodeReady, DrainUntil: &before, Cordoned: true},
		"READY, cordoned":                 {State: api.NodeReady, Cordoned: true},
	} {
		if got := NodeState(&n, now); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestAge(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for want, d := range map[string]time.Duration{
		"3s": 3 * time.Second, "1m0s": time.Minute, "5m": 5*time.Minute + 20*time.Second, "26h0m": 26 * time.Hour, "3d": 80 * time.Hour,
	} {
		then := now.Add(-d)
		if got := Age(&then, now); got != want {
			t.Errorf("%s: got %q, want %q", d, got, want)
		}
	}
	if got := Age(nil, now); got != "" {
		t.Errorf("of no time: %q", got)
	}
}

func TestShares(t *testing.T) {
	n := api.Node{Capacity: api.Resources{CPUs: 4, Memory: 64 << 30}, Allocated: api.Resources{CPUs: 0.5, Memory: 512 << 20}}
	if got := CPUShare(&n) + " " + MemoryShare(&n); got != "0.5/4 512MiB/64GiB" {
		t.Errorf("got %q", got)
	}
	if got := CPUShare(&api.Node{}) + MemoryShare(&api.Node{}); got != "" {
		t.Errorf("unknown: %q", got)
	}
}
