package sessions

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Directories that hear the same changes in any order, and some of them twice, agree.
func TestDirectoriesAgree(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		all := []*Directory{NewDirectory(), NewDirectory(), NewDirectory()}
		until := time.Now().Add(time.Hour)
		seen := make([][3]uint64, 3)
		hear := func(by, of int) { // perhaps only a part, in any order
			records, version := all[of].changes(seen[by][of])
			rnd.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
			all[by].merge(records)
			if rnd.IntN(3) > 0 {
				seen[by][of] = version
			}
		}
		for range 60 {
			d, id := all[rnd.IntN(3)], fleet.SessionID(fmt.Sprint("s", rnd.IntN(4)))
			s := fleet.Subscription{Server: "a", URI: fmt.Sprint("uri:", rnd.IntN(3))}
			switch rnd.IntN(8) {
			case 0:
				d.SetLevel(id, until, fmt.Sprint("level", rnd.IntN(3)))
			case 1, 2:
				d.Subscribe(id, until, s)
			case 3:
				d.Unsubscribe(id, until, s)
			case 4:
				d.open(id, until, fleet.ServerName(fmt.Sprint("a", rnd.IntN(2))), "x")
			case 5:
				d.Touch(id, until)
			case 6:
				hear(rnd.IntN(3), rnd.IntN(3))
			case 7:
				if rnd.IntN(8) == 0 {
					d.End(id, until)
				}
			}
		}
		for range 3 {
			for by := range 3 {
				for of := range 3 {
					seen[by][of] = 0
					hear(by, of)
				}
			}
		}
		for i, d := range all[1:] {
			for id, r := range all[0].records {
				mine, theirs := *r, *d.records[id]
				mine.Used, theirs.Used = time.Time{}, time.Time{} // is told only now and then
				if !reflect.DeepEqual(mine, theirs) {
					t.Fatalf("seed %d: directory %d has %+v, directory 0 has %+v", seed, i+1, theirs, mine)
				}
			}
		}
	}
}

func TestDirectoryRestores(t *testing.T) {
	d, until := NewDirectory(), time.Now().Add(time.Hour)
	d.SetLevel("s", until, "debug")
	for _, s := range []fleet.Subscription{{Server: "a", URI: "u1"}, {Server: "b", URI: "u2"}, {Server: "a", URI: "u3"}, {Server: "a", URI: "u1"}} {
		if !d.Subscribe("s", until, s) {
			t.Errorf("%v is refused", s)
		}
	}
	d.Unsubscribe("s", until, fleet.Subscription{Server: "a", URI: "u3"})
	if got := d.Restore("s", "a"); got.Level != "debug" || !slices.Equal(got.Subscriptions, []string{"u1"}) {
		t.Errorf("restores %+v", got)
	}
	d.End("s", until)
	if got := d.Restore("s", "a"); got.Level != "" || got.Subscriptions != nil || !d.Ended("s") || d.Subscribe("s", until, fleet.Subscription{Server: "a", URI: "u"}) {
		t.Errorf("after the end: %+v", got)
	}
}

func TestBoundsOfADirectory(t *testing.T) {
	d, until := NewDirectory(), time.Now().Add(time.Hour)
	for i := range maxSubscriptions {
		d.Subscribe("s", until, fleet.Subscription{Server: "a", URI: fmt.Sprint(i)})
	}
	if d.Subscribe("s", until, fleet.Subscription{Server: "a", URI: "one more"}) {
		t.Error("there is no bound of subscriptions")
	}
	if d.Subscribe("t", until, fleet.Subscription{Server: "a", URI: string(make([]byte, maxURIs+1))}) {
		t.Error("there is no bound of URIs")
	}
	for i := range maxRecords + 100 {
		d.SetLevel(fleet.SessionID(fmt.Sprint("x", i)), until.Add(time.Duration(i)), "info")
	}
	if n := len(d.records); n != maxRecords || len(d.changed) > n {
		t.Errorf("%d records, %d changes", n, len(d.changed))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.purged = time.Time{}
	for _, r := range d.records {
		r.Until = time.Now().Add(-time.Second)
	}
	d.record("fresh", until)
	if len(d.records) != 1 {
		t.Errorf("%d records after all sessions were over", len(d.records))
	}
}

// The end of a session is told once at each controller, whichever ended it.
func TestOnEnd(t *testing.T) {
	here, there := NewDirectory(), NewDirectory()
	var heard []string
	for name, d := range map[string]*Directory{"here": here, "there": there} {
		d.OnEnd(func(id fleet.SessionID) {
			d.Ended(id) // the lock is free
			heard = append(heard, name+" "+string(id))
		})
	}
	until := time.Now().Add(time.Hour)
	here.SetLevel("s", until, "info")
	for range 2 {
		here.End("s", until)
		there.merge([]fleet.SessionRecord{{ID: "s", Until: until, Ended: true}, {ID: "t", Until: until}})
	}
	if want := []string{"here s", "there s"}; !slices.Equal(heard, want) {
		t.Errorf("heard %q, want %q", heard, want)
	}
}
