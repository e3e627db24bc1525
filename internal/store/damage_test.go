package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// written makes a directory with some entries and, if asked, a snapshot between them.
// The directory is not locked.
func written(t *testing.T, snapshot bool) string {
	t.Helper()
	c, s := one(t)
	for i := range 40 {
		c.must(put(fmt.Sprint("s", i), "x"))
		if snapshot && i == 20 {
			rc := s.raft.ReloadableConfig()
			rc.TrailingLogs = 5
			if err := s.raft.ReloadConfig(rc); err != nil {
				t.Fatal(err)
			}
			if err := s.raft.Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.close(s)
	return c.dirs[s.ID()]
}

// copyOf copies a directory for one test case.
func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

func edit(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, change(data), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func snapshotOf(t *testing.T, dir, file string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(snapshotPath(dir), "*", file))
	if err != nil || len(found) != 1 {
		t.Fatalf("snapshots: %v, %v", found, err)
	}
	return found[0]
}

// metas returns the offsets of the newer and the older meta page, the size of a page,
// and how many pages are in use according to the newer one.
func metas(data []byte) (newer, older, size, used int) {
	size = int(binary.NativeEndian.Uint32(data[pageHeader+8:]))
	newer, older = 0, size
	if binary.NativeEndian.Uint64(data[size+pageHeader+48:]) > binary.NativeEndian.Uint64(data[pageHeader+48:]) {
		newer, older = older, newer
	}
	return newer, older, size, int(binary.NativeEndian.Uint64(data[newer+pageHeader+40:]))
}

func wayOut(t *testing.T, dir, file string, err error) {
	t.Helper()
	for _, want := range []string{file, "is damaged", "move " + dir + " away", "restore a backup", "docs/OPERATIONS.md"} {
		if !contains(err, want) {
			t.Errorf("error %v lacks %q", err, want)
		}
	}
	// The lock is released, and no file was changed.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	d, err := Prepare(dir)
	if err != nil {
		t.Fatalf("after the directory was moved away: %v", err)
	}
	d.Close()
}

func TestDamage(t *testing.T) {
	plain, snap := written(t, false), written(t, true)
	half := func(b []byte) []byte { return b[:len(b)/2] }
	flip := func(b []byte) []byte { b[len(b)/2] ^= 1; return b }
	none := func([]byte) []byte { return nil }
	log := func(t *testing.T, dir string) string { return logPath(dir) }
	tests := map[string]struct {
		from string
		file func(t *testing.T, dir string) string
		do   func([]byte) []byte
	}{
		"log cut to its half": {plain, log, half},
		"log cut by a page": {plain, log, func(b []byte) []byte {
			_, _, size, used := metas(b)
			return b[:(used-1)*size]
		}},
		"log cut to nearly nothing": {plain, log, func(b []byte) []byte { return b[:100] }},
		"log empty":                 {snap, log, none},
		"log empty, no snapshot":    {plain, log, none},
		"both meta pages gone": {plain, log, func(b []byte) []byte {
			_, _, size, _ := metas(b)
			clear(b[:2*size])
			return b
		}},
		"another kind of file": {plain, log, func(b []byte) []byte { return []byte(strings.Repeat("not a log\n", 1000)) }},
		"all pages zero": {plain, log, func(b []byte) []byte {
			_, _, size, _ := metas(b)
			clear(b[2*size:])
			return b
		}},
		"bit in an entry": {plain, log, func(b []byte) []byte {
			for i := 0; ; i++ { // the name is in free pages too: flip all
				at := bytes.Index(b[i:], []byte(`"name":"s7"`))
				if at < 0 {
					return b
				}
				i += at
				b[i+9] ^= 1
			}
		}},
		"entries missing": {plain, func(t *testing.T, dir string) string {
			bolt, err := openBolt(logPath(dir))
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(bolt.DeleteRange(1, 10), bolt.Close()); err != nil {
				t.Fatal(err)
			}
			return logPath(dir)
		}, bytes.Clone},
		"a gap in the log": {plain, func(t *testing.T, dir string) string {
			bolt, err := openBolt(logPath(dir))
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(bolt.DeleteRange(10, 12), bolt.Close()); err != nil {
				t.Fatal(err)
			}
			return logPath(dir)
		}, bytes.Clone},
		"bit in the snapshot": {snap, func(t *testing.T, dir string) string { return snapshotOf(t, dir, "state.bin") }, flip},
		"snapshot cut":        {snap, func(t *testing.T, dir string) string { return snapshotOf(t, dir, "state.bin") }, half},
		"snapshot empty":      {snap, func(t *testing.T, dir string) string { return snapshotOf(t, dir, "state.bin") }, none},
		"snapshot's meta cut": {snap, func(t *testing.T, dir string) string { return snapshotOf(t, dir, "meta.json") }, half},
		"identity cut":        {plain, func(t *testing.T, dir string) string { return filepath.Join(dir, identityFile) }, half},
		"identity empty":      {plain, func(t *testing.T, dir string) string { return filepath.Join(dir, identityFile) }, none},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := copyOf(t, tt.from)
			path := tt.file(t, dir)
			edit(t, path, tt.do)
			d, err := Prepare(dir)
			if err == nil {
				d.Close()
				t.Fatal("nothing was noticed")
			}
			wayOut(t, dir, path, err)
		})
	}
	t.Run("snapshot removed", func(t *testing.T) {
		dir := copyOf(t, snap)
		if err := os.RemoveAll(filepath.Dir(snapshotOf(t, dir, "state.bin"))); err != nil {
			t.Fatal(err)
		}
		_, err := Prepare(dir)
		wayOut(t, dir, logPath(dir), err)
	})
	t.Run("identity removed", func(t *testing.T) {
		dir := copyOf(t, plain)
		path := filepath.Join(dir, identityFile)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		_, err := Prepare(dir)
		wayOut(t, dir, path, err)
	})
	for name, from := range map[string]string{"log removed": snap, "log removed, no snapshot": plain} {
		t.Run(name, func(t *testing.T) {
			dir := copyOf(t, from)
			if err := os.Remove(logPath(dir)); err != nil {
				t.Fatal(err)
			}
			_, err := Prepare(dir)
			wayOut(t, dir, logPath(dir), err)
		})
	}
}

