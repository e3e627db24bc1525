package desired

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func TestMatchAccepted(t *testing.T) {
	h := newHistory(t)
	// The set has an ETag before its first write.
	h.do(putAll("", map[fleet.ServerName]fleet.Spec{"x": spec("a", 1)}, "1.0"))
	h.do(put("x", spec("b", 1), "9.9", "1.2"))
	h.do(put("x", spec("c", 1), "*"))
	h.do(scale("x", 4))
	h.do(put("x", spec("d", 1), "1.4")) // scale does not change it
	h.do(putAll("", nil, h.s.ETag()))
	h.do(PutServer{Name: "x", Spec: spec("a", 1), Match: Match{New: true}})
	if got, want := h.s.ETag(), fmt.Sprintf("1.%d", h.s.Applied); got != want {
		t.Errorf("etag of the set is %s, want %s", got, want)
	}
	if got := h.s.Servers["x"].ETag(h.s.Incarnation); got != h.s.ETag() {
		t.Errorf("etag of the server is %s, want %s", got, h.s.ETag())
	}
}

func TestSeedOnlyOnce(t *testing.T) {
	seed := PutServers{Servers: map[fleet.ServerName]fleet.Spec{"x": spec("a", 1)}, Match: Match{New: true}}
	h := newHistory(t)
	h.do(seed, del("x"))
	if r := h.try(seed); !errors.Is(r.Err, fleet.ErrPrecondition) {
		t.Errorf("a set that a user has emptied was seeded again: %v", r.Err)
	}
}

func TestMaskKeepsSecret(t *testing.T) {
	h := newHistory(t)
	first := spec("a", 1)
	first.Env = map[string]string{"TOKEN": "s3cret", "MODE": "x"}
	second := spec("b", 1)
	second.Env = map[string]string{"TOKEN": fleet.Masked, "MODE": "y"}
	h.do(put("x", first))
	r := h.do(put("x", second))
	if got := h.s.Servers["x"].Spec.Env; got["TOKEN"] != "s3cret" || got["MODE"] != "y" {
		t.Errorf("env is %v", got)
	}
	if text := summary(r.Changes); strings.Contains(text, "s3cret") || strings.Contains(text, "TOKEN") {
		t.Errorf("the changes name a secret that is the same: %s", text)
	}
	if second.Env["TOKEN"] != fleet.Masked {
		t.Error("the caller's spec was changed")
	}
}

func TestRevisionsKept(t *testing.T) {
	h := newHistory(t)
	h.do(put("x", spec("0", 1)), put("x", spec("1", 1)), rolledOut("x", 2, 0))
	for i := range 30 {
		h.do(put("x", spec(fmt.Sprint("next", i), 1)))
	}
	sv := h.s.Servers["x"]
	if sv.Revision != 32 || len(sv.Revisions) != MaxRevisions {
		t.Fatalf("revision %d, %d kept; want 32, %d", sv.Revision, len(sv.Revisions), MaxRevisions)
	}
	if got, want := sv.numbers(), "2, 24, 25, 26, 27, 28, 29, 30, 31, 32"; got != want {
		t.Errorf("kept are %s; want %s: the stable one and the newest", got, want)
	}
	list := h.s.List()
	if list[0].Stable != 2 || list[0].StableTemplate == nil || list[0].StableTemplate.Image != "1" {
		t.Errorf("the list lacks the stable revision: %+v", list[0])
	}
	h.do(rolledOut("x", 32, 0))
	if list := h.s.List(); list[0].Stable != 0 || list[0].StableTemplate != nil {
		t.Errorf("the list has the present revision as an older stable one: %+v", list[0])
	}
	if r := h.try(rollback("x", 5, "")); !errors.Is(r.Err, fleet.ErrUnknownRevision) || !strings.Contains(r.Err.Error(), "2, 24, 25") {
		t.Errorf("rollback to a dropped revision: %v", r.Err)
	}
	h.do(put("x", spec("more", 1)))
	if h.s.Servers["x"].Kept(2) != nil {
		t.Error("revision 2 is kept although it is not stable any more")
	}
}

