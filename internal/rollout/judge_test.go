package rollout

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func TestFisher(t *testing.T) {
	for _, tt := range []struct {
		hits, all, otherHits, otherAll uint64
		want                           float64
	}{
		{3, 4, 1, 4, 17.0 / 70}, // the lady tasting tea
		{10, 10, 0, 10, 1.0 / 184756},
		{1, 1, 0, 1, 0.5},
		{8, 100, 1, 100, 0.017449575986057876},
		{3, 60, 3, 60, 0.6602915413657101},
		{5, 50, 20, 50, 0.9999283208956695},
		{60, 1000, 40, 1000, 0.025380064935374192},
		{30, 10000, 10, 10000, 0.0010997641712361542},
		{31, 60, 1, 240, 2.1743379888145442e-24},
		{60, 60, 0, 3, 2.518193951298129e-05},
		{0, 50, 0, 50, 1}, {0, 50, 10, 50, 1}, {50, 50, 50, 50, 1}, {0, 0, 0, 0, 1}, {2, 50, 1, 1, 1},
	} {
		got := fisher(tt.hits, tt.all, tt.otherHits, tt.otherAll)
		if math.Abs(got-tt.want) > 1e-9*tt.want {
			t.Errorf("%d of %d and %d of %d: got %v, want %v", tt.hits, tt.all, tt.otherHits, tt.otherAll, got, tt.want)
		}
	}
}

// Crashes count unless the time that the replicas ran explains them, or their calls do.
func TestCrashing(t *testing.T) {
	for _, tt := range []struct {
		name            string
		crashes, looks  uint64
		before, others  uint64 // of the old revision
		calls, newCalls uint64
		worse           bool
	}{
		{"none", 0, 60, 0, 300, 400, 100, false},
		{"one", 1, 60, 0, 30000, 40000, 10, false},
		{"two, with a small share", 2, 60, 0, 3000, 4000, 100, true},
		{"two, with a large share", 2, 60, 0, 60, 100, 100, false},
		{"many, with a large share", 9, 60, 0, 60, 100, 100, true},
		{"nobody calls", 9, 60, 0, 60, 0, 0, true},
		{"nobody calls the new one", 9, 60, 0, 60, 1000, 0, true},
		{"nobody calls the old one", 9, 60, 0, 60, 0, 1000, false},
		{"both", 9, 60, 9, 60, 100, 100, false},
		{"nothing beside it", 9, 60, 0, 0, 0, 100, false},
		{"most calls go to the new one", 3, 60, 0, 3000, 100, 900, false},
	} {
		is, was := sample{2, tt.crashes, tt.looks}, sample{1, tt.before, tt.others}
		if why := crashing(was, is, tt.calls, tt.newCalls); (why != "") != tt.worse {
			t.Errorf("%s: %q, want worse: %t", tt.name, why, tt.worse)
		}
	}
}

// Of large counts the test must agree with the normal distribution.
func TestFisherOfLargeCounts(t *testing.T) {
	const n = 1e8
	for _, sigmas := range []float64{-3, -1, 0, 1, 2, 3} {
		const share = 0.1
		more := sigmas * math.Sqrt(2*n*share*(1-share))
		got := fisher(uint64(n*share+more), n, n*share, n)
		want := math.Erfc(sigmas/math.Sqrt2) / 2
		if math.Abs(got-want) > 0.01*want+1e-4 {
			t.Errorf("%v standard deviations: got %v, want %v", sigmas, got, want)
		}
	}
}

func TestFisherFallsWithHits(t *testing.T) {
	for _, other := range []uint64{0, 1, 50, 400, 500} {
		last := 1.0
		for hits := range uint64(301) {
			p := fisher(hits, 300, other, 500)
			if p > last+1e-12 || p < 0 || math.IsNaN(p) {
				t.Fatalf("%d of 300 against %d of 500: p is %v, and was %v with one hit fewer", hits, other, p, last)
			}
			last = p
		}
	}
}

// latency has counts in the buckets up to 1, 2, 5, 10, 20, 50, 100, 200 ms and so on.
func latency(counts ...uint64) []uint64 {
	out := make([]uint64, len(fleet.LatencyBounds)+1)
	copy(out, counts)
	return out
}

