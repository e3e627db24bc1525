package worker

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/mcpfleet/mcpfleet/internal/datadir"
)

// LockDir makes the data directory and locks it. The lock ends with the process,
// however that ends.
func LockDir(dir string) (io.Closer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("--data-dir: %w", err)
	}
	lock, err := datadir.Lock(filepath.Join(dir, "lock"))
	if inUse := new(datadir.InUseError); errors.As(err, &inUse) {
		return nil, fmt.Errorf("--data-dir: %s is %w: stop that worker or use another directory", dir, err)
	} else if err != nil {
		return nil, fmt.Errorf("--data-dir: %w", err)
	}
	return lock, nil
}
