package autoscale

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Kind is why a target changed, in one word. It is a label of a metric.
type Kind string

// The kinds of decisions.
const (
	Up        Kind = "up"       // more calls
	Down      Kind = "down"     // fewer calls, or none
	Wake      Kind = "wake"     // calls for a server without replicas
	Floor     Kind = "floor"    // a user asked for more, until a certain time
	Scheduled Kind = "schedule" // a schedule raised the floor or lowered the cap
	Limit     Kind = "limit"    // min_replicas or max_replicas
)

func kinds() []Kind { return []Kind{Up, Down, Wake, Floor, Scheduled, Limit} }

// Input is what the policy goes by, besides the load.
type Input struct {
	Spec      *fleet.Autoscaling
	Schedules []Schedule // those of Spec
	Floor     fleet.Floor
	Target    int // the present one
	// LoadKnown is false while a report of the load is missing. That blocks scaling
	// down.
	LoadKnown bool
}

// Decision is what the policy decides at one time.
type Decision struct {
	Target int
	Kind   Kind   // "" if the target stays
	Reason string // in words
	// Wanted is how many replicas the calls of the last second ask for, whatever
	// the limits and delays are.
	Wanted int
	// Next is when to decide again if nothing happens before. Zero: never.
	Next time.Time
}

const (
	// deadBand is how far the load may be from that of the present target, as a share
	// of it, without any change.
	deadBand = 0.1
	// climb is how long after a step up further ones belong to the same climb. A step
	// of load is answered in several steps, and the last of them must not fall short
	// because it is small.
	climb = time.Second
	// climbBand bounds the dead band during a climb, in replicas. It is not less, because
	// the load is not exact: programs report at different moments, so calls that go from
	// one to the other are counted twice, or not at all.
	climbBand = 0.75
	// settleEvery is how often to look while the mean of the last second changes.
	settleEvery = 100 * time.Millisecond
	// upPace is the least time from a change of the target to the next step up. The
	// mean grows for a moment after a step of load, and each step is a write.
	upPace = 150 * time.Millisecond
	// slowPace is the same for steps down, and for steps up with a factor below 1.
	slowPace = time.Second
	// roundOff is the error of a mean that makes no replica.
	roundOff = 1e-6
	// mostWanted bounds what a load may ask for, far above every limit. A load divided
	// by a tiny target is no whole number otherwise.
	mostWanted = 1e9
)

// Decide returns the target of a server now. It depends on nothing but its
// arguments: the same history, decisions and inputs give the same decision. It adds
// what the load asks for to the history, because a wish must have lasted for the
// delay.
func Decide(now time.Time, in Input, h *History) Decision {
	spec := in.Spec
	h.setLookBack(now, spec.LookBack)
	h.setKnown(now, in.LoadKnown)
	h.setTarget(now, in.Target)
	limits := limitsAt(now, &in)
	recent := h.recent.mean(now)
	load := max(recent, h.lookBack.mean(now))
	h.noteWishes(now, &in, limits, recent, load)

	d := Decision{Target: fleet.Clamp(in.Target, limits.least, limits.most), Next: limits.until}
	d.Wanted = replicasFor(recent, spec.TargetOngoing)
	switch {
	case in.Target == 0 && d.Target == 0 && h.load.Calls() > 0 && limits.most > 0:
		d.Target, d.Kind, d.Reason = 1, Wake, calls(float64(h.load.Calls()))+" for an idle server"
	case d.Target > in.Target:
		d.Kind, d.Reason = limits.whyLeast()
	case d.Target < in.Target:
		d.Kind, d.Reason = limits.whyMost()
	}
	if n, ok := h.wishUp(now, spec, &d); ok && n > d.Target && n > in.Target {
		d.Target, d.Kind = n, Up
		d.Reason = fmt.Sprintf("%s over the last second, %s wanted for each replica", calls(recent), number(spec.TargetOngoing))
		if n == limits.most && n < d.Wanted {
			_, why := limits.whyMost()
			d.Reason += ", and " + why
		}
	}
	if n, delay, ok := h.wishDown(now, spec, &d); ok && d.Kind == "" && n < d.Target {
		d.Target, d.Kind = n, Down
		d.Reason = fmt.Sprintf("at most %d needed for %s, at %s each", n, delay, calls(spec.TargetOngoing))
		if n == 0 {
			d.Reason = "no call for " + now.Sub(h.quietSince(now)).Round(time.Second).String()
		}
	}
	h.lookAgain(now, limits, &d)
	return d
}

