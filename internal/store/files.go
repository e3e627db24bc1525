package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	lockFile     = "lock"
	identityFile = "identity.json"
	oldStateFile = "state.json"
	raftDir      = "raft"
	logFile      = "log.db"
	snapshotsDir = "snapshots" // the name that raft's snapshot store gives it
)

// replaceFile puts a complete new file in the old one's place: after a crash at
// any point there is the old or the new content, never a mixture.
func replaceFile(path string, data []byte) error {
	tmp := path + ".tmp" // one writer: the directory is locked
	err := writeFile(tmp, data)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("sync %s: %w", filepath.Dir(path), err)
	}
	return nil
}

func writeFile(path string, data []byte) error {
	os.Remove(path) // a leftover might have a wider mode
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// makeDir makes a directory that only its owner reads: it holds secrets, and
// may have existed before with a wider mode.
func makeDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		return fmt.Errorf("protect directory: %w", err)
	}
	return nil
}

// lockDir takes the directory for this process. The kernel drops the lock with
// the process, however it ends; the pid in the file is only for the message.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		defer f.Close()
		pid, _ := io.ReadAll(io.LimitReader(f, 32))
		return nil, fmt.Errorf("data directory %s is in use by pid %s: stop that controller or use another --data-dir",
			dir, strings.TrimSpace(string(pid)))
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock data directory %s: %w", dir, err)
	}
	return f, nil
}
