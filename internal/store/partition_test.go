package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func ids(stores ...*Store) []fleet.ControllerID {
	var out []fleet.ControllerID
	for _, s := range stores {
		out = append(out, s.ID())
	}
	return out
}

// No acknowledged write is lost, however often the leader dies.
func TestFailoverKeepsAcknowledgedWrites(t *testing.T) {
	c := three(t)
	ctx, stop := context.WithCancel(t.Context())
	acked := map[fleet.ServerName]bool{}
	var mu sync.Mutex
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(acked)
	}
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			name := fmt.Sprint("s", i)
			for _, s := range c.stores() {
				one, cancel := context.WithTimeout(ctx, 2*time.Second)
				if _, err := s.Propose(one, put(name, "x")); err == nil {
					mu.Lock()
					acked[fleet.ServerName(name)] = true
					mu.Unlock()
				}
				cancel()
			}
		}
	})
	grow := func() {
		t.Helper()
		before := count()
		eventually(t, "more writes", func() error {
			if now := count(); now < before+5 {
				return fmt.Errorf("%d of %d", now, before+5)
			}
			return nil
		})
	}
	for range 3 {
		grow()
		dead := c.leader()
		c.kill(dead)
		grow()
		c.restart(dead)
	}
	stop()
	writer.Wait()
	st := c.read()
	for name := range maps.Keys(acked) {
		if st.Servers[name] == nil {
			t.Errorf("%s was acknowledged and is gone", name)
		}
	}
	c.agree()
}

// A leader that is cut off neither writes nor reads, and the others go on. After the
// cut there is one history.
func TestLeaderCutOff(t *testing.T) {
	c := three(t)
	c.must(put("a", "old"))
	old, rest := c.leader(), c.followers()
	c.net.separate(ids(old), ids(rest...))

	// No request to it may succeed from now on, although it may still believe that
	// it leads.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := old.Propose(ctx, put("lost", "x"))
	if !errors.Is(err, fleet.ErrOutcomeUnknown) && !errors.Is(err, fleet.ErrNotLeader) {
		t.Errorf("Propose: %v, want an unknown outcome or not the leader", err)
	}
	if st, err := old.Read(ctx); !errors.Is(err, fleet.ErrNotLeader) {
		t.Errorf("Read: %v, %v; want ErrNotLeader", st, err)
	}
	var lead *Store
	eventually(t, "a leader of the others", func() error {
		for _, s := range rest {
			if _, ok := s.tenure(); ok {
				lead = s
				_, err := s.Propose(ctx, put("a", "new"))
				return err
			}
		}
		return errors.New("nobody leads")
	})
	if err := has(old.State(), "a", "old"); err != nil {
		t.Errorf("local view of the one cut off: %v", err)
	}
	c.net.heal()
	eventually(t, "the old leader follows", func() error { return has(old.State(), "a", "new") })
	c.agree()
	if lead.State().Servers["lost"] != nil {
		t.Error("a write of the leader cut off came back although nobody had it")
	}
}

// The answer of a controller without a vote does not confirm a read, although raft's
// VerifyLeader accepts it.
func TestReadCountsVotersOnly(t *testing.T) {
	c := three(t)
	c.must(put("a", "old"))
	guest := c.add()
	eventually(t, "non-voter", func() error { return c.leader().AddNonvoter(guest.ID()) })
	eventually(t, "its state", func() error { return has(guest.State(), "a", "old") })
	old := c.leader()
	voters := slices.DeleteFunc(c.stores(), func(s *Store) bool { return s == old || s == guest })
	c.net.separate(ids(old, guest), ids(voters...))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := old.Read(ctx); !errors.Is(err, fleet.ErrNotLeader) {
		t.Errorf("Read with a guest's word only: %v, want ErrNotLeader", err)
	}
	c.net.heal()
	c.agree()
}

// An answer to a request that was sent before a read began does not confirm
// leadership after that.
func TestAcks(t *testing.T) {
	var a acks
	begin := time.Now()
	a.add("x", 3, begin.Add(-time.Millisecond))
	if a.since("x", 3, begin) {
		t.Error("an answer to an earlier request counts")
	}
	a.add("x", 3, begin)
	if !a.since("x", 3, begin) || a.since("x", 4, begin) || a.since("y", 3, begin) {
		t.Error("an answer counts for its own term and peer, and for these only")
	}
	a.add("x", 3, begin.Add(-time.Second)) // two connections: answers may pass each other
	a.add("x", 2, begin.Add(time.Second))
	if !a.since("x", 3, begin) {
		t.Error("an older answer took a newer one's place")
	}
}