// noteWishes notes what the load asks for, within the limits. Whatever does not ask
// for more, or fewer, than there are interrupts an earlier wish.
func (h *History) noteWishes(now time.Time, in *Input, l limits, recent, load float64) {
	spec := in.Spec
	more := fleet.Clamp(max(in.Target, wish(spec, in.Target, recent, h.climbs(now))), l.least, l.most)
	h.up.note(now, more, spec.UpscaleDelay)
	fewer := in.Target
	if in.LoadKnown && !now.Before(h.fullyKnown()) {
		fewer = min(in.Target, wish(spec, in.Target, load, false))
		if fewer == 0 && now.Sub(h.quietSince(now)) < spec.LookBack {
			fewer = 1
		}
	}
	h.down.note(now, -fleet.Clamp(fewer, l.least, l.most), max(spec.DownscaleDelay, spec.ToZeroDelay()))
}

// wishUp returns the number of replicas that has been wished for, at least, for the
// whole delay.
func (h *History) wishUp(now time.Time, spec *fleet.Autoscaling, d *Decision) (n int, ok bool) {
	pace := upPace
	if spec.UpscalingFactor < 1 {
		pace = slowPace
	}
	n, ok, next := h.up.after(now, spec.UpscaleDelay, h.target)
	ok = h.paced(now, pace, ok, d)
	d.Next = earlier(d.Next, next)
	return n, ok
}

// wishDown returns the number of replicas that has been wished for, at most, for the
// whole delay, and that delay. The last replica has a delay of its own.
func (h *History) wishDown(now time.Time, spec *fleet.Autoscaling, d *Decision) (n int, delay time.Duration, ok bool) {
	least := 1
	if delay = spec.DownscaleDelay; h.target <= 1 {
		least, delay = 0, spec.ToZeroDelay()
	}
	n, ok, next := h.down.after(now, delay, -h.target)
	ok = h.paced(now, slowPace, ok, d)
	d.Next = earlier(d.Next, next)
	return max(-n, least), delay, ok
}

// paced holds back a wish if the target has changed just now.
func (h *History) paced(now time.Time, pace time.Duration, ok bool, d *Decision) bool {
	due := h.changed.Add(pace)
	if !ok || !due.After(now) {
		return ok
	}
	d.Next = earlier(d.Next, due)
	return false
}

// lookAgain adds the times at which the means, or what is known, will have changed.
func (h *History) lookAgain(now time.Time, l limits, d *Decision) {
	if !h.recent.settled(now) {
		d.Next = earlier(d.Next, now.Add(settleEvery))
	}
	if d.Target <= l.least {
		return
	}
	if known := h.fullyKnown(); known.After(now) {
		d.Next = earlier(d.Next, known)
	} else if !h.lookBack.settled(now) {
		d.Next = earlier(d.Next, now.Add(max(h.lookBack.length/lookBackSteps, settleEvery)))
	}
	if quiet := h.quietSince(now).Add(h.lookBack.length); h.load.Calls() == 0 && quiet.After(now) {
		d.Next = earlier(d.Next, quiet)
	}
}

// wish returns how many replicas a load asks for, if there are target of them now.
// Within the dead band, a share of the target, that is the target, unless it climbs.
func wish(spec *fleet.Autoscaling, target int, load float64, climbs bool) int {
	at := float64(target)
	need, band := min(load/spec.TargetOngoing, mostWanted), deadBand
	if climbs && need > at {
		need, band = max(need-min(climbBand, deadBand*need), at), 0
	}
	if math.Abs(need-at) <= band*at+roundOff {
		return target
	}
	full := replicasFor(load, spec.TargetOngoing)
	if need > at {
		return max(int(math.Ceil(at+spec.UpscalingFactor*(need-at)-roundOff)), target+1)
	}
	n := int(math.Ceil(at + spec.DownscalingFactor*(need-at) - roundOff))
	if n == target && full < target {
		n-- // a small factor must not get stuck
	}
	return max(n, full) // a factor above 1 must not go below what is needed
}

// replicasFor returns how many replicas a load needs.
func replicasFor(load, each float64) int {
	if load <= 0 {
		return 0
	}
	return max(int(math.Ceil(min(load/each, mostWanted)-roundOff)), 1)
}

// calls returns a number of calls in words.
func calls(n float64) string {
	if s := number(n); s == "1" {
		return "1 call"
	}
	return number(n) + " calls"
}

// number returns a number with one decimal if it has any.
func number(n float64) string {
	return strconv.FormatFloat(math.Round(n*10)/10, 'f', -1, 64)
}
