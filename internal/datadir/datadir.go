// Package datadir locks a program's data directory, and replaces files in it.
// A replaced file is on disk when the call returns. A crash at any point leaves
// its old or its new content. Each file has one writer: the lock keeps other
// processes out, and callers serialize their own writes.
package datadir

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"
)

// InUseError is returned by Lock when another process, or this one, holds the
// lock.
type InUseError struct {
	PID string // of the holder; "" if it is unknown
}

func (e *InUseError) Error() string {
	if e.PID == "" {
		return "in use by another process"
	}
	return "in use by pid " + e.PID
}

// Lock locks the file at path, which it creates if need be, until the returned
// Closer is closed or the process ends. It does not wait: it returns an
// *InUseError if the lock is held.
func Lock(path string) (io.Closer, error) {
	lock := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if !locked {
		return nil, &InUseError{PID: holder(path)}
	}
	// The pid is only for the message: on a full disk the lock counts without it.
	_ = os.WriteFile(path, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o600)
	return lock, nil
}

func holder(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, 20))
	return strings.TrimSpace(string(b))
}

// Replace writes data to a new file and moves it to path. Only its owner can read
// the file. Replace also removes the leftovers of earlier calls that were killed.
func Replace(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := errors.Join(removeUnfinished(dir, filepath.Base(path)), write(dir, path, data, 0o600)); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return Sync(dir)
}

func write(dir, path string, data []byte, mode os.FileMode) (err error) {
	f, err := renameio.TempFile(dir, path) // its WriteFile would keep a wide mode
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Cleanup()) }()
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

// Rewrite is Replace for a file of another program: its permissions stay. A new
// file is for its owner only.
func Rewrite(path string, data []byte) error {
	mode := os.FileMode(0o600)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	dir := filepath.Dir(path)
	if err := write(dir, path, data, mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return Sync(dir)
}

// Copy copies a file with its permissions. It does not replace another file.
func Copy(from, to string) (err error) {
	info, err := os.Stat(from)
	if err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm())
	if err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("copy %s to %s: %w", from, to, err)
	}
	return nil
}

// removeUnfinished removes the temporary files that renameio made for a file:
// its name with a dot before and digits after it.
func removeUnfinished(dir, name string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if digits, ok := strings.CutPrefix(e.Name(), "."+name); ok && digits != "" && strings.Trim(digits, "0123456789") == "" {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// Sync fsyncs a directory, so that new and renamed files survive a crash.
func Sync(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
