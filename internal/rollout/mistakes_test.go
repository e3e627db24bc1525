package rollout

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// rehearsal is the trial of a revision that is as good as the one before, with calls
// that fail by chance.
type rehearsal struct {
	rand     *rand.Rand
	failing  float64 // share of the calls
	server   *fleet.Server
	trial    *trial
	old, new *fleet.Replica
	snap     *observe.Snapshot
	now      time.Time
}

func rehearse(r *rand.Rand, failing float64, steps []float64) *rehearsal {
	policy := fleet.DefaultUpdate()
	policy.Canary = &fleet.Canary{Steps: steps, Hold: time.Minute, Gate: fleet.GateAuto}
	d := &fleet.Server{
		Spec: fleet.Spec{Replicas: 2, Update: &policy}, Target: fleet.Target{Replicas: 2}, Revision: 2, Stable: 1,
		Rollout: &fleet.Rollout{From: 1, Checked: true}, StableTemplate: &fleet.Template{},
	}
	return &rehearsal{
		rand: r, failing: failing, server: d, trial: &trial{identity: identify(d), stable: 1}, now: time.Unix(1e9, 0),
		old:  &fleet.Replica{ID: "old", Node: "n", Revision: 1, Phase: fleet.PhaseReady},
		new:  &fleet.Replica{ID: "new", Node: "n", Revision: 2, Phase: fleet.PhaseReady},
		snap: &observe.Snapshot{Nodes: map[fleet.NodeID]observe.Node{"n": {Connected: true}}},
	}
}

// fails returns how many of n calls fail. It draws the calls from one that fails to the
// next.
func (r *rehearsal) fails(n uint64) (failed uint64) {
	rate := -math.Log1p(-r.failing)
	for at := 0.0; ; failed++ {
		if at += 1 + math.Floor(r.rand.ExpFloat64()/rate); at > float64(n) {
			return failed
		}
	}
}

func (r *rehearsal) call(rep *fleet.Replica, n uint64) {
	failed := r.fails(n)
	rep.Calls.OK += n - failed
	rep.Calls.IsError += failed
}

// look lets the trial decide. It reports whether the revision is rolled back.
func (r *rehearsal) look() (rolledBack bool) {
	d := r.trial.next(r.now, r.server, nil, r.snap, []*fleet.Replica{r.old, r.new})
	switch c := d.write.(type) {
	case desired.FailRollout:
		return true
	case desired.AdvanceRollout:
		r.server.Rollout.Step = c.Step
	}
	return false
}

// serve makes calls of which the new revision gets a share, with a look whenever the
// trial is due for one, and one at the end of the step.
func (r *rehearsal) serve(calls, share float64) (rolledBack bool) {
	r.look() // the counts begin here
	for fresh, all := uint64(0), uint64(calls*share); fresh < all; {
		n := min(r.trial.lookAt, all) - fresh
		fresh += n
		r.call(r.new, n)
		r.call(r.old, uint64(float64(n)*(1-share)/share))
		if fresh == all {
			r.now = r.now.Add(time.Minute)
		}
		if r.look() {
			return true
		}
	}
	return false
}

// docs/UPDATES.md has these figures. A judgement that makes more mistakes needs other
// thresholds, or another page.
func TestMistakes(t *testing.T) {
	t.Parallel()
	const revisions, calls = 1000, 10000
	steps := []float64{5, 25, 50}
	for _, tt := range []struct {
		failing, step       float64 // the most that each step rolls back, in percent
		atLeast, altogether float64 // all steps, and what follows them
	}{
		{0.3, 5, 10, 16},
		{0.1, 5, 10, 16},
		{0.01, 2, 1.5, 3.5},
		{0.001, 1, 0, 1},
	} {
		var came, went [4]float64 // by step, and after the last one
		for i := range uint64(revisions) {
			r := rehearse(rand.New(rand.NewPCG(i, math.Float64bits(tt.failing))), tt.failing, steps)
			for n, share := range append(steps, 50) { // then half of the replicas are new
				came[n]++
				if r.serve(calls, share/100) {
					went[n]++
					break
				}
				if r.server.Rollout.Step != min(n+1, len(steps)) {
					t.Fatalf("step %d of the canary has ended, and it is at %d", n+1, r.server.Rollout.Step)
				}
			}
		}
		all := 0.0
		for n := range went {
			all += 100 * went[n] / revisions
			if share := 100 * went[n] / came[n]; share > tt.step {
				t.Errorf("%g of the calls fail: step %d has rolled back %.1f %%, want at most %g %%", tt.failing, n+1, share, tt.step)
			}
		}
		t.Logf("%g of the calls fail: %.1f %% rolled back, by step %v of %v", tt.failing, all, went, came)
		if all < tt.atLeast || all > tt.altogether {
			t.Errorf("%g of the calls fail: %.1f %% rolled back, want %g to %g", tt.failing, all, tt.atLeast, tt.altogether)
		}
	}
}
