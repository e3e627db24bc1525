package main

import (
	"math"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/autoscale"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// policy decides how many replicas there should be.
type policy interface {
	// every returns how often look is called.
	every() time.Duration
	// look returns the target.
	look(at time.Duration, s scene) int
}

// scene is what a policy sees.
type scene struct {
	calls         int // running and queued
	begun         int // so far
	target, ready int
}

// subject is a policy with its name.
type subject struct {
	name string
	make func(least int) policy
}

func subjects() []subject {
	return []subject{
		{"mcpfleet", newOurs}, {"Ray Serve", newRay}, {"Knative", newKnative},
	}
}

// ours runs the policy of mcpfleet as its loop does.
type ours struct {
	spec    fleet.Autoscaling
	history *autoscale.History
	seen    fleet.ServerLoad
	next    time.Time
	target  int
}

func newOurs(least int) policy { return withUpscaleDelay(0).make(least) }

// withUpscaleDelay is the policy of mcpfleet with an upscale_delay_s.
func withUpscaleDelay(d time.Duration) subject {
	return subject{"mcpfleet", func(least int) policy {
		o := &ours{spec: fleet.DefaultAutoscaling(), target: -1}
		o.spec.MinReplicas, o.spec.UpscaleDelay = least, d
		return o
	}}
}

func (o *ours) every() time.Duration { return autoscale.Batch }

func (o *ours) look(at time.Duration, s scene) int {
	now := time.Unix(0, 0).Add(at)
	load := fleet.ServerLoad{Running: s.calls, Begun: uint64(s.begun)}
	if o.history == nil {
		o.history = autoscale.NewHistory(now, load, o.spec.LookBack)
	}
	if load == o.seen && s.target == o.target && (o.next.IsZero() || now.Before(o.next)) {
		return s.target
	}
	if load != o.seen {
		o.history.Observe(now, load)
	}
	d := autoscale.Decide(now, autoscale.Input{Spec: &o.spec, Target: s.target, LoadKnown: true}, o.history)
	o.seen, o.target, o.next = load, s.target, d.Next
	return d.Target
}

// ray is the algorithm of Ray Serve with its defaults, except that max_replicas is
// ours. Handles take a sample every 0.5 s, and push the mean of the look-back every
// 10 s. The controller decides every 0.1 s by what was pushed last.
type ray struct {
	least   int
	samples []int
	pushed  float64
	ticks   int
	counter int // of decisions in a row for more, or for fewer if negative
}

const (
	rayTick      = 100 * time.Millisecond
	raySample    = 5    // ticks
	rayPush      = 100  // ticks
	rayLookBack  = 60   // samples
	rayUpscale   = 300  // ticks: 30 s
	rayDownscale = 6000 // ticks: 600 s
)

func newRay(least int) policy { return &ray{least: least} }

func (r *ray) every() time.Duration { return rayTick }

func (r *ray) look(_ time.Duration, s scene) int {
	if r.ticks%raySample == 0 {
		r.samples = append(r.samples, s.calls)
		r.samples = r.samples[max(0, len(r.samples)-rayLookBack):]
	}
	// A handle without replicas pushes its first call at once.
	if r.ticks%rayPush == 0 || s.ready == 0 && s.calls > 0 && r.pushed == 0 {
		sum := 0
		for _, n := range r.samples {
			sum += n
		}
		r.pushed = float64(sum) / float64(len(r.samples))
		if s.ready == 0 {
			r.pushed = max(r.pushed, float64(s.calls))
		}
	}
	r.ticks++
	if s.ready == 0 {
		if r.pushed > 0 {
			return max(1, s.target)
		}
		return s.target
	}
	want := max(r.least, min(maxReplicas, int(math.Ceil(r.pushed/targetOngoing-1e-9))))
	switch {
	case want > s.target:
		if r.counter = max(r.counter, 0) + 1; r.counter > rayUpscale {
			r.counter = 0
			return want
		}
	case want < s.target:
		if s.target > 1 {
			want = max(want, 1)
		}
		if r.counter = min(r.counter, 0) - 1; r.counter < -rayDownscale {
			r.counter = 0
			return want
		}
	default:
		r.counter = 0
	}
	return s.target
}

// knative is the algorithm of Knative's pod autoscaler with its defaults. 70 % of
// its concurrency is the target of the others.
type knative struct {
	least    int
	seconds  []float64 // mean calls of each of the last seconds
	sum      int
	samples  int
	panicked time.Duration // when it last had reason to panic
	panics   bool
	most     int           // in panic
	idle     time.Duration // since when no pod is wanted
	ticks    int
}

const (
	knativeSample = 100 * time.Millisecond
	knativeTick   = 20 // samples: 2 s
	knativeStable = 60 // seconds
	knativePanic  = 6  // seconds
	knativeGrace  = 30 * time.Second
)

func newKnative(least int) policy { return &knative{least: least} }

func (k *knative) every() time.Duration { return knativeSample }

func (k *knative) look(at time.Duration, s scene) int {
	k.sum += s.calls
	if k.samples++; k.samples == 10 {
		k.seconds = append(k.seconds, float64(k.sum)/10)
		k.seconds = k.seconds[max(0, len(k.seconds)-knativeStable):]
		k.sum, k.samples = 0, 0
	}
	k.ticks++
	if s.target == 0 && s.calls > 0 { // the activator asks at once
		k.seconds = append(k.seconds, float64(s.calls))
		return max(1, k.decide(at, s))
	}
	if k.ticks%knativeTick != 0 || len(k.seconds) == 0 {
		return s.target
	}
	n := k.decide(at, s)
	if n > 0 || s.target == 0 {
		k.idle = 0
		return n
	}
	if k.idle == 0 {
		k.idle = at
	}
	if at-k.idle < knativeGrace {
		return s.target
	}
	return 0
}

// decide is one look of the autoscaler.
func (k *knative) decide(at time.Duration, s scene) int {
	ready := max(1, float64(s.ready))
	up, down := math.Ceil(1000*ready), math.Floor(ready/2)
	stable := math.Ceil(mean(k.seconds)/targetOngoing - 1e-9)
	urgent := math.Ceil(mean(k.seconds[max(0, len(k.seconds)-knativePanic):])/targetOngoing - 1e-9)
	over := urgent/ready >= 2
	n := int(min(max(stable, down), up))
	inPanic := int(min(max(urgent, down), up))
	switch {
	case over:
		k.panics, k.panicked = true, at
	case k.panics && at-k.panicked > knativeStable*time.Second:
		k.panics, k.most = false, 0
	}
	if k.panics {
		k.most = max(k.most, n, inPanic)
		n = k.most
	}
	return max(k.least, min(maxReplicas, n))
}

func mean(values []float64) float64 {
	sum := 0.
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}
