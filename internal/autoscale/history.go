package autoscale

import (
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	// recentLength is the time whose mean decides about more replicas: a second, less
	// what it takes to learn of a load and to write a target. So a step of load is
	// answered in full within a second.
	recentLength = 800 * time.Millisecond
	recentStep   = 50 * time.Millisecond
	// lookBackSteps is how finely the look-back is divided.
	lookBackSteps = 60
)

// History is what the policy remembers of one server: its load over the last while,
// and what that asked for. Its size is bounded, at a few KB, and the cost of
// its methods does not depend on how often the load changes. One goroutine at a time
// uses it.
type History struct {
	begun    time.Time
	load     fleet.ServerLoad
	busy     time.Time // when there were calls last
	recent   record
	lookBack record

	up, down streak    // the wishes for more, and for fewer as negative numbers
	target   int       // at the last decision, -1 before the first
	changed  time.Time // when the target was seen to change last
	climbed  time.Time // the same, upwards
	foot     int       // the target before the first of the steps up that followed each other
	known    bool      // the load was ever known in full
}

// NewHistory returns the history of a server whose load is known from now on. The
// load before now is assumed to have been the same. Nothing is scaled down on that
// assumption: that takes a full look-back that is known.
func NewHistory(now time.Time, load fleet.ServerLoad, lookBack time.Duration) *History {
	return &History{
		begun: now, load: load, busy: now, target: -1,
		recent:   newRecord(now, recentLength, recentStep, load.Calls()),
		lookBack: newRecord(now, lookBack, lookBack/lookBackSteps, load.Calls()),
	}
}

// Observe notes that the load of the server is this from now on.
func (h *History) Observe(now time.Time, load fleet.ServerLoad) {
	if h.load.Calls() > 0 || load.Begun != h.load.Begun {
		h.busy = now
	}
	h.load = load
	h.recent.set(now, load.Calls())
	h.lookBack.set(now, load.Calls())
}

// setLookBack begins a new look-back if its length has changed.
func (h *History) setLookBack(now time.Time, length time.Duration) {
	if h.lookBack.length != length {
		h.begun, h.lookBack = now, newRecord(now, length, length/lookBackSteps, h.load.Calls())
	}
}

// setKnown notes whether the load is known in full. The first look-back begins when
// it is.
func (h *History) setKnown(now time.Time, known bool) {
	if !h.known {
		h.known, h.begun = known, now
	}
}

// setTarget notes the present target.
func (h *History) setTarget(now time.Time, n int) {
	if h.target >= 0 && h.target != n {
		h.changed = now
	}
	if h.target >= 0 && h.target < n {
		if now.Sub(h.climbed) >= climb {
			h.foot = h.target
		}
		h.climbed = now
	}
	h.target = n
}

// climbs reports whether the target is on its way up after a step of load, which made
// it half again as great at least. Less than that is chance.
func (h *History) climbs(now time.Time) bool {
	return now.Sub(h.climbed) < climb && 2*h.target >= 3*h.foot
}

// fullyKnown returns when a full look-back will be, or was first, known.
func (h *History) fullyKnown() time.Time { return h.begun.Add(h.lookBack.length) }

// quietSince returns since when there are no calls: now if there are any.
func (h *History) quietSince(now time.Time) time.Time {
	if h.load.Calls() > 0 {
		return now
	}
	return h.busy
}
