package desired

import (
	"errors"
	"fmt"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func TestIdempotencyKeys(t *testing.T) {
	h := newHistory(t)
	h.do(put("x", spec("a", 1)), put("x", spec("b", 1)), rolledOut("x", 2, 0))

	first := h.do(restart("x", "k1"))
	again := h.do(restart("x", "k1"))
	if h.s.Servers["x"].Generation != 1 {
		t.Errorf("restarted %d times under one key", h.s.Servers["x"].Generation)
	}
	if first.Repeated || !again.Repeated {
		t.Errorf("repeated: the first %v, the second %v", first.Repeated, again.Repeated)
	}
	if summary(again.Changes) != summary(first.Changes) || summary(again.Changes) != "restarted x@2" {
		t.Errorf("the repeated request got %q, the first %q", summary(again.Changes), summary(first.Changes))
	}
	if !h.s.NeedsEntry(restart("x", "k1")) {
		t.Error("a repeated request would not reach the log, and not get its first answer")
	}

	back := h.do(rollback("x", 0, "k2"))
	again = h.do(rollback("x", 0, "k2")) // without the key it would find no earlier one
	if summary(again.Changes) != summary(back.Changes) || h.s.Servers["x"].Revision != 1 {
		t.Errorf("got %q and %q, revision %d", summary(back.Changes), summary(again.Changes), h.s.Servers["x"].Revision)
	}
	for name, other := range map[string]Command{
		"other revision": rollback("x", 2, "k2"), "other verb": restart("x", "k2"), "other server": rollback("y", 0, "k2"),
	} {
		if r := h.try(other); !errors.Is(r.Err, fleet.ErrConflict) {
			t.Errorf("%s under a used key: %v", name, r.Err)
		}
	}

	// There is nothing to do, and a repetition must do nothing either.
	h.do(rolledOut("x", 1, 1))
	index := h.s.Index
	if r := h.do(rollback("x", 1, "k3")); r.Changes != nil || r.State.Index != index {
		t.Errorf("rollback to the present revision: %s, index %d", summary(r.Changes), r.State.Index)
	}
	h.do(put("x", spec("c", 1)), rollback("x", 1, "k3"))
	if got := h.s.Servers["x"].Revision; got != 3 {
		t.Errorf("a repeated request rolled back to %d", got)
	}

	// A refused request may be tried again under its key.
	h.try(restart("y", "k4"))
	h.do(put("y", spec("a", 1)), restart("y", "k4"))
	if h.s.Servers["y"].Generation != 1 {
		t.Error("the key of a refused request was kept")
	}
	// The answer is kept after its server is deleted.
	h.do(del("y"))
	if r := h.do(restart("y", "k4")); summary(r.Changes) != "restarted y@1" {
		t.Errorf("got %q", summary(r.Changes))
	}
}

func TestIdempotencyKeysAreBounded(t *testing.T) {
	h := newHistory(t)
	h.do(put("x", spec("a", 1)))
	for i := range MaxKeys + 2 {
		c := restart("x", fmt.Sprint("k", i))
		h.s = h.s.Apply(h.s.Applied+1, 7, Entry{Command: c}).State
	}
	if len(h.s.Keys) != MaxKeys || h.s.Keys[0].Key != "k2" || h.s.Keys[MaxKeys-1].Key != fmt.Sprint("k", MaxKeys+1) {
		t.Fatalf("%d keys, from %s", len(h.s.Keys), h.s.Keys[0].Key)
	}
	generation := h.s.Servers["x"].Generation
	h.do(restart("x", "k2"), restart("x", "k0")) // kept, forgotten
	if got := h.s.Servers["x"].Generation; got != generation+1 {
		t.Errorf("generation went from %d to %d, want one more", generation, got)
	}
}
