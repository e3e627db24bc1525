package sessions

import (
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// The newest stream counts, whichever controller hears of it first, and other changes of a
// session are not lost by it.
func TestListener(t *testing.T) {
	here, there := NewDirectory(), NewDirectory()
	until := time.Now().Add(time.Hour)
	tell := func(from, to *Directory) {
		if r, known := from.get("s"); known {
			to.merge([]fleet.SessionRecord{r})
		}
	}
	check := func(when string, want fleet.LifeID) {
		t.Helper()
		if a, b := here.Listener("s"), there.Listener("s"); a != want || b != want {
			t.Errorf("%s: %q here and %q there, want %q", when, a, b, want)
		}
	}
	here.SetListener("s", until, "c1", true)
	there.Subscribe("s", until, fleet.Subscription{Server: "x", URI: "u"}) // at the same time
	tell(here, there)
	tell(there, here)
	check("at first", "c1")
	if len(here.Subscriptions("s")) != 1 || len(there.Subscriptions("s")) != 1 {
		t.Error("the subscription is lost")
	}
	there.SetListener("s", until, "c2", true)
	here.SetListener("s", until, "c1", true) // nothing new
	tell(here, there)
	tell(there, here)
	check("another stream elsewhere", "c2")
	here.SetListener("s", until, "c1", false)
	tell(here, there)
	check("the older one ends", "c2")
	there.SetListener("s", until, "c2", false)
	tell(there, here)
	check("the newer one ends", "")
	here.End("s", until)
	here.SetListener("s", until, "c1", true)
	tell(here, there)
	check("after the end", "")
}
