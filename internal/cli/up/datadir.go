package up

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/datadir"
	"github.com/mcpfleet/mcpfleet/internal/proctab"
)

const (
	tempPrefix   = "mcpfleet-up-"
	lockName     = "up.lock"
	childrenName = "up-children.json"
	// minTempAge protects a directory that is just being created.
	minTempAge = time.Hour
)

// dataDir is the data directory of one cluster. It is locked while it is open.
type dataDir struct {
	path string
	temp bool
	lock io.Closer

	mu       sync.Mutex
	children map[string]proctab.ID
}

// openDataDir opens the directory at path, or a temporary one if path is "". If
// an earlier up was killed there, its children stop by themselves, and
// openDataDir waits for that.
func openDataDir(ctx context.Context, path string, say func(string)) (*dataDir, error) {
	if path == "" {
		sweepTemp(os.TempDir(), time.Now())
		temp, err := os.MkdirTemp("", tempPrefix+"*")
		if err != nil {
			return nil, fmt.Errorf("temporary data directory: %w", err)
		}
		d, err := lockDir(temp)
		if err != nil {
			os.RemoveAll(temp)
			return nil, fmt.Errorf("temporary data directory: %w", err)
		}
		d.temp = true
		return d, nil
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("--data-dir: %w", err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("--data-dir: %w", err)
	}
	d, err := lockDir(path)
	if err != nil {
		return nil, fmt.Errorf("--data-dir %s: %w", path, err)
	}
	if err := d.waitForLeftovers(ctx, say); err != nil {
		return nil, errors.Join(err, d.lock.Close())
	}
	return d, nil
}

// lockDir locks the directory.
func lockDir(path string) (*dataDir, error) {
	lock, err := datadir.Lock(filepath.Join(path, lockName))
	if err != nil {
		return nil, err
	}
	return &dataDir{path: path, lock: lock, children: map[string]proctab.ID{}}, nil
}

// close unlocks the directory, and removes it if it is temporary.
func (d *dataDir) close() error {
	if d.temp {
		if err := os.RemoveAll(d.path); err != nil {
			return errors.Join(fmt.Errorf("remove temporary data directory: %w", err), d.lock.Close())
		}
	} else {
		os.Remove(filepath.Join(d.path, childrenName))
	}
	return d.lock.Close()
}

// recordChild records a child on disk, for a later up in the same directory.
func (d *dataDir) recordChild(name string, pid int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	id := proctab.ID{PID: pid}
	if p, ok := proctab.Find(pid); ok {
		id = p.ID
	}
	d.children[name] = id
	b, err := json.Marshal(d.children)
	if err != nil {
		return err
	}
	return datadir.Replace(filepath.Join(d.path, childrenName), b)
}

// leftoverChildren returns the recorded children that are still alive.
func leftoverChildren(path string) []proctab.ID {
	b, err := os.ReadFile(filepath.Join(path, childrenName))
	if err != nil {
		return nil
	}
	noted := map[string]proctab.ID{}
	if err := json.Unmarshal(b, &noted); err != nil {
		return nil
	}
	var alive []proctab.ID
	for _, id := range noted {
		if id.PID > 1 && id.Alive() {
			alive = append(alive, id)
		}
	}
	return alive
}

func (d *dataDir) waitForLeftovers(ctx context.Context, say func(string)) error {
	alive := leftoverChildren(d.path)
	if len(alive) == 0 {
		return nil
	}
	say(fmt.Sprintf("waiting for %d programs of an earlier run to stop", len(alive)))
	wait, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	for _, id := range alive {
		if proctab.WaitGone(wait, id) != nil {
			break
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	kill, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := proctab.KillAll(kill, func() []proctab.ID { return leftoverChildren(d.path) }); err != nil {
		return fmt.Errorf("programs of an earlier run do not end: %w", err)
	}
	return nil
}

// sweepTemp removes the temporary directories of runs that were killed. It
// leaves directories alone that might be in use.
func sweepTemp(root string, now time.Time) {
	dirs, err := filepath.Glob(filepath.Join(root, tempPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || !isMine(info) {
			continue
		}
		young := now.Sub(info.ModTime()) < minTempAge
		lockInfo, err := os.Stat(filepath.Join(dir, lockName))
		switch {
		case errors.Is(err, fs.ErrNotExist) && !young:
			os.RemoveAll(dir)
			continue
		case err != nil, lockInfo.Size() == 0 && young: // the directory is being created
			continue
		}
		lock, err := lockDir(dir)
		if err != nil {
			continue
		}
		if len(leftoverChildren(dir)) == 0 {
			os.RemoveAll(dir)
		}
		lock.lock.Close()
	}
}

func isMine(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Getuid()
}
