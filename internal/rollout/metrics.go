package rollout

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpfleet/mcpfleet/internal/desired"
)

// outcome is how the rollout of a new revision has ended.
type outcome string

// The outcomes.
const (
	rolledOut    outcome = "rolled_out"
	failedChecks outcome = "failed_checks" // rolled back before it took a call
	servedWorse  outcome = "served_worse"  // rolled back
	noProgress   outcome = "no_progress"   // rolled back
	superseded   outcome = "superseded"    // by another write
)

// outcomeOf returns how a rollout has ended. sv is the server by now, nil if it was
// removed.
func outcomeOf(t *trial, sv *desired.Server) outcome {
	switch {
	case sv == nil:
	case sv.Revision == t.revision && sv.Stable == t.revision && sv.Rollout == nil:
		return rolledOut
	case sv.Failed != nil && sv.Failed.Revision == t.revision && sv.Revision == t.stable: // it is kept
		switch {
		case !sv.Failed.Unfit:
			return noProgress
		case sv.Kept(t.revision).Unchecked:
			return failedChecks
		}
		return servedWorse
	}
	return superseded
}

func newOutcomes(reg prometheus.Registerer) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mcpfleet_rollouts_total", Help: "Rollouts of new revisions that ended while this controller led, by outcome.",
	}, []string{"outcome"})
	for _, o := range []outcome{rolledOut, failedChecks, servedWorse, noProgress, superseded} {
		c.WithLabelValues(string(o))
	}
	if reg != nil {
		reg.MustRegister(c)
	}
	return c
}
