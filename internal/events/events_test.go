package events

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

// ids returns the ids of events, in their order.
func ids(events []Event) string {
	var out []string
	for _, e := range events {
		out = append(out, e.ID)
	}
	return strings.Join(out, " ")
}

func wantSince(t *testing.T, l *Log, id, want string, wantGap bool) {
	t.Helper()
	got, gap := l.Since(id)
	if ids(got) != want || gap != wantGap {
		t.Errorf("since %q: got %q, gap %t; want %q, gap %t", id, ids(got), gap, want, wantGap)
	}
	if got == nil {
		t.Errorf("since %q: got nil, which is null in JSON", id)
	}
}

func TestID(t *testing.T) {
	id, err := ParseID("7-12")
	if err != nil || id != (ID{7, 12}) || id.String() != "7-12" {
		t.Errorf("got %v, %v", id, err)
	}
	for _, bad := range []string{"", "7", "7-", "-7", "7-12-1", "07-12", "7-+2", "7--1", "a-b", " 7-12", "99999999999999999999-1"} {
		if id, err := ParseID(bad); err == nil {
			t.Errorf("ParseID(%q) = %v", bad, id)
		}
	}
	// Numbers, not text, are compared.
	if (ID{9, 10}).Compare(ID{10, 1}) >= 0 || (ID{2, 9}).Compare(ID{2, 10}) >= 0 || (ID{2, 9}).Compare(ID{2, 9}) != 0 {
		t.Error("ids are out of order")
	}
}

func TestRecord(t *testing.T) {
	l := New(10)
	wantSince(t, l, "", "", false)
	if l.Last() != "" {
		t.Errorf("last of an empty log is %q", l.Last())
	}
	l.Record(Event{Message: "before any tenure"})
	wantSince(t, l, "", "", false)

	end := l.Lead(3)
	before := time.Now()
	l.Record(Event{Kind: "started", Message: "a", ID: "99-99"})
	l.Record(Event{Kind: "stopped", Message: "b", Time: time.Unix(7, 0)})
	got, _ := l.Since("")
	if len(got) != 2 || got[0].Time.Before(before) || got[0].Kind != "started" || !got[1].Time.Equal(time.Unix(7, 0)) {
		t.Errorf("got %+v", got)
	}
	wantSince(t, l, "", "3-1 3-2", false)
	wantSince(t, l, "3-1", "3-2", false)
	wantSince(t, l, "3-2", "", false)
	end()
	l.Record(Event{Message: "after the tenure"})
	if l.Last() != "3-2" {
		t.Errorf("last is %s, want 3-2", l.Last())
	}

	defer l.Lead(5)() // the next tenure counts from 1, and old ids stay known
	end()             // late: of the earlier tenure only
	l.Record(Event{})
	wantSince(t, l, "3-1", "3-2 5-1", false)
}

func TestSinceUnknown(t *testing.T) {
	l := New(3)
	defer l.Lead(2)()
	for range 5 {
		l.Record(Event{})
	}
	wantSince(t, l, "", "2-3 2-4 2-5", false)
	wantSince(t, l, "2-3", "2-4 2-5", false)
	wantSince(t, l, "2-2", "2-3 2-4 2-5", true)   // forgotten
	wantSince(t, l, "1-7", "2-3 2-4 2-5", true)   // of an earlier leader
	wantSince(t, l, "2-6", "", true)              // not here yet
	wantSince(t, l, "9-1", "", true)              // of a leader not heard of
	wantSince(t, l, "hello", "2-3 2-4 2-5", true) // of another program
}