func TestRolloutTimes(t *testing.T) {
	h := newHistory(t)
	h.do(put("x", spec("a", 1)))
	ro := h.s.Servers["x"].Rollout
	started := noon.Add(2 * time.Second)
	if !ro.Started.Equal(started) || !ro.Deadline.Equal(started.Add(10*time.Minute)) {
		t.Errorf("rollout from %s to %s; want 10 minutes from %s", ro.Started, ro.Deadline, started)
	}
	if got := h.s.Servers["x"].Revisions[0].Created; !got.Equal(started) {
		t.Errorf("revision created at %s, want %s", got, started)
	}
}

func TestLead(t *testing.T) {
	var s *State
	r := s.Apply(1, 3, Entry{Command: BeginTenure{Controller: "c", Name: "n"}})
	if !errors.Is(r.Err, fleet.ErrInvalid) {
		t.Errorf("a cluster without an id was founded: %v", r.Err)
	}
	s = r.State.Apply(2, 4, Entry{Command: BeginTenure{Controller: "c", Name: "n", Cluster: "cl"}}).State
	if s.Cluster != "cl" || s.Incarnation != 1 || s.Expect != 1 || s.Lead != (Lead{"c", "n", 4, 2}) {
		t.Errorf("founded: %+v", s)
	}
	s = s.Apply(3, 4, Entry{Command: put("x", spec("a", 1))}).State
	s = s.Apply(4, 9, Entry{Command: BeginTenure{Controller: "d", Name: "m", Cluster: "other", Expect: 5}}).State
	if s.Cluster != "cl" || s.Incarnation != 1 || s.Expect != 1 || s.Lead != (Lead{"d", "m", 9, 4}) {
		t.Errorf("second tenure: %+v", s)
	}
	if s.Written != 3 || s.Index != 4 {
		t.Errorf("written %d, index %d; want 3, 4", s.Written, s.Index)
	}
	if got, want := s.Order(), (fleet.Order{Cluster: "cl", Incarnation: 1, Epoch: 9}); got != want {
		t.Errorf("order %+v, want %+v", got, want)
	}
}

func TestCatalogue(t *testing.T) {
	set := func(rev fleet.Revision, hash string) Command {
		return SetCatalogue{Name: "x", Revision: rev, Catalogue: &fleet.Catalogue{Hash: hash, Tools: [][]byte{[]byte(`{"name":"t"}`)}}}
	}
	h := newHistory(t)
	h.do(set(1, "h"), put("x", spec("a", 1)), set(1, "h"))
	if c := h.s.Servers["x"].Catalogue(1); c == nil || c.Hash != "h" || string(c.Tools[0]) != `{"name":"t"}` {
		t.Fatalf("catalogue is %+v", c)
	}
	if h.s.Written != 3 || h.s.Servers["x"].Written != 3 {
		t.Error("a catalogue counts as a user's write")
	}
	index := h.s.Index
	h.do(set(1, "h"), set(2, "h"), SetCatalogue{Name: "x", Revision: 1})
	if h.s.Index != index || h.s.Servers["x"].Catalogue(1) == nil || h.s.Servers["x"].Catalogue(2) != nil {
		t.Error("a catalogue that is known, nil, or of no kept revision changed something")
	}
	// While a controller of the former version lived, the leader wrote it without the era.
	era := SetCatalogue{Name: "x", Revision: 1, Catalogue: &fleet.Catalogue{Hash: "h", Era: fleet.EraLegacy, Tools: [][]byte{[]byte(`{"name":"t"}`)}}}
	if h.do(era); h.s.Servers["x"].Catalogue(1).Era != fleet.EraLegacy {
		t.Error("the era was not added to a catalogue that had none")
	}
	h.do(put("x", spec("b", 1)), set(2, "i"), rollback("x", 1, ""))
	if c := h.s.Servers["x"].Catalogue(1); c == nil || c.Hash != "h" {
		t.Error("rollback lost the catalogue of the revision")
	}
}