// An unfinished write was never acknowledged and is not damage.
func TestTornWrites(t *testing.T) {
	from := written(t, true)
	all, last := 40, func(n int) int { return n - 1 }
	tests := map[string]struct {
		tear func([]byte) []byte
		lost bool // the last transaction
	}{
		"nothing": {bytes.Clone, false},
		"meta page not written": {func(b []byte) []byte {
			newer, _, size, _ := metas(b)
			clear(b[newer:][:size])
			return b
		}, true},
		"meta page half written": {func(b []byte) []byte {
			newer, older, _, _ := metas(b)
			copy(b[newer+pageHeader+32:][:32], b[older+pageHeader+32:])
			return b
		}, true},
		"pages after the last transaction zero": {func(b []byte) []byte {
			_, _, size, used := metas(b)
			clear(b[used*size:])
			return b
		}, false},
		"pages after the last transaction garbage": {func(b []byte) []byte {
			_, _, size, used := metas(b)
			rest := b[used*size:]
			for i := range rest {
				rest[i] = 0xA5
			}
			return b
		}, false},
		"file ends with the last transaction": {func(b []byte) []byte {
			_, _, size, used := metas(b)
			return b[:used*size]
		}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := copyOf(t, from)
			// An unfinished snapshot is not damage either.
			if err := os.MkdirAll(filepath.Join(snapshotPath(dir), "9-99-999.tmp"), 0o700); err != nil {
				t.Fatal(err)
			}
			edit(t, logPath(dir), tt.tear)
			c := newCluster(t)
			c.startIn(dir)
			want := all
			if tt.lost {
				want = last(want)
			}
			st := c.read()
			if len(st.Servers) != want {
				t.Errorf("%d servers, want %d", len(st.Servers), want)
			}
			c.must(put("more", "x"))
			if left, _ := filepath.Glob(filepath.Join(snapshotPath(dir), "*.tmp")); len(left) > 0 {
				t.Errorf("unfinished snapshots were left: %v", left)
			}
		})
	}
}