func TestImport(t *testing.T) {
	l := New(10)
	for _, id := range []string{"2-1", "2-2", "2-2", "2-1", "1-9", "", "2-x", "2-3"} {
		l.Import(Event{ID: id, Message: "m"})
	}
	wantSince(t, l, "", "2-1 2-2 2-3", false)
	if got, _ := l.Since("2-2"); !got[0].Time.IsZero() || got[0].Message != "m" {
		t.Errorf("an imported event was changed: %+v", got[0])
	}

	// Parts that never came are gaps for those who wait on them, not for others.
	l.Import(Event{ID: "2-6"})
	l.Import(Event{ID: "2-7"})
	wantSince(t, l, "2-2", "2-3 2-6 2-7", true)
	wantSince(t, l, "2-3", "2-6 2-7", true)
	wantSince(t, l, "2-6", "2-7", false)
	l.Import(Event{ID: "4-2"})
	wantSince(t, l, "2-7", "4-2", true)
	l.Import(Event{ID: "5-1"})
	wantSince(t, l, "4-2", "5-1", false)
}

// A deposed leader that does not know it yet must not take ids of the next.
func TestRecordAfterNewLeader(t *testing.T) {
	l := New(10)
	defer l.Lead(3)()
	l.Record(Event{})
	l.Import(Event{ID: "4-1"})
	l.Record(Event{Message: "too late"})
	wantSince(t, l, "", "3-1 4-1", false)
	// And its followers' late copies do not come in behind its own events.
	defer l.Lead(6)()
	l.Record(Event{})
	l.Import(Event{ID: "4-2"})
	wantSince(t, l, "", "3-1 4-1 6-1", false)
}

func TestBounds(t *testing.T) {
	l := New(MaxEvents)
	defer l.Lead(1)()
	for i := range 2*MaxEvents + 7 {
		l.Record(Event{Message: fmt.Sprint(i)})
	}
	got, gap := l.Since("")
	if len(got) != MaxEvents || gap || got[0].ID != "1-10008" || got[MaxEvents-1].ID != "1-20007" || got[0].Message != "10007" {
		t.Errorf("got %d events from %+v, gap %t", len(got), got[0], gap)
	}

	long := strings.Repeat("x", maxMessage-4) + "ééé" // é is cut in its middle
	l.Record(Event{Message: long})
	l.Import(Event{ID: "2-1", Message: strings.Repeat("y", maxMessage+1)})
	l.Import(Event{ID: "2-2", Message: strings.Repeat("z", maxMessage)})
	got, _ = l.Since("1-20007")
	for _, e := range got {
		if len(e.Message) > maxMessage || !utf8.ValidString(e.Message) {
			t.Errorf("message of %d bytes, valid %t", len(e.Message), utf8.ValidString(e.Message))
		}
	}
	if !strings.HasSuffix(got[0].Message, "x...") || got[2].Message != strings.Repeat("z", maxMessage) {
		t.Errorf("got %q and %q", got[0].Message[1000:], got[2].Message[1000:])
	}
}

func TestSubscribe(t *testing.T) {
	l := New(2)
	look, cancel := l.Subscribe()
	defer cancel()
	told := func() bool {
		select {
		case <-look:
			return true
		default:
			return false
		}
	}
	l.Record(Event{}) // dropped
	if told() {
		t.Error("told of an event that was dropped")
	}
	defer l.Lead(1)()
	l.Record(Event{})
	if !told() {
		t.Error("not told of a recorded event")
	}
	l.Import(Event{ID: "1-1"})
	if told() {
		t.Error("told of a duplicate")
	}
	l.Import(Event{ID: "1-2"})
	if !told() {
		t.Error("not told of an imported event")
	}
}

func TestConcurrent(t *testing.T) {
	l := New(50)
	var wg sync.WaitGroup
	defer l.Lead(2)()
	for range 4 {
		wg.Go(func() {
			last := ""
			for range 200 {
				l.Record(Event{Message: "m"})
				l.Import(Event{ID: "1-5"})
				got, _ := l.Since(last)
				if !slices.IsSortedFunc(got, func(a, b Event) int { return must(a.ID).Compare(must(b.ID)) }) {
					t.Errorf("out of order: %s", ids(got))
				}
				last = l.Last()
			}
		})
	}
	wg.Wait()
	if l.Last() != "2-800" {
		t.Errorf("last is %s, want 2-800", l.Last())
	}
}

func must(s string) ID {
	id, err := ParseID(s)
	if err != nil {
		panic(err)
	}
	return id
}
