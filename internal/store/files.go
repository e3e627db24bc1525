package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/mcpfleet/mcpfleet/internal/datadir"
)

const (
	lockFile     = "lock"
	identityFile = "identity.json"
	oldStateFile = "state.json"
	raftDir      = "raft"
	logFile      = "log.db"
	snapshotsDir = "snapshots" // raft's snapshot store gives it this name
)

// makeDir makes a directory that only its owner can read, since it contains
// secrets. It narrows the mode of one that exists.
func makeDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		return fmt.Errorf("protect directory: %w", err)
	}
	return nil
}

// lockDir locks the directory until this process ends, in whatever way.
func lockDir(dir string) (io.Closer, error) {
	lock, err := datadir.Lock(filepath.Join(dir, lockFile))
	if inUse := new(datadir.InUseError); errors.As(err, &inUse) {
		return nil, fmt.Errorf("data directory %s is %w: stop that controller or use another --data-dir", dir, err)
	} else if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	return lock, nil
}
