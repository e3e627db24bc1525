package autoscale

import (
	"sort"
	"time"
)

// record holds how many calls there were over the last while, as a step function of
// time. It answers for one length of time, with an error of at most one step of
// time at the beginning. Its size depends on neither how often the calls change nor
// how long it has run.
type record struct {
	length, step time.Duration

	begun  time.Time
	at     time.Duration // of the last change, since begun
	calls  float64       // from then on
	area   float64       // call-seconds until then
	points []point       // oldest first
	first  int           // the first point that is still needed
}

// point is the area at a time. Between two points the calls are taken for constant.
type point struct {
	at   time.Duration
	area float64
}

// newRecord returns a record that begins with this number of calls.
func newRecord(now time.Time, length, step time.Duration, calls int) record {
	return record{
		length: length, step: step, begun: now, calls: float64(calls), points: []point{{}},
	}
}

// set notes that there are this many calls from now on.
func (r *record) set(now time.Time, calls int) {
	if float64(calls) == r.calls {
		return
	}
	at := now.Sub(r.begun)
	r.area, r.at, r.calls = r.areaNow(at), at, float64(calls)
	if at-r.points[len(r.points)-1].at < r.step {
		return
	}
	r.points = append(r.points, point{at, r.area})
	for r.first+1 < len(r.points) && r.points[r.first+1].at <= at-r.length {
		r.first++
	}
	if r.first > len(r.points)/2 {
		r.points = append(r.points[:0], r.points[r.first:]...)
		r.first = 0
	}
}

// mean returns the mean number of calls over the last length of time, or since the
// record began.
func (r *record) mean(now time.Time) float64 {
	at := now.Sub(r.begun)
	since := max(at-r.length, 0)
	if since >= at {
		return r.calls
	}
	return (r.areaNow(at) - r.areaAt(since)) / (at - since).Seconds()
}

// settled reports whether the mean changes no more unless the calls do.
func (r *record) settled(now time.Time) bool {
	return now.Sub(r.begun)-r.at >= r.length || r.at == 0
}

// areaNow returns the area at a time after the last change.
func (r *record) areaNow(at time.Duration) float64 { return r.area + r.calls*(at-r.at).Seconds() }

// areaAt returns the area at any time of the last length.
func (r *record) areaAt(at time.Duration) float64 {
	if at >= r.at {
		return r.areaNow(at)
	}
	kept := r.points[r.first:]
	next := sort.Search(len(kept), func(i int) bool { return kept[i].at > at })
	from, to := kept[max(next-1, 0)], point{r.at, r.area}
	if next < len(kept) {
		to = kept[next]
	}
	return from.area + (to.area-from.area)*float64(at-from.at)/float64(to.at-from.at)
}