// If any bits flip, the check returns an error, or the log reads as it was written.
// The process never dies.
func TestFlippedBitsAreFoundOrHarmless(t *testing.T) {
	from := written(t, false)
	want := entriesOf(t, from)
	original, err := os.ReadFile(logPath(from))
	if err != nil {
		t.Fatal(err)
	}
	_, _, size, used := metas(original)
	random := rand.New(rand.NewPCG(1, 2))
	dir := copyOf(t, from)
	found := 0
	for range 150 {
		data := bytes.Clone(original)
		// Change whole bytes near the headers of pages too, where the structure is.
		at := random.IntN(used * size)
		if random.IntN(2) == 0 {
			at = random.IntN(used)*size + random.IntN(pageHeader+4*elementSize)
		}
		data[at] ^= byte(1 + random.IntN(255))
		if err := os.WriteFile(logPath(dir), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := inspect(dir); err != nil {
			found++
			continue
		}
		if got := entriesOf(t, dir); !slices.Equal(got, want) {
			t.Errorf("byte %d of page %d: nothing was noticed, and the log reads otherwise", at%size, at/size)
		}
	}
	if found < 10 {
		t.Errorf("only %d of 150 were found", found)
	}
}

// The check accepts files that bbolt's own check accepts.
func TestPagesOfGoodFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	for round := range 30 {
		err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte(fmt.Sprint("bucket", round%3)))
			if err != nil {
				return err
			}
			for range 200 {
				key := []byte(fmt.Sprint(random.IntN(2000)))
				if random.IntN(3) == 0 {
					err = b.Delete(key)
				} else {
					err = b.Put(key, make([]byte, random.IntN(9000)))
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := checkPages(path); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func entriesOf(t *testing.T, dir string) (out []string) {
	t.Helper()
	bolt, err := openBolt(logPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer bolt.Close()
	log := sealed{bolt}
	last, err := log.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	for i := uint64(1); i <= last; i++ {
		var l raft.Log
		if err := log.GetLog(i, &l); err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprint(l.Index, l.Term, l.Type, string(l.Data)))
	}
	for _, key := range []string{"CurrentTerm", "LastVoteTerm", "LastVoteCand"} {
		v, err := log.Get([]byte(key))
		out = append(out, fmt.Sprint(key, string(v), err))
	}
	return out
}

// State of the version before raft is imported.
func TestOldState(t *testing.T) {
	const old = `{"format":1,"cluster":"c0ffee","epoch":7,"default_server":"a",
		"servers":{"a":{"revision":3,"spec":{"Image":"x","Replicas":2}}},"last_revision":{"a":3,"b":9},"nodes":["n2","n1"]}`
	c := newCluster(t)
	dir := filepath.Join(c.base, "old")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, oldStateFile)
	if err := os.WriteFile(path, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	s := c.startIn(dir)
	if s.Stateless() || s.Cluster() != "c0ffee" {
		t.Errorf("stateless %v, cluster %q", s.Stateless(), s.Cluster())
	}
	st := c.read()
	sv := st.Servers["a"]
	if sv == nil || sv.Revision != 3 || sv.Replicas != 2 || sv.Spec.Image != "x" || st.LastRevision["b"] != 9 || st.DefaultServer != "a" {
		t.Errorf("state = %+v, a = %+v", st, sv)
	}
	if o := st.Order(); o.Compare(fleet.Order{Epoch: 7}) <= 0 {
		t.Errorf("order %+v does not top epoch 7 of the old version", o)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", path, err)
	}
	c.must(put("b", "y"))
	if got := c.read().Servers["b"].Revision; got != 10 {
		t.Errorf("b has revision %d, want 10: no number is used twice", got)
	}

	damagedDir := t.TempDir()
	if err := os.WriteFile(filepath.Join(damagedDir, oldStateFile), []byte(old[:100]), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Prepare(damagedDir)
	wayOut(t, damagedDir, oldStateFile, err)
}
