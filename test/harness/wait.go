package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Patience is how long tests wait for anything that has no limit of its own. The
// machine may be busy with other tests.
const Patience = 60 * time.Second

// Eventually calls check until it returns nil, and fails the test with its last
// error when the time is over.
func Eventually(t testing.TB, within time.Duration, check func() error) {
	t.Helper()
	if err := Poll(within, check); err != nil {
		t.Fatal(err)
	}
}

// Poll calls check until it returns nil, and returns its last error when the time
// is over.
func Poll(within time.Duration, check func() error) error {
	over := time.NewTimer(within)
	defer over.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-over.C:
			return fmt.Errorf("not within %s: %w", within, err)
		case <-tick.C:
		}
	}
}

// Tail returns the last lines of a file, after its name.
func Tail(file string, lines int) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return filepath.Base(file) + ":\n  " + strings.Join(all[max(0, len(all)-lines):], "\n  ")
}

// ShowLogs logs the last lines of every log in a directory.
func ShowLogs(t testing.TB, dir string, lines int) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		t.Error(err)
	}
	for _, l := range logs {
		t.Log(Tail(l, lines))
	}
}
