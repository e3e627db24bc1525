package store

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

var errFull = errors.New("no space left")

// fullDisk refuses to store a term while it is full.
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

// If the disk is full when raft has to write its term, neither the process nor the
// store ends. The store says what is wrong, and continues when there is room.
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

// Entries that were removed from the log's end and not replaced are read with a term
// that no leader has, and their controller does not stand for election. Entries that
// a snapshot replaced are not found.
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

// A leader that cannot append steps down. Another one leads and writes, although the
// first could win an election.
func TestLeaderWithFullDisk(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.tune = calm
	disk := startFaulty(c)
	old := c.leader()
	disk(old).refuse(errFull)
	if _, err := old.Propose(t.Context(), put("a", "perhaps")); !errors.Is(err, fleet.ErrOutcomeUnknown) || !contains(err, errFull.Error()) {
		t.Errorf("a write: %v, want an unknown outcome and the cause", err)
	}
	c.otherLeader(old)
	for i := range 20 {
		c.must(put("b", fmt.Sprint(i)))
		if _, leads := old.tenure(); leads {
			t.Errorf("before write %d the leader with the full disk leads again", i)
		}
	}
	if err := problemIs(old.Problem(), errFull.Error()); err != nil {
		t.Error(err)
	}
	disk(old).refuse(nil)
	c.agree()
	eventually(t, "its problem is gone", func() error { return errorOf(old.Problem()) })
}

// A leader that is elected while the disks of its followers are full must send them
// entries before its last one. They tell it so although an append has failed before,
// and all continue when the disks have room.
func TestElectionWhileDisksAreFull(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.tune = calmWrites(time.Second)
	disk := startFaulty(c)
	lead, rest := c.leader(), c.followers()
	before, _ := lead.tenure()
	for _, s := range rest {
		disk(s).refuse(errFull)
	}
	if _, err := lead.Propose(t.Context(), put("b", "x")); !errors.Is(err, fleet.ErrOutcomeUnknown) {
		t.Errorf("a write that nobody else stores: %v, want an unknown outcome", err)
	}
	for _, s := range rest {
		eventually(t, "an append has failed", func() error { return problemIs(s.Problem(), errFull.Error()) })
	}
	c.net.separate(ids(lead), ids(rest...))
	eventually(t, "leadership is lost", func() error {
		if _, leads := lead.leaderTerm(); leads {
			return errors.New("it leads")
		}
		return nil
	})
	c.net.heal()
	eventually(t, "the next leader says why the others store nothing", func() error {
		for _, s := range c.stores() { // the longest log wins: that of the first leader
			if term, leads := s.leaderTerm(); !leads || term <= before {
				continue
			}
			for _, other := range c.stores() {
				if p := s.PeerProblem(other.ID()); contains(errors.New(p), errFull.Error()) {
					return nil
				} else if p != "" {
					return fmt.Errorf("the problem of one is %q", p)
				}
			}
		}
		return errors.New("there is none, or it sees no problem")
	})
	for _, s := range rest {
		disk(s).refuse(nil)
	}
	c.must(put("c", "x"))
	c.agree()
	for _, s := range c.stores() {
		eventually(t, "its problem is gone", func() error { return errorOf(s.Problem()) })
	}
}

// If the disk is full when the entries of the next leader should replace entries that
// nobody else has, it takes them once there is room.
func TestFullDiskWhileEntriesAreReplaced(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.tune = calmWrites(time.Second)
	disk := startFaulty(c)
	old, rest := c.leader(), c.followers()
	c.net.separate(ids(old), ids(rest...))
	for i := range 3 {
		if _, err := old.Propose(t.Context(), put(fmt.Sprint("lost", i), "x")); err == nil {
			t.Error("a leader that is cut off wrote")
		}
	}
	c.otherLeader(old)
	c.must(put("b", "x"))
	disk(old).refuse(errFull)
	c.net.heal()
	eventually(t, "an append has failed", func() error { return problemIs(old.Problem(), errFull.Error()) })
	disk(old).refuse(nil)
	c.must(put("c", "x"))
	c.agree()
	eventually(t, "its problem is gone", func() error { return errorOf(old.Problem()) })
}

// Later errors keep naming the first cause, from which they follow.
func TestFirstCauseStays(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s, disk := startFaultyOne(c)
	c.must(put("a", "x"))
	disk(s).refuse(errFull)
	var seen []string
	for i := range 10 {
		_, err := s.Propose(t.Context(), put("a", fmt.Sprint(i)))
		if err == nil || !contains(err, errFull.Error()) {
			t.Errorf("write %d: %v, want the first cause", i, err)
		}
		seen = append(seen, fmt.Sprint(err))
	}
	if err := problemIs(s.Problem(), errFull.Error()); err != nil {
		t.Error(err)
	}
	disk(s).refuse(nil)
	c.must(put("a", "y"))
	if p := s.Problem(); p != "" {
		t.Errorf("its problem afterwards is %q", p)
	}
	t.Log(slices.Compact(seen))
}
