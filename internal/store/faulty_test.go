package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// The tests of this file mostly wait, so they run in parallel.

// otherLeader waits for a leader that is not the given one.
func (c *cluster) otherLeader(not *Store) (leader *Store) {
	c.t.Helper()
	eventually(c.t, "another leader", func() error {
		for _, s := range c.stores() {
			if _, ok := s.tenure(); ok && s != not {
				leader = s
				return nil
			}
		}
		return errors.New("nobody else leads")
	})
	return leader
}

// A leader whose disk hangs gives up leadership although raft's main loop waits for
// the disk. The write under way ends, another controller leads and writes, and the
// old leader knows it. When the disk is back it follows.
func TestLeaderWithHungDiskGivesUp(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.tune = calm
	disk := startFaulty(c)
	old := c.leader()
	term, _ := old.tenure()
	disk(old).freeze()
	_, err := old.Propose(t.Context(), put("a", "perhaps"))
	if !errors.Is(err, fleet.ErrOutcomeUnknown) || !contains(err, "disk does not answer") {
		t.Errorf("the write under way: %v, want an unknown outcome and the disk", err)
	}
	next := c.otherLeader(old)
	eventually(t, "a write at the next leader", func() error {
		_, err := next.Propose(t.Context(), put("b", "y"))
		return err
	})
	if _, err := old.Propose(t.Context(), put("a", "z")); !errors.Is(err, fleet.ErrNotLeader) {
		t.Errorf("a write at the old leader: %v, want ErrNotLeader", err)
	}
	if _, err := old.Read(t.Context()); !errors.Is(err, fleet.ErrNotLeader) {
		t.Errorf("a read at the old leader: %v, want ErrNotLeader", err)
	}
	if err := problemIs(old.Problem(), "does not answer"); err != nil {
		t.Error(err)
	}
	eventually(t, "the old leader knows the next", func() error {
		if id, now, _ := old.Leader(); id != next.ID() || uint64(now) <= term {
			return fmt.Errorf("it knows %q in term %d", id, now)
		}
		return nil
	})
	eventually(t, "its tenure has ended", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, tn := range c.tenures {
			if tn.by == old.ID() && tn.end == 0 {
				return errors.New("it goes on")
			}
		}
		return nil
	})
	disk(old).thaw()
	eventually(t, "the old leader follows", func() error { return has(old.State(), "b", "y") })
	c.agree()
	eventually(t, "its problem is gone", func() error { return errorOf(old.Problem()) })
	c.must(put("c", "z"))
	c.agree()
}

// A leader that is alone keeps leadership on a hung disk: reads go on, writes end, and
// it says what is wrong.
func TestHungDiskOfOne(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.tune = func(cfg *Config) { cfg.DiskTimeout, cfg.WriteTimeout = 200*time.Millisecond, time.Second }
	s, disk := startFaultyOne(c)
	c.must(put("a", "x"))
	disk(s).freeze()
	_, err := s.Propose(t.Context(), put("b", "y"))
	if !errors.Is(err, fleet.ErrOutcomeUnknown) || !contains(err, "disk does not answer") {
		t.Errorf("a write: %v, want an unknown outcome and the disk", err)
	}
	for range 100 { // raft takes 64 requests to confirm leadership before callers block
		if st, err := s.Read(t.Context()); err != nil || has(st, "a", "x") != nil {
			t.Fatalf("a read: %v", err)
		}
	}
	disk(s).thaw()
	eventually(t, "its problem is gone", func() error { return errorOf(s.Problem()) })
	c.must(put("c", "z"))
}

// A controller whose disk hangs can be closed.
func TestCloseWithHungDisk(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.tune = func(cfg *Config) { cfg.DiskTimeout = 300 * time.Millisecond }
	s, disk := startFaultyOne(c)
	frozen := disk(s)
	frozen.freeze()
	go s.Propose(context.Background(), put("a", "x")) //nolint:errcheck // it hangs
	eventually(t, "the disk is found hung", func() error {
		if s.Problem() == "" {
			return errors.New("no problem")
		}
		return nil
	})
	c.mu.Lock()
	end := c.leads[s.ID()]
	delete(c.live, s.ID())
	c.mu.Unlock()
	begun := time.Now()
	if err := s.Close(t.Context()); err == nil || !contains(err, "disk does not answer") {
		t.Errorf("Close: %v, want the disk", err)
	}
	end()
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("Close took %s", took)
	}
	frozen.thaw()
	eventually(t, "raft ends", func() error {
		if s.raft.State() != raft.Shutdown || s.disk.watch.isHung() {
			return errors.New("it goes on")
		}
		return nil
	})
}

