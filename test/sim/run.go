package main

import (
	"math"
	"slices"
	"time"
)

// sampleEvery is how often a run is recorded.
const sampleEvery = 200 * time.Millisecond

// run is what happened in a simulation.
type run struct {
	load    *load
	subject string
	samples []sample
	waits   []time.Duration // of calls in the queue
	steps   []int           // changes of the target
}

// sample is how things were at one moment.
type sample struct{ target, ready, ideal int }

func (r *run) record(at time.Duration, s scene) {
	r.samples = append(r.samples, sample{s.target, s.ready, r.load.ideal(at)})
}

func (r *run) recordTarget(from, to int) {
	if from != to {
		r.steps = append(r.steps, to-from)
	}
}

// result is a run in figures.
type result struct {
	settling  time.Duration // the longest time with too few replicas ready
	overshoot float64       // the greatest target beyond the greatest ideal, as a share of it
	cost      float64       // replica-seconds, relative to the ideal
	turns     int           // changes of direction of the target
	demanded  int           // the same of the ideal
	changes   int           // of the target
	mean, p99 time.Duration // of the waits
}

// enough is the share of the ideal that is not too few.
const enough = 0.9

func (r *run) result() result {
	out := result{turns: turns(r.steps), changes: len(r.steps)}
	var short time.Duration
	var most, sum sample
	var ideals []int
	for i, s := range r.samples {
		if short += sampleEvery; float64(s.ready) >= enough*float64(s.ideal) {
			short = 0
		}
		out.settling = max(out.settling, short)
		most.target, most.ideal = max(most.target, s.target), max(most.ideal, s.ideal)
		sum.target, sum.ideal = sum.target+s.target, sum.ideal+s.ideal
		if i > 0 {
			ideals = append(ideals, s.ideal-r.samples[i-1].ideal)
		}
	}
	out.demanded = turns(ideals)
	out.overshoot = float64(most.target)/float64(most.ideal) - 1
	out.cost = float64(sum.target) / float64(sum.ideal)
	waits := slices.Sorted(slices.Values(r.waits))
	var total time.Duration
	for _, w := range waits {
		total += w
	}
	out.mean = total / time.Duration(len(waits))
	out.p99 = waits[int(math.Ceil(0.99*float64(len(waits))))-1]
	return out
}

// turns counts the changes of direction.
func turns(steps []int) (n int) {
	last := 0
	for _, s := range steps {
		if s == 0 {
			continue
		}
		if last != 0 && (s > 0) != (last > 0) {
			n++
		}
		last = s
	}
	return n
}
