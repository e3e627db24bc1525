package agent

import (
	"context"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	// usagePeriod is how often the use of resources is read, unless that takes so long
	// that it would cost more than a usageShare of a CPU.
	usagePeriod = 2 * time.Second
	usageShare  = 200
	// A change of usage is reported if it is more than one tenth and more than this.
	leastCPUs   = 0.01
	leastMemory = 1 << 20
)

// gauge computes what one replica uses. Only measure uses it, once the replica runs.
type gauge struct {
	cpu time.Duration // used by at
	at  time.Time     // at first, when the process started
}

// read returns the usage since the last reading. It reports false if that is not known.
func (g *gauge) read(m fleet.Metered, now time.Time) (u fleet.Usage, known bool) {
	cpu, memory, ok := m.Consumed()
	if !ok {
		return fleet.Usage{}, false
	}
	before := *g
	g.cpu, g.at = cpu, now
	if !now.After(before.at) {
		return fleet.Usage{}, false
	}
	// The time of a process that ended unseen can be missing from the later number.
	used := max(0, cpu-before.cpu)
	return fleet.Usage{CPUs: used.Seconds() / now.Sub(before.at).Seconds(), Memory: memory}, true
}

// measure reports what the replicas use until ctx ends.
func (a *Agent) measure(ctx context.Context) {
	timer := time.NewTimer(usagePeriod)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case began := <-timer.C:
			a.live.Range(func(_, v any) bool {
				r := v.(*replica)
				if m := r.metered.Load(); m != nil {
					if u, known := r.gauge.read(*m, time.Now()); known {
						a.board.usage(r.order.ID, u)
					}
				}
				return true
			})
			timer.Reset(max(usagePeriod, usageShare*time.Since(began)))
		}
	}
}

// noticeable reports whether a usage differs so much from the reported one that it is
// worth a report.
func noticeable(reported, u fleet.Usage) bool {
	differs := func(was, is, least float64) bool {
		by := max(was-is, is-was)
		return by > least && by > was/10
	}
	return differs(reported.CPUs, u.CPUs, leastCPUs) ||
		differs(float64(reported.Memory), float64(u.Memory), leastMemory)
}
