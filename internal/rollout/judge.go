package rollout

import (
	"fmt"
	"math"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Thresholds of the judgement. docs/UPDATES.md explains them.
const (
	// minCalls is how many calls of the new revision a judgement needs. The old one
	// needs no number of its own: the test is exact for any, and finds nothing if
	// there are too few.
	minCalls = 50
	// maxChance is the greatest chance at which a difference counts.
	maxChance = 0.01
	// minPoints is how much greater the share must be, too.
	minPoints = 0.02
	// A new revision is slow only if its median time is also slowerTimes that of the
	// old one, and slowerBy longer. New replicas begin with empty caches, and a share
	// of slow calls alone is no fault.
	slowerTimes = 2
	slowerBy    = 10 * time.Millisecond
	// minCrashes is how many replicas of the new revision must have crashed. One may
	// have been ended by something else.
	minCrashes = 2
	// usualShare is the share of the old revision's calls that are not slow.
	usualShare = 0.95
)

// Verdict is the judgement of a new revision by its calls.
type Verdict struct {
	Worse  bool
	Judged bool   // there were enough calls
	Why    string // with the figures, in words
}

// Judge compares the calls of the old and the new revision over the same time.
func Judge(oldRev, newRev fleet.Revision, old, new fleet.CallCounts) Verdict {
	was, is := sample{oldRev, failed(old), ended(old)}, sample{newRev, failed(new), ended(new)}
	switch {
	case is.all < minCalls:
		why := fmt.Sprintf("%d calls of revision %d", is.all, newRev)
		if is.hits > 0 {
			why += fmt.Sprintf(", of which %d failed", is.hits)
		}
		return Verdict{Why: why + ": too few to judge"}
	case was.all == 0:
		return Verdict{Why: fmt.Sprintf("no calls of revision %d: nothing to compare with", oldRev)}
	}
	if p, worse := is.greater(was); worse {
		return Verdict{true, true, fmt.Sprintf("revision %d: %d of %d calls failed, revision %d: %d of %d; p = %.1g",
			newRev, is.hits, is.all, oldRev, was.hits, was.all, p)}
	}
	if why := slower(oldRev, newRev, old.Latency, new.Latency); why != "" {
		return Verdict{true, true, why}
	}
	return Verdict{Judged: true, Why: fmt.Sprintf("revision %d: %d of %d calls failed, revision %d: %d of %d: not worse",
		newRev, is.hits, is.all, oldRev, was.hits, was.all)}
}

// sample counts the calls of a revision that have some property.
type sample struct {
	revision  fleet.Revision
	hits, all uint64
}

// greater reports whether the share of hits is greater than that of the other
// sample, and how likely that would be by chance.
func (s sample) greater(o sample) (p float64, is bool) {
	p = fisher(s.hits, s.all, o.hits, o.all)
	all, otherAll := float64(s.all), float64(o.all)
	more := float64(s.hits)*otherAll-float64(o.hits)*all >= minPoints*all*otherAll
	return p, p < maxChance && more
}

// crashing returns why the new revision is worse, judged by its replicas that have
// crashed, or "". It must not be explained by how long they ran, nor by the calls that
// they got: a call may end any replica that takes it.
func crashing(was, is sample, calls, newCalls uint64) string {
	p := fisher(is.hits, is.all, was.hits, was.all)
	if newCalls > 0 {
		p = max(p, fisher(is.hits, max(newCalls, is.hits), was.hits, max(calls, was.hits)))
	}
	if is.hits < minCrashes || p >= maxChance {
		return ""
	}
	return fmt.Sprintf("%d replicas of revision %d have ended by themselves, %d of revision %d; p = %.1g",
		is.hits, is.revision, was.hits, was.revision, p)
}

// failed counts the calls that did not give their callers a result.
func failed(c fleet.CallCounts) uint64 { return c.IsError + c.Error + c.TimedOut + c.Lost }

// ended counts all calls.
func ended(c fleet.CallCounts) uint64 { return c.OK + failed(c) }

// slower returns why the new revision is slower, or "". A call is slow if it took
// longer than 95 % of the old revision's.
func slower(oldRev, newRev fleet.Revision, old, new []uint64) string {
	limit := bucketOf(old, usualShare)
	was, is := sample{oldRev, above(old, limit), sum(old)}, sample{newRev, above(new, limit), sum(new)}
	if is.all < minCalls || was.all == 0 {
		return ""
	}
	before, now := median(old), median(new)
	p, more := is.greater(was)
	if !more || now < slowerTimes*before || now-before < slowerBy {
		return ""
	}
	return fmt.Sprintf("revision %d: %d of %d calls took longer than %v, median %v; revision %d: %d of %d, median %v; p = %.1g",
		newRev, is.hits, is.all, bucketEnd(limit), round(now), oldRev, was.hits, was.all, round(before), p)
}

// sum counts the calls of a histogram.
func sum(latency []uint64) (n uint64) {
	for _, c := range latency {
		n += c
	}
	return n
}

// above counts the calls above a bucket.
func above(latency []uint64, bucket int) uint64 {
	return sum(latency[min(len(latency), bucket+1):])
}

// bucketOf returns the bucket in which a share of the calls is reached, 0 without
// calls.
func bucketOf(latency []uint64, share float64) int {
	want, got := share*float64(sum(latency)), uint64(0)
	for i, n := range latency {
		if got += n; float64(got) >= want {
			return i
		}
	}
	return 0
}

// bucketEnd returns the upper bound of a bucket. The last one has none, and gets its
// lower one.
func bucketEnd(i int) time.Duration {
	return fleet.LatencyBounds[min(i, len(fleet.LatencyBounds)-1)]
}

// median returns the median time of the calls, as if they were spread evenly over
// their bucket.
func median(latency []uint64) time.Duration {
	i := bucketOf(latency, 0.5)
	if len(latency) == 0 || latency[i] == 0 {
		return 0
	}
	var start time.Duration
	if i > 0 {
		start = bucketEnd(i - 1)
	}
	inside := float64(sum(latency))/2 - float64(sum(latency[:i]))
	return start + time.Duration(inside/float64(latency[i])*float64(bucketEnd(i)-start))
}

// round shortens a time for a message.
func round(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond / 10)
	}
	return d.Round(10 * time.Millisecond)
}