// A follower that stores nothing says so, and the leader names it with the cause. The
// others go on. When its disk works again it catches up.
func TestFollowerThatStoresNothing(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		breaks, mends func(*faultyDisk)
		cause         string
	}{
		"its disk is full": {func(d *faultyDisk) { d.refuse(errFull) }, func(d *faultyDisk) { d.refuse(nil) }, errFull.Error()},
		"its disk hangs":   {(*faultyDisk).freeze, (*faultyDisk).thaw, "does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			c.tune = calm
			disk := startFaulty(c)
			bad := c.followers()[0]
			tt.breaks(disk(bad))
			for i := range 5 {
				c.must(put("b", fmt.Sprint(i)))
			}
			eventually(t, "it says so", func() error { return problemIs(bad.Problem(), tt.cause) })
			eventually(t, "the leader names it", func() error { return problemIs(c.leader().PeerProblem(bad.ID()), tt.cause) })
			for _, s := range c.stores() {
				if s != bad {
					eventually(t, "no other has a problem", func() error { return errorOf(s.Problem()) })
				}
			}
			tt.mends(disk(bad))
			c.agree()
			eventually(t, "its problem is gone", func() error { return errorOf(bad.Problem()) })
			eventually(t, "the leader sees it", func() error { return errorOf(c.leader().PeerProblem(bad.ID())) })
		})
	}
}

// When no majority stores anything although all answer, a write ends after a while,
// and the number of waiting writes is bounded.
func TestWritesThatNoMajorityStores(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.tune = calmWrites(2 * time.Second)
	disk := startFaulty(c)
	lead := c.leader()
	for _, s := range c.followers() {
		disk(s).refuse(errFull)
	}
	const more = 20
	var mu sync.Mutex
	unknown, overloaded := 0, 0
	var group sync.WaitGroup
	begun := time.Now()
	for i := range maxPending + more {
		group.Go(func() {
			_, err := lead.Propose(t.Context(), put(fmt.Sprint("s", i), "x"))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, fleet.ErrOutcomeUnknown) && contains(err, "no majority"):
				unknown++
			case errors.Is(err, fleet.ErrOverloaded):
				overloaded++
			default:
				t.Errorf("write %d: %v", i, err)
			}
		})
	}
	group.Wait()
	if unknown > maxPending || overloaded < more {
		t.Errorf("%d of unknown outcome and %d refused, want %d and %d", unknown, overloaded, maxPending, more)
	}
	if took := time.Since(begun); took < 2*time.Second || took > 20*time.Second {
		t.Errorf("it took %s, want 2s", took)
	}
	if _, err := lead.Propose(t.Context(), put("late", "x")); !errors.Is(err, fleet.ErrOverloaded) {
		t.Errorf("one more: %v, want ErrOverloaded", err)
	}
	// Writes for which nobody waits any more take effect in the end.
	for _, s := range c.stores() {
		disk(s).refuse(nil)
	}
	eventually(t, "room again", func() error {
		_, err := c.leader().Propose(t.Context(), put("late", "x"))
		return err
	})
	c.agree()
}

// A write that ends because leadership is lost says why the others did not store it.
// A later write does not.
func TestLostLeadershipNamesTheCause(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.net.under = newPipes()
		disk := startFaulty(c)
		lead := c.leader()
		for _, s := range c.followers() {
			disk(s).refuse(errFull)
		}
		time.AfterFunc(2*time.Second, lead.giveUp)
		_, err := lead.Propose(t.Context(), put("a", "y"))
		if !errors.Is(err, fleet.ErrOutcomeUnknown) || !contains(err, "leadership lost") || !contains(err, errFull.Error()) {
			t.Errorf("the write under way: %v, want an unknown outcome, lost leadership and the cause", err)
		}
		for _, s := range c.stores() {
			disk(s).refuse(nil)
		}
		if _, err := lead.Propose(t.Context(), put("a", "z")); !errors.Is(err, fleet.ErrNotLeader) || contains(err, errFull.Error()) {
			t.Errorf("the next write: %v, want ErrNotLeader without a cause", err)
		}
		c.must(put("a", "z"))
		c.agree()
	})
}

// A leader that is elected while nobody else stores anything cannot begin its tenure,
// and says why.
func TestElectedInVainNamesTheCause(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.net.under = newPipes()
		disk := startFaulty(c)
		lead, rest := c.leader(), c.followers()
		for _, s := range rest {
			disk(s).refuse(errFull)
		}
		time.AfterFunc(time.Second, lead.giveUp)
		if _, err := lead.Propose(t.Context(), put("a", "y")); !errors.Is(err, fleet.ErrOutcomeUnknown) {
			t.Errorf("a write: %v, want an unknown outcome", err)
		}
		elected := func() *Store {
			for _, s := range c.stores() {
				if _, leads := s.leaderTerm(); leads {
					return s
				}
			}
			return nil
		}
		eventually(t, "the cause", func() error {
			if s := elected(); s != nil {
				_, err := s.Propose(t.Context(), put("a", "z"))
				if contains(err, errFull.Error()) {
					return nil
				}
				return fmt.Errorf("a write: %w", err)
			}
			return errors.New("nobody is elected")
		})
		for _, s := range c.stores() {
			disk(s).refuse(nil)
		}
		c.must(put("a", "z"))
		c.agree()
	})
}

// An idle disk is tested now and then, in a cluster of several.
func TestIdleDiskIsTried(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.tune = calm
	disk := faulty(c)
	startThree(c)
	c.agree()
	bad := c.followers()[0]
	disk(bad).freeze()
	eventually(t, "it is found hung", func() error { return problemIs(bad.Problem(), string(opProbe)) })
	disk(bad).thaw()
	eventually(t, "its problem is gone", func() error { return errorOf(bad.Problem()) })
}