// A leader has led for as long as a majority answers it.
func TestLedSince(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster, _ *pipes) {
		begin := time.Now()
		time.Sleep(time.Minute)
		lead, follower := c.leader(), c.followers()[0]
		if !lead.ledSince(time.Now().Add(-time.Second)) {
			t.Error("the leader has not led in the last second")
		}
		if follower.ledSince(begin) {
			t.Error("a follower has led")
		}
		for _, s := range c.followers() {
			c.kill(s)
		}
		cut := time.Now()
		time.Sleep(time.Minute)
		if lead.ledSince(cut) || !lead.ledSince(cut.Add(-time.Second)) {
			t.Error("a leader whose followers were killed did not lead until then, or still does")
		}
	})
}

func TestReadSeesWhatWasAcknowledged(t *testing.T) {
	c := three(t)
	for i := range 20 {
		image := fmt.Sprint("x", i)
		c.must(put("a", image))
		if err := has(c.read(), "a", image); err != nil {
			t.Fatal(err)
		}
	}
}

// Of many callers at once, each sees its own write.
func TestConcurrentWrites(t *testing.T) {
	c, s := one(t)
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			name := fmt.Sprint("s", i)
			res, err := s.Propose(t.Context(), put(name, "x"))
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			st, err := s.Read(t.Context())
			if err != nil || st.Applied < res.Index || has(st, name, "x") != nil {
				t.Errorf("%s: written at %d, read at %d: %v", name, res.Index, st.Applied, err)
			}
		})
	}
	group.Wait()
	if got := len(c.read().Servers); got != 20 {
		t.Errorf("%d servers, want 20", got)
	}
}

func TestWriteErrors(t *testing.T) {
	for err, want := range map[error]error{
		raft.ErrNotLeader:                    fleet.ErrNotLeader,
		raft.ErrLeadershipTransferInProgress: fleet.ErrNotLeader,
		raft.ErrEnqueueTimeout:               fleet.ErrNotLeader,
		raft.ErrLeadershipLost:               fleet.ErrOutcomeUnknown,
		raft.ErrRaftShutdown:                 fleet.ErrOutcomeUnknown,
		errors.New("disk full"):              fleet.ErrOutcomeUnknown,
	} {
		got := writeError(err)
		if !errors.Is(got, want) || !errors.Is(got, err) {
			t.Errorf("%v became %v, want %v", err, got, want)
		}
	}
}

func TestProposeBounds(t *testing.T) {
	_, s := one(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Propose(ended, put("a", "x")); !errors.Is(err, fleet.ErrNotLeader) || s.State().Servers["a"] != nil {
		t.Errorf("with a context that has ended: %v, want ErrNotLeader and nothing written", err)
	}
	big := put("a", "x")
	big.Spec.Args = []string{strings.Repeat("x", maxEntry)}
	if _, err := s.Propose(t.Context(), big); !errors.Is(err, fleet.ErrInvalid) {
		t.Errorf("an entry too large: %v, want ErrInvalid", err)
	}
}

// A command that this version does not know stops the store. It must not continue as
// if it had applied the command.
func TestUnknownCommandStopsTheStore(t *testing.T) {
	for name, tt := range map[string]struct{ data, want string }{
		"of a later format": {`{"format":99,"time":"2026-01-01T00:00:00Z","shoe":{}}`, "at least as new"},
		"no command":        {`{"format":1,`, "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			c, s := one(t)
			c.must(put("a", "x"))
			s.raft.Apply([]byte(tt.data), 0)
			select {
			case <-s.broken:
				err := s.err
				if !contains(err, tt.want) || !contains(err, fmt.Sprintf("entry %d", s.raft.LastIndex())) {
					t.Errorf("failed with %v, want %q and the entry", err, tt.want)
				}
			case <-time.After(patience):
				t.Fatal("the store went on")
			}
			if _, err := s.Propose(t.Context(), put("b", "y")); !errors.Is(err, fleet.ErrNotLeader) {
				t.Errorf("Propose after that: %v, want ErrNotLeader", err)
			}
			if err := s.Lead(t.Context(), func(context.Context, fleet.Order) { t.Error("a tenure began") }); err == nil || !contains(err, tt.want) {
				t.Errorf("Lead after that: %v, want why it failed", err)
			}
			if err := s.raft.Snapshot().Error(); err == nil {
				t.Error("a snapshot was taken that lacks the entry")
			}
			c.close(s)
			if _, err := Prepare(c.dirs[s.ID()]); err == nil || !contains(err, tt.want) || !contains(err, logFile) {
				t.Errorf("start after that: %v, want %q", err, tt.want)
			}
		})
	}
}

// Raft state of another cluster is refused.
func TestForeignStateIsRefused(t *testing.T) {
	var failed error
	f := newFSM(func() fleet.ClusterID { return "ours" }, func(err error) { failed = err }, func() {})
	if err := f.put(&desired.State{Cluster: "theirs"}); err == nil || failed == nil || f.State().Cluster != "" {
		t.Errorf("put: %v, failed %v, state of %q", err, failed, f.State().Cluster)
	}
}