// fisher is Fisher's exact test in one direction. It returns how likely it is that
// at least so many of all hits are in the first sample, if both samples have the
// same chance of a hit.
func fisher(hits, all, otherHits, otherAll uint64) float64 {
	k, n := float64(hits), float64(all)
	good, total := float64(hits+otherHits), float64(all+otherAll)
	least, most := max(0, n+good-total), min(n, good)
	if k <= least {
		return 1
	}
	if k > n*good/total {
		return min(1, tail(k, most, 1, n, good, total))
	}
	return max(0, 1-tail(k-1, least, -1, n, good, total))
}

// tail sums the probabilities of the hypergeometric distribution from k to the end
// in steps of 1 or -1. They fall in this direction, and what is too small to matter
// is left out.
func tail(k, end, step, n, good, total float64) float64 {
	p := math.Exp(choose(good, k) + choose(total-good, n-k) - choose(total, n))
	all := p
	for ; k != end && p > all*1e-18; k += step {
		if step > 0 {
			p *= (good - k) * (n - k) / ((k + 1) * (total - good - n + k + 1))
		} else {
			p *= k * (total - good - n + k) / ((good - k + 1) * (n - k + 1))
		}
		all += p
	}
	return all
}

// choose returns the logarithm of the number of ways to choose k of n.
func choose(n, k float64) float64 {
	all, _ := math.Lgamma(n + 1)
	in, _ := math.Lgamma(k + 1)
	out, _ := math.Lgamma(n - k + 1)
	return all - in - out
}
