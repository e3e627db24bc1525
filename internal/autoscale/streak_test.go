package autoscale

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestStreak(t *testing.T) {
	type wish struct {
		at    float64
		value int
	}
	tests := []struct {
		name   string
		wishes []wish
		at     float64
		want   int // 0: none
		next   float64
	}{
		{"too short", []wish{{0, 5}}, 9, 0, 10},
		{"long enough", []wish{{0, 5}}, 10, 5, 0},
		{"the least of them", []wish{{0, 5}, {3, 2}, {5, 7}}, 10, 2, 15},
		{"then the larger one", []wish{{0, 5}, {3, 2}, {5, 7}}, 15, 7, 0},
		{"a smaller one has been there as part of a larger one", []wish{{0, 5}, {8, 2}}, 10, 2, 0},
		{"the same again changes nothing", []wish{{0, 5}, {8, 5}}, 10, 5, 0},
		{"steps", []wish{{0, 1}, {2, 2}, {4, 3}, {6, 4}}, 13, 2, 16},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s streak
			const delay = 10 * time.Second
			for _, w := range tt.wishes {
				s.note(t0.Add(seconds(w.at)), w.value, delay)
			}
			got, ok, next := s.after(t0.Add(seconds(tt.at)), delay, 3)
			if got != tt.want || ok != (tt.want != 0) {
				t.Errorf("got %d, %v, want %d", got, ok, tt.want)
			}
			if want := t0.Add(seconds(tt.next)); tt.next != 0 && !next.Equal(want) || tt.next == 0 && !next.IsZero() {
				t.Errorf("next %v, want %v s", next, tt.next)
			}
		})
	}
}

// A streak stays small, and answers like a list of all wishes, late by two steps of
// its resolution at most.
func TestStreakIsBounded(t *testing.T) {
	const delay = 10 * time.Second
	type noted struct {
		at    time.Time
		value int
	}
	random := rand.New(rand.NewPCG(3, 4))
	for _, rising := range []bool{false, true} {
		var s streak
		var all []noted
		least := func(now time.Time, delay time.Duration) int {
			out := all[len(all)-1].value
			for i := len(all) - 1; i >= 0; i-- {
				out = min(out, all[i].value)
				if !all[i].at.After(now.Add(-delay)) {
					break
				}
			}
			return out
		}
		now := t0
		for i := range 4_000 {
			now = now.Add(time.Duration(random.IntN(20)) * time.Millisecond)
			value := random.IntN(1000)
			if rising {
				value = i
			}
			all = append(all, noted{now, value})
			s.note(now, value, delay)
			if len(s) > 2*resolution {
				t.Fatalf("%d wishes kept", len(s))
			}
			if now.Sub(t0) < 2*delay {
				continue
			}
			got, _, _ := s.after(now, delay, 0)
			if want, late := least(now, delay), least(now, delay+2*delay/resolution); got > want || got < late {
				t.Fatalf("%d, want %d, or %d if late", got, want, late)
			}
		}
	}
}
