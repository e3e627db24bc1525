package autoscale

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

var t0 = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func TestRecordMean(t *testing.T) {
	type change struct {
		at    float64
		calls int
	}
	tests := []struct {
		name    string
		initial int
		changes []change
		at      float64
		want    float64
		settled bool
	}{
		{"nothing happened", 3, nil, 5, 3, true},
		{"at the beginning", 3, nil, 0, 3, true},
		{"changed just now", 3, []change{{5, 9}}, 5, 3, false},
		{"a half of the time", 0, []change{{100, 8}}, 105, 4, false},
		{"the whole time", 0, []change{{100, 8}}, 110, 8, true},
		{"since the record began only", 0, []change{{2, 8}}, 4, 4, false},
		{"several changes", 0, []change{{100, 8}, {102, 2}, {104, 0}}, 108, 2, false},
		{"what is too old is forgotten", 0, []change{{100, 8}, {102, 2}, {104, 0}}, 113, 0.2, false},
		{"exactly zero", 0, []change{{100.1, 8}, {102.3, 2}, {104.7, 0}}, 114.7, 0, true},
		{"changed in the first moment", 3, []change{{0, 9}}, 1, 9, true},
		{"equal calls are no change", 3, []change{{100, 3}}, 101, 3, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRecord(t0, 10*time.Second, 100*time.Millisecond, tt.initial)
			for _, c := range tt.changes {
				r.set(t0.Add(seconds(c.at)), c.calls)
			}
			now := t0.Add(seconds(tt.at))
			if got := r.mean(now); math.Abs(got-tt.want) > 1e-9 {
				t.Errorf("mean %v, want %v", got, tt.want)
			}
			if got := r.settled(now); got != tt.settled {
				t.Errorf("settled %v, want %v", got, tt.settled)
			}
		})
	}
}

// However often the load changes, the record stays small, and near the true mean.
func TestRecordIsBounded(t *testing.T) {
	const length, step = 30 * time.Second, 500 * time.Millisecond
	type sample struct {
		at    time.Duration
		calls int
	}
	r := newRecord(t0, length, step, 0)
	random := rand.New(rand.NewPCG(1, 2))
	all := []sample{{0, 0}}
	at := time.Duration(0)
	for range 4_000 {
		at += time.Duration(random.ExpFloat64() * float64(20*time.Millisecond))
		all = append(all, sample{at, random.IntN(50)})
		r.set(t0.Add(at), all[len(all)-1].calls)
		if len(r.points) > 2*int(length/step)+8 {
			t.Fatalf("%d points", len(r.points))
		}
		if at < length {
			continue
		}
		area := 0.
		for i := len(all) - 1; i > 0 && all[i].at > at-length; i-- {
			area += float64(all[i-1].calls) * (all[i].at - max(all[i-1].at, at-length)).Seconds()
		}
		if got, want := r.mean(t0.Add(at)), area/length.Seconds(); math.Abs(got-want) > 50*step.Seconds()/length.Seconds() {
			t.Fatalf("mean %v, want %v", got, want)
		}
	}
	if got := cap(r.points); got > 500 {
		t.Errorf("room for %d points", got)
	}
}
