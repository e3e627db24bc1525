package store

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func TestFollowerLags(t *testing.T) {
	begin := time.Now()
	at := func(seconds float64) time.Time { return begin.Add(time.Duration(seconds * float64(time.Second))) }
	for name, tt := range map[string]struct {
		heard        func(i *intake)
		applied      uint64
		contact, now float64
		want         string
	}{
		"no leader was ever heard": {func(*intake) {}, 0, 0, 100, ""},
		"all is stored": {func(i *intake) {
			i.heard(2, 10, true, at(99))
		}, 10, 99.9, 100, ""},
		"nothing is stored": {func(i *intake) {
			i.heard(2, 10, true, at(1))
			i.heard(2, 11, false, at(7))
		}, 10, 7, 7, "has stored nothing that the leader sent for 6s"},
		"only heartbeats come": {func(i *intake) {
			i.heard(2, 0, false, at(1))
			i.heard(2, 0, false, at(8))
		}, 10, 8, 8, "has stored nothing that the leader sent for 7s"},
		"a leader was just elected": {func(i *intake) {
			i.heard(2, 10, true, at(1))
			i.heard(3, 0, false, at(20))
		}, 10, 22, 22, ""},
		"it led itself until now": {func(i *intake) {
			i.heard(2, 10, true, at(1))
			i.noteCheck(true, at(20))
		}, 10, 20.5, 20.5, ""},
		"the leader is gone": {func(i *intake) {
			i.heard(2, 10, true, at(1))
		}, 10, 1, 60, ""},
		"far behind, and catching up": {func(i *intake) {
			i.heard(2, 5000, true, at(1))
		}, 3000, 1.1, 1.1, "2000 entries behind"},
		"an old leader is heard again": {func(i *intake) {
			i.heard(3, 10, true, at(1))
			i.heard(2, 99999, true, at(2))
		}, 10, 2, 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			i := intake{ledSince: neverLed}
			tt.heard(&i)
			got := i.problem(tt.applied, at(tt.contact), at(tt.now))
			if (tt.want == "") != (got == "") || tt.want != "" && !contains(errors.New(got), tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func neverLed(time.Time) bool { return false }

// A controller that was stopped or cut off counts its return once, as soon as it runs
// or has contact again. One that led meanwhile was neither.
func TestReturns(t *testing.T) {
	begin := time.Now()
	at := func(seconds float64) time.Time { return begin.Add(time.Duration(seconds * float64(time.Second))) }
	looks := func(i *intake, from, to float64, leads bool) {
		for s := from; s <= to; s++ {
			i.noteCheck(leads, at(s))
		}
	}
	hears := func(i *intake, from, to float64) {
		for s := from; s <= to; s++ {
			i.noteCheck(false, at(s))
			i.heard(2, 0, false, at(s))
		}
	}
	for name, tt := range map[string]struct {
		do   func(i *intake)
		now  float64
		want uint64
	}{
		"it is new":                    {func(*intake) {}, 100, 0},
		"it follows":                   {func(i *intake) { hears(i, 1, 10) }, 10, 0},
		"it led for long, and follows": {func(i *intake) { hears(i, 1, 3); looks(i, 4, 60, true); hears(i, 61, 62) }, 62, 0},
		"it is still cut off":          {func(i *intake) { hears(i, 1, 3); looks(i, 4, 20, false) }, 20, 0},
		"it was cut off":               {func(i *intake) { hears(i, 1, 3); looks(i, 4, 20, false); hears(i, 21, 30) }, 30, 1},
		"it was cut off twice": {func(i *intake) {
			hears(i, 1, 3)
			looks(i, 4, 20, false)
			hears(i, 21, 30)
			looks(i, 31, 40, false)
			hears(i, 41, 41)
		}, 41, 2},
		"it was stopped, and has not looked yet": {func(i *intake) { hears(i, 1, 3) }, 20, 1},
		"it was stopped, and looks":              {func(i *intake) { hears(i, 1, 3); looks(i, 20, 21, false) }, 21, 1},
		"it was stopped, and hears a leader":     {func(i *intake) { hears(i, 1, 3); looks(i, 20, 20, false); hears(i, 21, 30) }, 30, 1},
		"it led until shortly before": {func(i *intake) {
			i.ledSince = at(4.5).After
			hears(i, 1, 3)
			looks(i, 4, 6, false)
			hears(i, 7, 7)
		}, 7, 0},
		"it led until long before": {func(i *intake) {
			i.ledSince = at(4.5).After
			hears(i, 1, 3)
			looks(i, 4, 8, false)
			hears(i, 9, 9)
		}, 9, 1},
		"it was stopped as the leader": {func(i *intake) { looks(i, 1, 3, true); looks(i, 20, 20, true); hears(i, 21, 30) }, 30, 1},
	} {
		t.Run(name, func(t *testing.T) {
			i := intake{ledSince: neverLed}
			tt.do(&i)
			if got := i.returned(at(tt.now)); got != tt.want {
				t.Errorf("it came back %d times, want %d", got, tt.want)
			}
		})
	}
}

func TestPeerLags(t *testing.T) {
	begin := time.Now()
	at := func(seconds int) time.Time { return begin.Add(time.Duration(seconds) * time.Second) }
	entries := func(term, prev uint64, n int) *raft.AppendEntriesRequest {
		return &raft.AppendEntriesRequest{Term: term, PrevLogEntry: prev, Entries: make([]*raft.Log, n)}
	}
	var p progress
	for _, step := range []struct {
		name     string
		do       func()
		answered time.Time
		now      int
		term     uint64
		want     string
	}{
		{"nothing was sent", func() {}, time.Time{}, 10, 2, ""},
		{"it stores", func() { p.note("x", entries(2, 5, 3), true, nil, at(10)) }, at(10), 11, 2, ""},
		{"it fails, for a moment", func() { p.note("x", entries(2, 8, 1), false, errors.New("disk full"), at(12)) }, at(12), 14, 2, ""},
		{"it fails", func() {}, at(16), 16, 2, "it has stored nothing for 6s and lacks 4 entries: disk full"},
		{"it does not answer", func() {}, at(16), 20, 2, "it has not answered for 4s: disk full"},
		{"this leads in another term", func() {}, at(20), 20, 3, ""},
		{"it refuses in that term", func() { p.note("x", entries(3, 11, 0), false, nil, at(21)) }, at(30), 30, 3, "it has stored nothing for 9s: it refuses what it is sent"},
		{"it stores again", func() { p.note("x", entries(3, 8, 4), true, nil, at(31)) }, at(31), 32, 3, ""},
	} {
		step.do()
		if got := p.problem("x", step.term, 12, step.answered, at(step.now)); got != step.want {
			t.Errorf("%s: got %q, want %q", step.name, got, step.want)
		}
	}
}
