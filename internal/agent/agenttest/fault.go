package agenttest

import (
	"context"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Step names what a runtime does, for Inject.
type Step string

// The steps. A pull happens only where a fault of StepPull matches.
const (
	StepSweep  Step = "sweep"
	StepPull   Step = "pull"
	StepStart  Step = "start"
	StepSignal Step = "signal"
	StepExit   Step = "exit"
	StepRemove Step = "remove"
)

// Fault makes one step slow, or fail, or both.
type Fault struct {
	Step    Step
	Server  fleet.ServerName // "" matches all
	Replica fleet.ReplicaID  // "" matches all
	Delay   time.Duration    // ended early by the step's context
	Err     error            // nil: the step is only delayed
	Times   int              // how often; 0 for always
}

// Inject arms a fault. The returned function disarms it.
func (rt *Runtime) Inject(f Fault) (clear func()) {
	armed := &f
	left := f.Times
	if left == 0 {
		left = -1
	}
	armed.Times = left
	rt.mu.Lock()
	defer rt.mu.Unlock()
	rt.faults = append(rt.faults, armed)
	return func() {
		rt.mu.Lock()
		defer rt.mu.Unlock()
		armed.Times = 0
	}
}

func (f *Fault) matches(step Step, server fleet.ServerName, id fleet.ReplicaID) bool {
	return f.Times != 0 && f.Step == step && (f.Server == "" || f.Server == server) && (f.Replica == "" || f.Replica == id)
}

// has reports whether a fault is armed. The caller holds rt.mu.
func (rt *Runtime) has(step Step, server fleet.ServerName, id fleet.ReplicaID) bool {
	for _, f := range rt.faults {
		if f.matches(step, server, id) {
			return true
		}
	}
	return false
}

// fault goes through every armed fault of the step, in the order of Inject.
func (rt *Runtime) fault(ctx context.Context, step Step, server fleet.ServerName, id fleet.ReplicaID) error {
	rt.mu.Lock()
	var hit []Fault
	for _, f := range rt.faults {
		if f.matches(step, server, id) {
			hit = append(hit, *f)
			if f.Times > 0 {
				f.Times--
			}
		}
	}
	rt.mu.Unlock()
	for _, f := range hit {
		if f.Delay > 0 {
			timer := time.NewTimer(f.Delay)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return context.Cause(ctx)
			}
		}
		if f.Err != nil {
			return f.Err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
