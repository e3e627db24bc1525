package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func TestThreeControllersAgree(t *testing.T) {
	c := three(t)
	res := c.must(put("a", "x"))
	if len(res.Changes) != 1 || res.Changes[0].Kind != desired.Created || res.Index == 0 {
		t.Errorf("result = %+v, want a created at an index", res)
	}
	c.agree()
	lead := c.leader()
	for _, s := range c.stores() {
		if err := has(s.State(), "a", "x"); err != nil {
			t.Error(err)
		}
		if s.Cluster() != lead.Cluster() || s.Cluster() == "" || s.Stateless() {
			t.Errorf("%s: cluster %q, stateless %v; want %q, false", s.ID(), s.Cluster(), s.Stateless(), lead.Cluster())
		}
		members, err := s.Members()
		if err != nil || len(members) != 3 || !members[0].Voting {
			t.Errorf("members = %v, %v; want three voters", members, err)
		}
		eventually(t, "everyone knows the leader", func() error {
			id, term, ok := s.Leader()
			if now := c.leader(); !ok || id != now.ID() || uint64(term) != now.raft.CurrentTerm() {
				return fmt.Errorf("leader = %s in term %d, %v; want %s", id, term, ok, now.ID())
			}
			return nil
		})
		// The identity is in the directory, for gossip at the next start.
		eventually(t, "identity on disk", func() error {
			data, err := os.ReadFile(filepath.Join(c.dirs[s.ID()], identityFile))
			if !strings.Contains(string(data), string(s.Cluster())) {
				return fmt.Errorf("identity = %s, %w", data, err)
			}
			return nil
		})
	}
	if st := c.read(); st.Expect != 3 || st.Incarnation != 1 {
		t.Errorf("expect, incarnation = %d, %d; want 3, 1", st.Expect, st.Incarnation)
	}
}

func TestFollowersRefuse(t *testing.T) {
	c := three(t)
	c.must(put("a", "x"))
	for _, s := range c.followers() {
		if _, err := s.Propose(t.Context(), put("b", "y")); !errors.Is(err, fleet.ErrNotLeader) {
			t.Errorf("Propose on a follower: %v, want ErrNotLeader", err)
		}
		if _, err := s.Read(t.Context()); !errors.Is(err, fleet.ErrNotLeader) {
			t.Errorf("Read on a follower: %v, want ErrNotLeader", err)
		}
		if err := s.AddVoter("x"); !errors.Is(err, fleet.ErrNotLeader) {
			t.Errorf("AddVoter on a follower: %v, want ErrNotLeader", err)
		}
		if err := s.Transfer(t.Context(), ""); !errors.Is(err, fleet.ErrNotLeader) {
			t.Errorf("Transfer on a follower: %v, want ErrNotLeader", err)
		}
	}
	if st := c.read(); st.Servers["b"] != nil {
		t.Error("a refused write happened")
	}
}

// A write that needs no entry is still answered with what its author should know.
func TestWarnsWithoutAnEntry(t *testing.T) {
	c, s := one(t)
	c.must(put("a", "x"))
	c.must(desired.EndRollout{Name: "a", Revision: 1})
	c.must(put("a", "y"))
	c.must(desired.FailRollout{Name: "a", Revision: 2, Reason: "exit code 1"})
	before := s.raft.LastIndex()
	res, err := s.Propose(t.Context(), put("a", "y"))
	if err != nil || s.raft.LastIndex() != before || len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0].Text, "exit code 1") {
		t.Errorf("got %+v, %v, log %d -> %d; want a warning, and nothing written", res.Warnings, err, before, s.raft.LastIndex())
	}
}

// A PUT of the stored spec needs no entry, but its condition is checked.
func TestUnchangedWritesNothing(t *testing.T) {
	c, s := one(t)
	c.must(put("a", "x"))
	before := s.raft.LastIndex()
	res, err := s.Propose(t.Context(), put("a", "x"))
	if err != nil || len(res.Changes) != 0 || res.State == nil || s.raft.LastIndex() != before {
		t.Errorf("equal PUT: %+v, %v, log %d -> %d; want nothing written", res, err, before, s.raft.LastIndex())
	}
	cmd := put("a", "x")
	cmd.Match.ETags = []string{res.State.Servers["a"].ETag(res.State.Incarnation)}
	if _, err := s.Propose(t.Context(), cmd); err != nil || s.raft.LastIndex() != before {
		t.Errorf("equal PUT with its ETag: %v", err)
	}
	cmd.Match.ETags = []string{"1.999"}
	if _, err := s.Propose(t.Context(), cmd); !errors.Is(err, fleet.ErrPrecondition) {
		t.Errorf("equal PUT with another ETag: %v, want ErrPrecondition", err)
	}
	if err := s.SetKnownNodes(t.Context(), []fleet.NodeID{"n2", "n1"}); err != nil {
		t.Fatal(err)
	}
	if got := s.KnownNodes(); !slices.Equal(got, []fleet.NodeID{"n1", "n2"}) {
		t.Errorf("known nodes = %v, want n1 n2", got)
	}
}

