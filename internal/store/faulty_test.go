package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Most tests of this file wait most of the time, so they run at once.

// faultyDisk is a log whose writes hang or fail while they are told to.
type faultyDisk struct {
	logStore

	mu   sync.Mutex
	hang chan struct{} // closed when the hang is over; nil: writes go on
	err  error         // of new entries
}

func (d *faultyDisk) wait() error {
	d.mu.Lock()
	hang, err := d.hang, d.err
	d.mu.Unlock()
	if hang != nil {
		<-hang
	}
	return err
}

func (d *faultyDisk) StoreLogs(entries []*raft.Log) error {
	if err := d.wait(); err != nil {
		return err
	}
	return d.logStore.StoreLogs(entries)
}

func (d *faultyDisk) Set(key, value []byte) error {
	_ = d.wait()
	return d.logStore.Set(key, value)
}

func (d *faultyDisk) SetUint64(key []byte, value uint64) error {
	_ = d.wait()
	return d.logStore.SetUint64(key, value)
}

// freeze makes all writes hang until thaw.
func (d *faultyDisk) freeze() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hang == nil {
		d.hang = make(chan struct{})
	}
}

func (d *faultyDisk) thaw() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hang != nil {
		close(d.hang)
		d.hang = nil
	}
}

// refuse makes new entries fail, nil lets them succeed.
func (d *faultyDisk) refuse(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

// calm has raft's timeouts, and that of the disk, so long that a busy machine
// does not look like a fault.
func calm(cfg *Config) {
	cfg.DiskTimeout = 2 * time.Second
	cfg.Timeouts = Timeouts{Heartbeat: 2 * time.Second, Election: 2 * time.Second, Lease: time.Second}
}

// faulty makes the disks of a cluster faulty, and returns the disk of each.
func faulty(c *cluster) func(*Store) *faultyDisk {
	var mu sync.Mutex
	disks := make(map[fleet.ControllerID]*faultyDisk)
	c.wrap = func(id fleet.ControllerID) func(logStore) logStore {
		return func(under logStore) logStore {
			mu.Lock()
			defer mu.Unlock()
			disks[id] = &faultyDisk{logStore: under}
			return disks[id]
		}
	}
	c.t.Cleanup(func() { // before the cluster's own
		mu.Lock()
		defer mu.Unlock()
		for _, d := range disks {
			d.thaw()
			d.refuse(nil)
		}
	})
	return func(s *Store) *faultyDisk {
		mu.Lock()
		defer mu.Unlock()
		return disks[s.ID()]
	}
}

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

// A leader whose disk hangs gives leadership up though raft's main loop waits
// for the disk: the write under way ends, another leads and writes, and the old
// one knows it. When the disk is back it follows.
func TestLeaderWithHungDiskGivesUp(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.tune = calm
	disk := faulty(c)
	startThree(c)
	c.must(put("a", "x"))
	c.agree()
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
	if p := old.Problem(); !contains(errors.New(p), "does not answer") {
		t.Errorf("its problem is %q", p)
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

func errorOf(problem string) error {
	if problem == "" {
		return nil
	}
	return errors.New(problem)
}

// A leader that is alone has nobody to hand leadership to: it goes on reading,
// its writes end, and it says what is wrong.
func TestHungDiskOfOne(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.tune = func(cfg *Config) { cfg.DiskTimeout, cfg.WriteTimeout = 200*time.Millisecond, time.Second }
	disk := faulty(c)
	s := c.add()
	if err := s.Bootstrap(ids(s)); err != nil {
		t.Fatal(err)
	}
	c.leader()
	c.must(put("a", "x"))
	disk(s).freeze()
	_, err := s.Propose(t.Context(), put("b", "y"))
	if !errors.Is(err, fleet.ErrOutcomeUnknown) || !contains(err, "disk does not answer") {
		t.Errorf("a write: %v, want an unknown outcome and the disk", err)
	}
	for range 100 { // raft takes 64 requests to confirm leadership before it holds callers up
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
	disk := faulty(c)
	s := c.add()
	if err := s.Bootstrap(ids(s)); err != nil {
		t.Fatal(err)
	}
	c.leader()
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

// A follower that stores nothing says so, and the leader names it with the
// cause; the others go on. When its disk works again it catches up.
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
			disk := faulty(c)
			startThree(c)
			c.must(put("a", "x"))
			c.agree()
			bad := c.followers()[0]
			tt.breaks(disk(bad))
			for i := range 5 {
				c.must(put("b", fmt.Sprint(i)))
			}
			eventually(t, "it says so", func() error {
				if p := bad.Problem(); !contains(errors.New(p), tt.cause) {
					return fmt.Errorf("its problem is %q", p)
				}
				return nil
			})
			eventually(t, "the leader names it", func() error {
				if p := c.leader().PeerProblem(bad.ID()); !contains(errors.New(p), tt.cause) {
					return fmt.Errorf("its problem is %q", p)
				}
				return nil
			})
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

// When no majority stores anything, though all answer, a write ends after a
// while, and so many at once are taken and no more.
func TestWritesThatNoMajorityStores(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.tune = func(cfg *Config) {
		calm(cfg)
		cfg.WriteTimeout = 2 * time.Second
	}
	disk := faulty(c)
	startThree(c)
	c.must(put("a", "x"))
	c.agree()
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
	// What nobody waits for any more is there in the end: it was in the log.
	for _, s := range c.stores() {
		disk(s).refuse(nil)
	}
	eventually(t, "room again", func() error {
		_, err := c.leader().Propose(t.Context(), put("late", "x"))
		return err
	})
	c.agree()
}

// A write that ends with leadership says what kept the others from storing it,
// and one that comes later does not.
func TestLostLeadershipNamesTheCause(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.net.under = newPipes()
		disk := faulty(c)
		startThree(c)
		c.must(put("a", "x"))
		c.agree()
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

// A leader that is elected while nobody else stores anything cannot begin its
// tenure. It says why, while that is so.
func TestElectedInVainNamesTheCause(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.net.under = newPipes()
		disk := faulty(c)
		startThree(c)
		c.must(put("a", "x"))
		c.agree()
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

// A leader that cannot append steps down, and another one leads and writes,
// though the first could win an election.
func TestLeaderWithFullDisk(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.tune = calm
	disk := faulty(c)
	startThree(c)
	c.must(put("a", "x"))
	c.agree()
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
	if p := old.Problem(); !contains(errors.New(p), errFull.Error()) {
		t.Errorf("its problem is %q", p)
	}
	disk(old).refuse(nil)
	c.agree()
	eventually(t, "its problem is gone", func() error { return errorOf(old.Problem()) })
}

// A leader that is elected while the disks of its followers are full must send
// them older entries than its last one. They tell it so, though an append has
// failed before, and all go on when the disks have room again.
func TestElectionWhileDisksAreFull(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.tune = func(cfg *Config) {
		calm(cfg)
		cfg.WriteTimeout = time.Second
	}
	disk := faulty(c)
	startThree(c)
	c.must(put("a", "x"))
	c.agree()
	lead, rest := c.leader(), c.followers()
	before, _ := lead.tenure()
	for _, s := range rest {
		disk(s).refuse(errFull)
	}
	if _, err := lead.Propose(t.Context(), put("b", "x")); !errors.Is(err, fleet.ErrOutcomeUnknown) {
		t.Errorf("a write that nobody else stores: %v, want an unknown outcome", err)
	}
	for _, s := range rest {
		eventually(t, "an append has failed", func() error {
			if p := s.Problem(); !contains(errors.New(p), errFull.Error()) {
				return fmt.Errorf("its problem is %q", p)
			}
			return nil
		})
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

// A disk that is full when entries which nobody else has are to make room for
// those of the next leader takes them when it has room again.
func TestFullDiskWhileEntriesAreReplaced(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.tune = func(cfg *Config) {
		calm(cfg)
		cfg.WriteTimeout = time.Second
	}
	disk := faulty(c)
	startThree(c)
	c.must(put("a", "x"))
	c.agree()
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
	eventually(t, "an append has failed", func() error {
		if p := old.Problem(); !contains(errors.New(p), errFull.Error()) {
			return fmt.Errorf("its problem is %q", p)
		}
		return nil
	})
	disk(old).refuse(nil)
	c.must(put("c", "x"))
	c.agree()
	eventually(t, "its problem is gone", func() error { return errorOf(old.Problem()) })
}

// The first cause stays in the answers after it, which fail for what follows
// from it.
func TestFirstCauseStays(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	disk := faulty(c)
	s := c.add()
	if err := s.Bootstrap(ids(s)); err != nil {
		t.Fatal(err)
	}
	c.leader()
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
	if p := s.Problem(); !contains(errors.New(p), errFull.Error()) {
		t.Errorf("its problem is %q", p)
	}
	disk(s).refuse(nil)
	c.must(put("a", "y"))
	if p := s.Problem(); p != "" {
		t.Errorf("its problem afterwards is %q", p)
	}
	t.Log(slices.Compact(seen))
}

// A disk that nobody writes to is tried now and then, in a cluster of several.
func TestIdleDiskIsTried(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.tune = calm
	disk := faulty(c)
	startThree(c)
	c.agree()
	bad := c.followers()[0]
	disk(bad).freeze()
	eventually(t, "it is found hung", func() error {
		if p := bad.Problem(); !contains(errors.New(p), string(opProbe)) {
			return fmt.Errorf("its problem is %q", p)
		}
		return nil
	})
	disk(bad).thaw()
	eventually(t, "its problem is gone", func() error { return errorOf(bad.Problem()) })
}
