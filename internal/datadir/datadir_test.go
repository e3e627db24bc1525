package datadir

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	lock, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	var inUse *InUseError
	if _, err := Lock(path); !errors.As(err, &inUse) || inUse.PID != strconv.Itoa(os.Getpid()) {
		t.Errorf("a second lock: %v, want it in use by pid %d", err, os.Getpid())
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(path); err == nil || err.Error() != "in use by another process" {
		t.Errorf("with no pid in the file: %v", err)
	}
	if err := errors.Join(lock.Close(), lock.Close()); err != nil {
		t.Error(err)
	}
	if lock, err = Lock(path); err != nil {
		t.Fatalf("after Close: %v", err)
	}
	lock.Close()
	if _, err := Lock(filepath.Join(path, "none")); err == nil || errors.As(err, &inUse) {
		t.Errorf("in a directory that does not exist: %v", err)
	}
}

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	// A file with a wide mode, leftovers of writes that were killed, and files with
	// similar names.
	for _, name := range []string{"file", ".file123", ".file77", ".file", ".file1x", ".other1", "file.tmp"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("half"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"one", "two"} {
		if err := Replace(path, []byte(want)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if len(left) != 5 {
		t.Errorf("the directory has %q", left)
	}
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Replace(filepath.Join(dir, "taken"), []byte("x")); err == nil {
		t.Error("a directory was replaced")
	}
	if again, err := os.ReadDir(dir); err != nil || len(again) != len(left)+1 {
		t.Errorf("a failure left %v, %v", again, err)
	}
}

func TestRewriteAndCopy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "settings")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Copy(path, path+".bak"); err != nil {
		t.Fatal(err)
	}
	if err := Copy(path, path+".bak"); !errors.Is(err, os.ErrExist) {
		t.Errorf("a copy was replaced: %v", err)
	}
	if err := Rewrite(path, []byte("new")); err != nil {
		t.Fatal(err)
	}
	if err := Rewrite(path+".new", []byte("secret")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct {
		text string
		mode os.FileMode
	}{path: {"new", 0o644}, path + ".bak": {"old", 0o644}, path + ".new": {"secret", 0o600}} {
		b, err := os.ReadFile(name)
		info, serr := os.Stat(name)
		if err != nil || serr != nil || string(b) != want.text || info.Mode().Perm() != want.mode {
			t.Errorf("%s: %q, %v, %v, %v", name, b, info.Mode(), err, serr)
		}
	}
}