func TestUnsupported(t *testing.T) {
	_, s := one(t)
	s.cfg.Formats = func() int { return 0 }
	before := s.raft.LastIndex()
	_, err := s.Propose(t.Context(), put("a", "x"))
	if !errors.Is(err, fleet.ErrUnsupported) || !strings.Contains(err.Error(), "server a") || s.raft.LastIndex() != before {
		t.Errorf("Propose: %v, want ErrUnsupported that names server a, and no entry", err)
	}
}

func TestRestartOfAll(t *testing.T) {
	c := three(t)
	c.must(put("a", "x"))
	c.must(put("a", "y"))
	c.agree()
	before := c.leader().State()
	stores := c.stores()
	for _, s := range stores {
		c.close(s)
	}
	for _, s := range stores {
		c.restart(s)
	}
	st := c.read()
	if err := has(st, "a", "y"); err != nil {
		t.Error(err)
	}
	if st.Cluster != before.Cluster || st.Lead.Term <= before.Lead.Term || st.Servers["a"].Revision != 2 {
		t.Errorf("after the restart: cluster %s, term %d, revision %d; before: %s, %d, 2",
			st.Cluster, st.Lead.Term, st.Servers["a"].Revision, before.Cluster, before.Lead.Term)
	}
	c.agree()
}

func TestRemovedControllersVoteNoMore(t *testing.T) {
	c := three(t)
	gone := c.followers()[0]
	eventually(t, "removal", func() error { return c.leader().Remove(gone.ID()) })
	c.close(gone)
	c.must(put("a", "x"))
	members, err := c.leader().Members()
	if err != nil || len(members) != 2 {
		t.Errorf("members = %v, %v; want two", members, err)
	}
}

// A new controller gets a snapshot when the log no longer has all entries.
func TestNonvoterCatchesUpBySnapshot(t *testing.T) {
	c := three(t)
	for i := range 5 {
		c.must(put("a", fmt.Sprint("x", i)))
	}
	for _, s := range c.stores() {
		rc := s.raft.ReloadableConfig()
		rc.TrailingLogs = 1
		if err := s.raft.ReloadConfig(rc); err != nil {
			t.Fatal(err)
		}
		eventually(t, "snapshot", func() error { return s.raft.Snapshot().Error() })
	}
	late := c.add()
	if !late.Stateless() || late.Cluster() != "" {
		t.Error("a new controller has state")
	}
	eventually(t, "non-voter", func() error { return c.leader().AddNonvoter(late.ID()) })
	eventually(t, "state", func() error { return has(late.State(), "a", "x4") })
	first, err := late.disk.FirstIndex()
	if err != nil || first == 1 {
		t.Errorf("its log begins at %d, %v: it got no snapshot", first, err)
	}
	members, err := c.leader().Members()
	if err != nil || !slices.Contains(members, Voter{ID: late.ID()}) {
		t.Errorf("members = %v, %v; want %s without a vote", members, err, late.ID())
	}
	eventually(t, "vote", func() error { return c.leader().AddVoter(late.ID()) })
	c.agree()
	// It restarts with the state that it received.
	c.close(late)
	late = c.restart(late)
	if err := has(late.State(), "a", "x4"); err != nil {
		t.Error(err)
	}
	for _, s := range c.stores() {
		checkModes(t, c.dirs[s.ID()])
	}
}

func checkModes(t *testing.T, dir string) {
	t.Helper()
	filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // raft replaces snapshots meanwhile
		}
		info, err := e.Info()
		if err != nil {
			return nil
		}
		want := fs.FileMode(0o600)
		if e.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), want)
		}
		return nil
	})
}

