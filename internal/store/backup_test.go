package store

import (
	"bytes"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func backupOf(t *testing.T, st *desired.State) []byte {
	t.Helper()
	var file bytes.Buffer
	if err := WriteBackup(&file, st, BackupMeta{TakenAt: time.Now(), Version: "v1"}); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func encoded(t *testing.T, st *desired.State) string {
	t.Helper()
	data, err := st.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestBackupAndRestore(t *testing.T) {
	c := three(t)
	c.must(put("a", "x"))
	c.must(put("a", "y"))
	st := c.read()
	b, err := ReadBackup(bytes.NewReader(backupOf(t, st)))
	if err != nil {
		t.Fatal(err)
	}
	if encoded(t, b.State) != encoded(t, st) || b.Version != "v1" || b.Cluster != st.Cluster || b.Index != st.Applied || b.Term != uint64(st.Lead.Term) {
		t.Errorf("backup = %+v, want what was written", b)
	}
	for _, s := range c.stores() { // the cluster is lost
		c.close(s)
	}

	after := newCluster(t)
	dir := filepath.Join(after.base, "restored")
	if err := Restore(dir, b); err != nil {
		t.Fatal(err)
	}
	checkModes(t, dir)
	if err := Restore(dir, b); !errors.Is(err, fleet.ErrConflict) {
		t.Errorf("second Restore: %v, want ErrConflict", err)
	}
	s := after.startIn(dir)
	got := after.read()
	if err := has(got, "a", "y"); err != nil || got.Servers["a"].Revision != 2 || got.Cluster != st.Cluster {
		t.Errorf("%v; state = %+v", err, got)
	}
	if o := got.Order(); o.Compare(st.Order()) <= 0 || o.Incarnation <= st.Incarnation || o.Incarnation < fleet.Incarnation(b.TakenAt.Unix()) {
		t.Errorf("order %+v does not top %+v", o, st.Order())
	}
	if got.Lead.Term <= st.Lead.Term {
		t.Errorf("term %d after %d: terms must grow", got.Lead.Term, st.Lead.Term)
	}
	// Others may join, and everything survives a restart.
	other := after.add()
	eventually(t, "join", func() error { return after.leader().AddVoter(other.ID()) })
	after.must(put("b", "z"))
	after.agree()
	if other.Cluster() != st.Cluster {
		t.Errorf("the one who joined belongs to %q, want %q", other.Cluster(), st.Cluster)
	}
	after.close(s)
	after.close(other)
	after.restart(s)
	after.restart(other)
	if err := errors.Join(has(after.read(), "a", "y"), has(after.read(), "b", "z")); err != nil {
		t.Error(err)
	}
}

func TestDamagedBackup(t *testing.T) {
	st := (*desired.State)(nil).Apply(1, 1, desired.Entry{Time: time.Now(), Command: desired.BeginTenure{Controller: "c", Cluster: "k", Expect: 1}}).State
	good := backupOf(t, st)
	if _, err := ReadBackup(bytes.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	for n := range len(good) {
		if _, err := ReadBackup(bytes.NewReader(good[:n])); err == nil {
			t.Fatalf("the first %d of %d bytes were taken for a backup", n, len(good))
		}
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		b, err := ReadBackup(bytes.NewReader(bad))
		if err == nil && encoded(t, b.State) != encoded(t, st) { // gzip's header has unused bytes
			t.Fatalf("byte %d was flipped and nothing noticed", i)
		}
	}
	if _, err := ReadBackup(strings.NewReader("no backup at all")); !contains(err, "not a backup of mcpfleet") {
		t.Errorf("another file: %v", err)
	}
	if _, err := ReadBackup(bytes.NewReader(good[:len(good)/2])); !contains(err, "cut off") {
		t.Errorf("half a backup: %v", err)
	}
}

// After the majority is lost for good, one controller continues with what it has.
func TestRecover(t *testing.T) {
	c := three(t)
	c.must(put("a", "x"))
	c.agree()
	stores := c.stores()
	before := c.leader().State()
	for _, s := range stores {
		c.close(s)
	}
	survivor := stores[0]
	r, err := Recover(c.dirs[survivor.ID()])
	if err != nil {
		t.Fatal(err)
	}
	lost := ids(stores[1:]...)
	slices.Sort(lost)
	slices.Sort(r.Dropped)
	if r.Controller != survivor.ID() || r.Cluster != before.Cluster || r.Incarnation <= before.Incarnation || r.Servers != 1 || !slices.Equal(r.Dropped, lost) {
		t.Errorf("recovery = %+v, want %s alone without %v", r, survivor.ID(), lost)
	}
	checkModes(t, c.dirs[survivor.ID()])
	s := c.restart(survivor)
	st := c.read()
	if err := has(st, "a", "x"); err != nil || st.Incarnation != r.Incarnation || st.Order().Compare(before.Order()) <= 0 {
		t.Errorf("%v; incarnation %d, want %d; order %+v after %+v", err, st.Incarnation, r.Incarnation, st.Order(), before.Order())
	}
	members, err := s.Members()
	if err != nil || !slices.Equal(members, []Voter{{ID: survivor.ID(), Voting: true}}) {
		t.Errorf("members = %v, %v; want %s alone", members, err, survivor.ID())
	}
	c.must(put("b", "y"))

	// A lost controller returns with its old directory. Its entries may never have
	// been accepted, and the log alone does not show that.
	// A majority of them that returns deposes nobody.
	old, other := c.restart(stores[1]), c.restart(stores[2])
	eventually(t, "one of the lost leads", func() error {
		for _, s := range []*Store{old, other} {
			if s.raft.VerifyLeader().Error() == nil {
				return nil
			}
		}
		return errors.New("none does")
	})
	if err := s.raft.VerifyLeader().Error(); err != nil || s.State().Order() != st.Order() {
		t.Errorf("after a majority of the lost came back: %v, order %+v, was %+v", err, s.State().Order(), st.Order())
	}
	if err := s.AddNonvoter(old.ID()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-old.broken:
		if !contains(old.err, "recovered without this controller") {
			t.Errorf("it stopped: %v", old.err)
		}
	case <-time.After(patience):
		t.Errorf("it goes on with %+v of incarnation %d", old.State().Lead, old.State().Incarnation)
	}
	if _, err := s.Propose(t.Context(), put("c", "z")); err != nil {
		t.Error(err)
	}

	if _, err := Recover(t.TempDir()); !contains(err, "no state") {
		t.Errorf("Recover of nothing: %v", err)
	}
}
