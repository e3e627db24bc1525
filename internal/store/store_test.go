package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func spec(image string, replicas int) fleet.Spec {
	return fleet.Spec{
		Template: fleet.Template{Image: image, Env: map[string]string{"KEY": "secret"}, StartTimeout: time.Minute},
		Replicas: replicas, CallTimeout: 5 * time.Second,
	}
}

type servers = map[fleet.ServerName]fleet.Spec

func apply(t *testing.T, s *Store, want servers) []Change {
	t.Helper()
	changes, err := s.Apply(want, "")
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

func TestApplyNumbersRevisions(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	steps := []struct {
		name string
		want servers
		diff []Change
	}{
		{"first", servers{"a": spec("x", 1), "b": spec("y", 1)}, []Change{{"a", Added, 1}, {"b", Added, 1}}},
		{"same again", servers{"a": spec("x", 1), "b": spec("y", 1)}, nil},
		{"count only", servers{"a": spec("x", 3), "b": spec("y", 1)}, []Change{{"a", Tuned, 1}}},
		{"template", servers{"a": spec("x2", 3), "b": spec("y", 1)}, []Change{{"a", Revised, 2}}},
		{"back to the old template is a new number", servers{"a": spec("x", 3), "b": spec("y", 1)}, []Change{{"a", Revised, 3}}},
		{"removed", servers{"b": spec("y", 1)}, []Change{{"a", Removed, 3}}},
		{"added again: no number is used twice", servers{"a": spec("x", 3), "b": spec("y", 1)}, []Change{{"a", Added, 4}}},
	}
	for _, tt := range steps {
		if got := apply(t, s, tt.want); !slices.Equal(got, tt.diff) {
			t.Errorf("%s: changes = %v, want %v", tt.name, got, tt.diff)
		}
		// Every state reads back as it was written.
		s.Close()
		s = open(t, dir)
		for _, srv := range s.Servers() {
			want := tt.want[srv.Name]
			if srv.Spec.Hash() != want.Hash() || counts(srv.Spec) != counts(want) {
				t.Errorf("%s: after reopening %s = %+v, want %+v", tt.name, srv.Name, srv.Spec, want)
			}
		}
		if got := len(s.Servers()); got != len(tt.want) {
			t.Errorf("%s: after reopening %d servers, want %d", tt.name, got, len(tt.want))
		}
	}
}

func TestEpochGrowsAndClusterStays(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	cluster := s.Cluster()
	for want := fleet.Epoch(1); want < 4; want++ {
		if s.Epoch() != want || s.Cluster() != cluster || cluster == "" {
			t.Errorf("epoch, cluster = %d, %q; want %d, %q", s.Epoch(), s.Cluster(), want, cluster)
		}
		s.Close()
		s = open(t, dir)
	}
}

func TestDefaultServer(t *testing.T) {
	s := open(t, t.TempDir())
	if _, err := s.Apply(servers{"a": spec("x", 1)}, "b"); !errors.Is(err, fleet.ErrUnknownServer) {
		t.Errorf("Apply with an unknown default: %v, want ErrUnknownServer", err)
	}
	if len(s.Servers()) != 0 {
		t.Error("a refused Apply changed something")
	}
	apply(t, s, servers{"a": spec("x", 1)})
	if got := s.DefaultServer(); got != "a" {
		t.Errorf("default = %q, want the lone server", got)
	}
	apply(t, s, servers{"a": spec("x", 1), "b": spec("y", 1)})
	if got := s.DefaultServer(); got != "" {
		t.Errorf("default = %q, want none", got)
	}
	look, cancel := s.Subscribe()
	defer cancel()
	if _, err := s.Apply(servers{"a": spec("x", 1), "b": spec("y", 1)}, "b"); err != nil || s.DefaultServer() != "b" {
		t.Errorf("default = %q, %v; want b", s.DefaultServer(), err)
	}
	select {
	case <-look:
	default:
		t.Error("a changed default server told nobody")
	}
}

func TestKnownNodes(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.SetKnownNodes([]fleet.NodeID{"n2", "n1"}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = open(t, dir)
	if got := s.KnownNodes(); !slices.Equal(got, []fleet.NodeID{"n1", "n2"}) {
		t.Errorf("known nodes = %v, want n1 n2", got)
	}
}

func TestDirectoryIsTakenOnce(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	_, err := Open(dir)
	if want := fmt.Sprintf("in use by pid %d", os.Getpid()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("second Open: %v, want %q", err, want)
	}
	epoch := s.Epoch()
	s.Close()
	if got := open(t, dir).Epoch(); got != epoch+1 {
		t.Errorf("epoch = %d, want %d: the refused Open must not count", got, epoch+1)
	}
}

func TestDamagedFile(t *testing.T) {
	for name, content := range map[string]string{
		"empty":         "",
		"cut":           `{"format":1,"cluster":"ab"`,
		"not ours":      `{}`,
		"unknown field": `{"format":1,"cluster":"ab","epoch":1,"shoe":2}`,
		"no revision":   `{"format":1,"cluster":"ab","epoch":1,"servers":{"a":{"spec":{}}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, stateFile)
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(dir)
			if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "restore it from a backup, or move it away") {
				t.Fatalf("Open = %v, want an error with the file and the way out", err)
			}
			if left, _ := os.ReadFile(path); string(left) != content {
				t.Errorf("the damaged file was changed to %q", left)
			}
			// The lock is free again once the operator has moved it away.
			os.Remove(path)
			open(t, dir)
		})
	}
	t.Run("newer", func(t *testing.T) {
		dir := t.TempDir()
		os.WriteFile(filepath.Join(dir, stateFile), []byte(`{"format":2,"later":true}`), 0o600)
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "format 2") {
			t.Errorf("Open = %v, want a word on format 2", err)
		}
	})
}

// A failed write changes neither memory nor disk.
func TestFailedWriteChangesNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	apply(t, s, servers{"a": spec("x", 1)})
	// A directory in the temporary file's place makes the write fail, as root too.
	if err := os.MkdirAll(filepath.Join(dir, stateFile+".tmp", "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply(servers{"a": spec("x2", 1)}, ""); err == nil {
		t.Fatal("Apply succeeded without a write")
	}
	if got := s.Servers(); len(got) != 1 || got[0].Revision != 1 || got[0].Spec.Image != "x" {
		t.Errorf("after a failed Apply servers = %+v, want a at revision 1", got)
	}
	os.RemoveAll(filepath.Join(dir, stateFile+".tmp"))
	if got := apply(t, s, servers{"a": spec("x2", 1)}); len(got) != 1 || got[0].Revision != 2 {
		t.Errorf("changes = %v, want a revised to 2: a failed Apply uses no number", got)
	}
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	apply(t, s, servers{"a": spec("x", 1)})
	for path, want := range map[string]os.FileMode{dir: 0o700, s.path(): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v; want %v", path, info.Mode().Perm(), err, want)
		}
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.Name() != stateFile && e.Name() != lockFile {
			t.Errorf("left behind: %s", e.Name())
		}
	}
}