func TestKnown(t *testing.T) {
	h := newHistory(t)
	index := h.s.Index
	h.do(SetKnown{Nodes: []fleet.NodeID{"b", "a", "b"}})
	if !slices.Equal(h.s.Known, []fleet.NodeID{"a", "b"}) {
		t.Errorf("known are %v", h.s.Known)
	}
	if h.s.NeedsEntry(SetKnown{Nodes: []fleet.NodeID{"a", "b"}}) {
		t.Error("the same list in another order would change something")
	}
	h.do(SetKnown{})
	if h.s.Known != nil || h.s.Index != index {
		t.Errorf("known are %v, index went from %d to %d", h.s.Known, index, h.s.Index)
	}
}

func TestReplayDoesNothing(t *testing.T) {
	h := newHistory(t)
	h.do(put("x", spec("a", 1)), scale("x", 3))
	for index := range h.s.Applied + 1 {
		r := h.s.Apply(index, 9, Entry{Command: restart("x", "")})
		if r.State != h.s || r.Err != nil || r.Changes != nil {
			t.Errorf("entry %d applied again: %s, %v", index, summary(r.Changes), r.Err)
		}
		if h.s.SkipTo(index) != h.s {
			t.Errorf("entry %d skipped again", index)
		}
	}
	next := h.s.SkipTo(10)
	if next.Applied != 10 || next.Index != h.s.Index || h.s.Applied != 3 {
		t.Errorf("skipped to 10: applied %d, index %d; the old state: applied %d", next.Applied, next.Index, h.s.Applied)
	}
}

// A dry run and the log may continue from one state in two ways, at the same time.
func TestTwoFuturesOfOneState(t *testing.T) {
	h := newHistory(t)
	h.do(put("x", spec("a", 1)))
	for range 8 {
		index := h.s.Applied + 1
		for _, pair := range [][2]Command{
			{put("x", spec(fmt.Sprint("this", index), 1)), put("x", spec("that", 1))},
			{restart("x", fmt.Sprint("this", index)), restart("x", "that")},
			{node("this", fleet.NodeIntent{Cordoned: true}), node("that", fleet.NodeIntent{Cordoned: true})},
		} {
			one := h.s.Apply(index, 7, Entry{Command: pair[0]}).State
			text := encoded(t, one)
			other := h.s.Apply(index, 7, Entry{Command: pair[1]}).State
			if !bytes.Equal(encoded(t, one), text) {
				t.Fatalf("one future disturbed the other:\n%s\n%s\n%s", text, encoded(t, one), encoded(t, other))
			}
		}
		h.do(put("x", spec(fmt.Sprint(index), 1)), restart("x", fmt.Sprint("k", index)))
	}
}

func TestEmptyState(t *testing.T) {
	var none *State
	if none.List() != nil || none.Default() != "" || none.ETag() != "0.0" || none.Order() != (fleet.Order{}) {
		t.Error("the nil state is not empty")
	}
	if !bytes.Equal(encoded(t, none), encoded(t, &State{})) {
		t.Error("the nil state and the zero one differ")
	}
	if s := none.SkipTo(4); s.Applied != 4 {
		t.Errorf("applied %d", s.Applied)
	}
	if !none.NeedsEntry(put("x", spec("a", 1))) {
		t.Error("a first server would change nothing")
	}
}

// Of two operators at the same time, neither undoes what the other did, whatever the
// order.
func TestNodeVerbsRace(t *testing.T) {
	drain := node("n", fleet.NodeIntent{DrainUntil: noon.Add(time.Hour)})
	cordon := node("n", fleet.NodeIntent{Cordoned: true})
	for _, order := range [][]Command{{drain, cordon}, {cordon, drain}} {
		h := newHistory(t)
		h.do(order...)
		if got := h.s.Nodes["n"]; !got.Cordoned || !got.DrainUntil.Equal(noon.Add(time.Hour)) {
			t.Errorf("after both the node is intended to be %+v", got)
		}
	}
}