func TestDirectoryIsTakenOnce(t *testing.T) {
	dir := t.TempDir()
	d, err := Prepare(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Prepare(dir)
	if want := fmt.Sprintf("in use by pid %d", os.Getpid()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("second Prepare: %v, want %q", err, want)
	}
	id := d.ID()
	if id == "" || !d.Stateless() || d.Cluster() != "" {
		t.Errorf("fresh directory: id %q, stateless %v, cluster %q", id, d.Stateless(), d.Cluster())
	}
	if err := errors.Join(d.Close(), d.Close()); err != nil {
		t.Error(err)
	}
	if d, err = Prepare(dir); err != nil || d.ID() != id {
		t.Errorf("again: %v, %v; want id %s", d, err, id)
	}
	d.Close()
}

func TestSubscribe(t *testing.T) {
	c, s := one(t)
	look, cancel := s.Subscribe()
	defer cancel()
	c.must(put("a", "x"))
	select {
	case <-look:
	case <-time.After(patience):
		t.Error("a write notified no subscriber")
	}
	if got := s.Servers(); len(got) != 1 || got[0].Name != "a" || s.State().Default() != "a" {
		t.Errorf("servers = %+v, default %q; want a", got, s.State().Default())
	}
}

func TestMetrics(t *testing.T) {
	c, s := one(t)
	c.must(put("a", "x"))
	reg := prometheus.NewPedanticRegistry()
	for _, m := range s.Collectors() {
		if err := reg.Register(m); err != nil {
			t.Fatal(err)
		}
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		m := f.GetMetric()[0]
		got[f.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	want := map[string]float64{
		"mcpfleet_raft_leader": 1, "mcpfleet_raft_voters": 1, "mcpfleet_raft_last_contact_seconds": 0,
		"mcpfleet_raft_term": float64(s.raft.CurrentTerm()), "mcpfleet_raft_applied_index": float64(s.AppliedIndex()),
		"mcpfleet_raft_commit_index": float64(s.CommitIndex()), "mcpfleet_raft_snapshots_total": 0,
	}
	for name, v := range want {
		if v2, ok := got[name]; !ok || v2 > v+1 || v2 < v { // contact: a moment ago
			t.Errorf("%s = %v, %v; want %v", name, v2, ok, v)
		}
	}
	if got["mcpfleet_raft_apply_duration_seconds"] < 2 {
		t.Errorf("metrics = %v: applied entries are not counted", got)
	}
}

// Close leaves no goroutine, neither of this package nor of the libraries.
func TestCloseLeavesNothing(t *testing.T) {
	c := three(t)
	c.must(put("a", "x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c.leader().Propose(ctx, put("b", "y")) // an answer that nobody waits for
	for _, s := range c.stores() {
		c.close(s)
	}
	eventually(t, "end of all goroutines", func() error {
		buf := make([]byte, 1<<20)
		for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			mine := strings.Contains(g, "TestCloseLeavesNothing") || strings.Contains(g, "testing.tRunner")
			if !mine && (strings.Contains(g, "hashicorp/raft") || strings.Contains(g, "bbolt") || strings.Contains(g, "internal/store")) {
				return errors.New(g)
			}
		}
		return nil
	})
}

// Applied is called once for each write, in order. A refused write has no changes.
func TestApplied(t *testing.T) {
	c := newCluster(t)
	told := make(chan desired.Result, 100)
	c.applied = func(r desired.Result) { told <- r }
	s := c.add()
	if err := s.Bootstrap([]fleet.ControllerID{s.ID()}); err != nil {
		t.Fatal(err)
	}
	c.must(put("a", "x"))
	if _, err := c.leader().Propose(t.Context(), desired.DeleteServer{Name: "none"}); !errors.Is(err, fleet.ErrUnknownServer) {
		t.Fatal(err)
	}
	c.must(put("b", "y"))
	var changed []fleet.ServerName
	for !slices.Contains(changed, "b") {
		select {
		case r := <-told:
			for _, change := range r.Changes {
				changed = append(changed, change.Server)
			}
		case <-time.After(patience):
			t.Fatalf("got %v, want b", changed)
		}
	}
	if want := []fleet.ServerName{"a", "b"}; !slices.Equal(changed, want) {
		t.Errorf("got %v, want %v", changed, want)
	}
}

// Followers answer, with or without a vote. A controller that is away never does.
func TestAnswered(t *testing.T) {
	c := three(t)
	lead, guest := c.leader(), c.add()
	begun := time.Now()
	if err := lead.AddNonvoter(guest.ID()); err != nil {
		t.Fatal(err)
	}
	for _, s := range append(c.followers(), guest) {
		eventually(t, "an answer", func() error {
			if at := lead.Answered(s.ID()); !at.After(begun) {
				return fmt.Errorf("%s last answered at %v", s.ID(), at)
			}
			return nil
		})
	}
	if at := lead.Answered("nobody"); !at.IsZero() {
		t.Errorf("nobody answered at %v", at)
	}
}
