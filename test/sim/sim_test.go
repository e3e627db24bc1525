package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"
)

// simulated runs everything once for all tests.
var simulated = sync.OnceValue(simulateAll)

// The policy settles soon, does not let calls wait, and turns no more often than the
// load does, but for what is chance: calls come at random moments.
func TestPolicy(t *testing.T) {
	bounds := map[string]struct {
		settling time.Duration
		chance   int // turns more than the load demands
		cost     float64
		p99      time.Duration
	}{
		"steady":  {settling: 0, chance: 4, cost: 1.5, p99: 0},
		"step":    {settling: 2 * time.Second, chance: 2, cost: 2, p99: 0},
		"ramp":    {settling: time.Second, chance: 4, cost: 1.4, p99: 0},
		"burst":   {settling: 2 * time.Second, chance: 0, cost: 6.5, p99: 300 * time.Millisecond},
		"diurnal": {settling: 2 * time.Second, chance: 2, cost: 1.4, p99: 0},
		"on-off":  {settling: 2 * time.Second, chance: 0, cost: 5, p99: 500 * time.Millisecond},
		"noisy":   {settling: 3 * time.Second, chance: 0, cost: 1.8, p99: 0},
	}
	s := simulated()
	for i := range s.loads {
		name := s.loads[i].name
		want, known := bounds[name]
		if !known {
			t.Errorf("%s: no bounds", name)
		}
		runs := s.compared[name]
		got := runs[0].result()
		if got.settling > want.settling {
			t.Errorf("%s: %v with too few replicas, want %v at most", name, got.settling, want.settling)
		}
		if got.turns > got.demanded+want.chance {
			t.Errorf("%s: the target turns %d times, the load %d times", name, got.turns, got.demanded)
		}
		if got.cost > want.cost {
			t.Errorf("%s: %.2f times the replica-seconds of the ideal, want %.2f at most", name, got.cost, want.cost)
		}
		if got.p99 > want.p99 {
			t.Errorf("%s: a call in a hundred waits %v, want %v at most", name, got.p99, want.p99)
		}
		for _, other := range runs[1:] {
			if o := other.result(); o.settling < got.settling || o.p99 < got.p99 {
				t.Errorf("%s: %s settles in %v (p99 %v), ours in %v (p99 %v)", name, other.subject, o.settling, o.p99, got.settling, got.p99)
			}
		}
	}
}

// Callers that wait for their answers make a load that is the same all the time. The
// target stays at what it needs.
func TestSteadyCallers(t *testing.T) {
	for callers := 1; callers <= 100; callers += 3 {
		p, s := newOurs(1), scene{calls: callers, target: 1}
		var steps []int
		for at := time.Duration(0); at < 10*time.Minute; at += p.every() {
			n := p.look(at, s)
			if n != s.target {
				steps = append(steps, n-s.target)
			}
			s.target = n
		}
		if turns(steps) != 0 {
			t.Errorf("%d callers: the target turns: %v", callers, steps)
		}
		if load := float64(callers) / targetOngoing; float64(s.target) > load+1 || float64(s.target)*1.1 < load {
			t.Errorf("%d callers: %d replicas", callers, s.target)
		}
	}
}

// A simulation that runs again is the same, and the page shows the present one.
func TestDocsAreCurrent(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skipf("the page was written on amd64, and %s may round other ways", runtime.GOARCH)
	}
	const docs = "../../docs"
	page, err := os.ReadFile(filepath.Join(docs, "AUTOSCALING.md"))
	if err != nil {
		t.Fatal(err)
	}
	filled, err := simulated().fill(page)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(filled, page) {
		t.Error("docs/AUTOSCALING.md has other tables: run make sim")
	}
	for name, want := range simulated().plots() {
		got, err := os.ReadFile(filepath.Join(docs, "autoscaling", name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("docs/autoscaling/%s is another plot (%v): run make sim", name, err)
		}
		if !bytes.Contains(page, []byte("autoscaling/"+name)) {
			t.Errorf("docs/AUTOSCALING.md does not show %s", name)
		}
	}
}