func TestJudge(t *testing.T) {
	ok := func(n uint64) fleet.CallCounts { return fleet.CallCounts{OK: n} }
	timed := func(counts ...uint64) fleet.CallCounts {
		l := latency(counts...)
		return fleet.CallCounts{OK: sum(l), Latency: l}
	}
	overflow := latency()
	overflow[len(overflow)-1] = 60
	for _, tt := range []struct {
		name     string
		old, new fleet.CallCounts
		want     Verdict
	}{
		{"no calls", ok(0), ok(0), Verdict{Why: "0 calls of revision 3: too few to judge"}},
		{"too few, all bad", ok(500), fleet.CallCounts{IsError: 49}, Verdict{Why: "49 calls of revision 3, of which 49 failed: too few to judge"}},
		{"nothing to compare with", ok(0), fleet.CallCounts{IsError: 50}, Verdict{Why: "no calls of revision 2: nothing to compare with"}},
		{"both good", ok(100), ok(100), Verdict{Judged: true, Why: "revision 3: 0 of 100 calls failed, revision 2: 0 of 100: not worse"}},
		{"every kind of failure", fleet.CallCounts{OK: 239, Lost: 1}, fleet.CallCounts{OK: 29, IsError: 10, Error: 9, TimedOut: 8, Lost: 4},
			Verdict{true, true, "revision 3: 31 of 60 calls failed, revision 2: 1 of 240; p = 2e-24"}},
		{"both bad alike", fleet.CallCounts{OK: 90, IsError: 10}, fleet.CallCounts{OK: 89, IsError: 11}, Verdict{Judged: true, Why: "not worse"}},
		{"better", fleet.CallCounts{IsError: 100}, ok(100), Verdict{Judged: true, Why: "not worse"}},
		{"a few calls of the old one suffice", ok(3), fleet.CallCounts{IsError: 60}, Verdict{true, true, "60 of 60"}},
		{"one call of the old one does not", ok(1), fleet.CallCounts{IsError: 50}, Verdict{Judged: true, Why: "not worse"}},
		{"sure, but less than 2 points", fleet.CallCounts{OK: 99000, IsError: 1000}, fleet.CallCounts{OK: 97100, IsError: 2900}, Verdict{Judged: true, Why: "not worse"}},
		{"sure, and 2 points", fleet.CallCounts{OK: 99000, IsError: 1000}, fleet.CallCounts{OK: 97000, IsError: 3000}, Verdict{true, true, "p = "}},
		{"2 points, but not sure", fleet.CallCounts{OK: 98, IsError: 2}, fleet.CallCounts{OK: 95, IsError: 5}, Verdict{Judged: true, Why: "not worse"}},

		{"as fast", timed(0, 0, 0, 10, 80, 10), timed(0, 0, 0, 12, 78, 10), Verdict{Judged: true, Why: "not worse"}},
		{"slower", timed(0, 0, 0, 0, 0, 240), timed(0, 0, 0, 0, 0, 10, 0, 50),
			Verdict{true, true, "revision 3: 50 of 60 calls took longer than 50ms, median 140ms; revision 2: 0 of 240, median 35ms; p = "}},
		{"twice as slow", timed(0, 0, 0, 0, 0, 240), timed(0, 0, 0, 0, 0, 4, 56), Verdict{true, true, "median 73.2ms; revision 2: 0 of 240, median 35ms"}},
		{"nearly twice as slow", timed(0, 0, 0, 0, 0, 240), timed(0, 0, 0, 0, 0, 12, 48), Verdict{Judged: true, Why: "not worse"}},
		{"faster", timed(0, 0, 0, 0, 0, 10, 0, 50), timed(0, 0, 0, 0, 0, 60), Verdict{Judged: true, Why: "not worse"}},
		{"slower in the tail only", timed(0, 0, 0, 0, 0, 240), timed(0, 0, 0, 0, 0, 40, 0, 20), Verdict{Judged: true, Why: "not worse"}},
		{"twice as slow, but below 10 ms", timed(240), timed(0, 0, 60), Verdict{Judged: true, Why: "not worse"}},
		{"slower than all bounds", timed(0, 0, 0, 0, 0, 240), fleet.CallCounts{OK: 60, Latency: overflow}, Verdict{true, true, "median 1m0s"}},
		{"too few of them answered", timed(0, 0, 0, 0, 0, 240), fleet.CallCounts{OK: 60, Latency: latency(0, 0, 0, 0, 0, 0, 0, 40)}, Verdict{Judged: true, Why: "not worse"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Judge(2, 3, tt.old, tt.new)
			if got.Worse != tt.want.Worse || got.Judged != tt.want.Judged || !strings.Contains(got.Why, tt.want.Why) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestLastFailure(t *testing.T) {
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	failed := func(rev fleet.Revision, after time.Duration, reason string, log ...string) *fleet.Replica {
		return &fleet.Replica{Revision: rev, Phase: fleet.PhaseFailed, EndedAt: at.Add(after), Reason: reason, Log: log}
	}
	for name, tt := range map[string]struct {
		replicas []*fleet.Replica
		want     string
	}{
		"none":                {[]*fleet.Replica{{Revision: 2, Phase: fleet.PhaseReady}, failed(1, 0, "old")}, ""},
		"the newest":          {[]*fleet.Replica{failed(2, 2, "exit code 4", "a", "b", " "), failed(2, 1, "before")}, "; a replica failed: exit code 4; stderr: b"},
		"it is quoted":        {[]*fleet.Replica{failed(2, 2, "exit code 4; last stderr: a | bad key", "a", "bad key")}, "; a replica failed: exit code 4; last stderr: a | bad key"},
		"it said nothing":     {[]*fleet.Replica{failed(2, 0, "exit code 4", fleet.StdoutMark+"noise")}, "; a replica failed: exit code 4"},
		"stopped is no death": {[]*fleet.Replica{{Revision: 2, Phase: fleet.PhaseStopped, Reason: "told"}}, ""},
	} {
		if got := lastFailure(tt.replicas, 2); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}
