package store

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

var errFull = errors.New("no space left")

// fullDisk takes no term once it is full.
type fullDisk struct {
	logStore
	full *atomic.Bool
}

func (f fullDisk) SetUint64(key []byte, value uint64) error {
	if f.full.Load() {
		return errFull
	}
	return f.logStore.SetUint64(key, value)
}

// A disk that is full when raft wants to write its term down neither ends the
// process with a panic nor the store: it says what is wrong, and goes on when
// there is room.
func TestFullDisk(t *testing.T) {
	var full atomic.Bool
	c := newCluster(t)
	c.tune = func(cfg *Config) { cfg.DiskTimeout = time.Second }
	c.wrap = func(fleet.ControllerID) func(logStore) logStore {
		return func(under logStore) logStore { return fullDisk{under, &full} }
	}
	startThree(c)
	c.must(put("a", "x"))
	c.agree()
	full.Store(true)
	left := c.followers()
	c.kill(c.leader()) // one of them stands for election
	eventually(t, "the cause", func() error {
		for _, s := range left {
			if p := s.Problem(); contains(errors.New(p), errFull.Error()) && contains(errors.New(p), "term") {
				return nil
			}
		}
		return fmt.Errorf("their problems are %q and %q", left[0].Problem(), left[1].Problem())
	})
	for _, s := range left {
		if err := has(s.State(), "a", "x"); err != nil {
			t.Errorf("what it knew: %v", err)
		}
		if _, err := s.Propose(t.Context(), put("a", "y")); !errors.Is(err, fleet.ErrNotLeader) {
			t.Errorf("a write: %v, want ErrNotLeader", err)
		}
	}
	full.Store(false)
	c.must(put("a", "z"))
	c.agree()
	for _, s := range left {
		eventually(t, "no problem", func() error { return errorOf(s.Problem()) })
	}
}

// Entries that were removed from the log's end, and not replaced, are read as of
// no leader's term, and their controller does not stand for election. Those that
// a snapshot took the place of are just gone.
func TestRemovedEntries(t *testing.T) {
	watch := unwatched()
	log := watchedLog{raft.NewInmemStore(), watch}
	entry := func(index, term uint64) *raft.Log { return &raft.Log{Index: index, Term: term} }
	var six []*raft.Log
	for i := range uint64(6) {
		six = append(six, entry(i+1, 2))
	}
	tests := []struct {
		name    string
		do      func() error
		gone    []uint64
		removed []uint64
	}{
		{"stored", func() error { return log.StoreLogs(six) }, []uint64{0, 7}, nil},
		{"compacted", func() error { return log.DeleteRange(1, 2) }, []uint64{0, 1, 2, 7}, nil},
		{"removed", func() error { return log.DeleteRange(5, 6) }, []uint64{0, 1, 2, 7}, []uint64{5, 6}},
		{"removed again", func() error { return log.DeleteRange(4, 6) }, []uint64{0, 1, 2, 7}, []uint64{4, 5, 6}},
		{"replaced", func() error { return log.StoreLog(entry(4, 3)) }, []uint64{0, 1, 2, 5, 6, 7}, nil},
	}
	for _, tt := range tests {
		if err := tt.do(); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		var e raft.Log
		for _, i := range tt.gone {
			if err := log.GetLog(i, &e); !errors.Is(err, raft.ErrLogNotFound) {
				t.Errorf("%s: entry %d: %v, want not found", tt.name, i, err)
			}
		}
		for _, i := range tt.removed {
			if err := log.GetLog(i, &e); err != nil || e.Index != i || e.Term != 0 || e.Type != removedType {
				t.Errorf("%s: entry %d: %+v, %v; want one of no term", tt.name, i, e, err)
			}
		}
		if got, want := watch.mayStand(), len(tt.removed) == 0; got != want {
			t.Errorf("%s: it may stand: %v, want %v", tt.name, got, want)
		}
	}
}
