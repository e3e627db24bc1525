package schedule

import (
	"math/rand/v2"
	"testing"
)

func TestPick(t *testing.T) {
	first := func(int) int { return 0 }
	last := func(n int) int { return n - 1 }
	tests := []struct {
		name string
		c    []Candidate
		zone string
		rnd  func(int) int
		want int
	}{
		{"none", nil, "", first, -1},
		{"one", []Candidate{{Load: 3, Limit: 8}}, "", first, 0},
		{"all full", []Candidate{{Load: 8, Limit: 8}, {Load: 9, Limit: 8}}, "", first, -1},
		{"least loaded", []Candidate{{Load: 3}, {Load: 1}, {Load: 2}}, "", first, 1},
		{"full one is skipped though least loaded", []Candidate{{Load: 1, Limit: 1}, {Load: 4, Limit: 8}}, "", first, 1},
		{"load beats zone", []Candidate{{Load: 2, Zone: "a"}, {Load: 1, Zone: "b"}}, "a", first, 1},
		{"zone breaks the tie", []Candidate{{Zone: "b"}, {Zone: "a"}, {Zone: "b"}}, "a", first, 1},
		{"zone ties: first of them", []Candidate{{Zone: "b"}, {Zone: "a"}, {Zone: "b"}, {Zone: "a"}}, "a", first, 1},
		{"zone ties: last of them", []Candidate{{Zone: "b"}, {Zone: "a"}, {Zone: "b"}, {Zone: "a"}}, "a", last, 3},
		{"nobody near: last of all", []Candidate{{Zone: "b"}, {Zone: "c"}}, "a", last, 1},
		{"no zone prefers none", []Candidate{{Zone: "b"}, {Zone: ""}, {Zone: "c"}}, "", last, 2},
		{"a lower one after ties", []Candidate{{Load: 1}, {Load: 1}, {Load: 0}}, "", last, 2},
		{"full ones between ties", []Candidate{{Load: 1}, {Load: 1, Limit: 1}, {Load: 1}}, "", last, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Pick(tt.c, tt.zone, tt.rnd); got != tt.want {
				t.Errorf("Pick = %d, want %d", got, tt.want)
			}
		})
	}
}

// Equals get equal shares.
func TestPickIsFair(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	c := []Candidate{{Load: 1}, {Load: 0}, {Load: 0}, {Load: 5}, {Load: 0}}
	var got [5]int
	for range 3000 {
		got[Pick(c, "", rnd.IntN)]++
	}
	for i, n := range got {
		if idle := c[i].Load == 0; idle && (n < 850 || n > 1150) || !idle && n != 0 {
			t.Errorf("picks = %v, want about 1000 each for 1, 2 and 4", got)
			break
		}
	}
}

func TestPickAllocatesNothing(t *testing.T) {
	c := make([]Candidate, 64)
	rnd := rand.New(rand.NewPCG(1, 2)).IntN
	if n := testing.AllocsPerRun(100, func() { Pick(c, "a", rnd) }); n != 0 {
		t.Errorf("Pick allocates %v times, want 0", n)
	}
}

func BenchmarkPick64(b *testing.B) {
	c := make([]Candidate, 64)
	rnd := rand.New(rand.NewPCG(1, 2)).IntN
	for b.Loop() {
		Pick(c, "a", rnd)
	}
}
