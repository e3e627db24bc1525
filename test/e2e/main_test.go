//go:build linux

package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// bin is where TestMain has built the programs, and root the repository.
var bin, root string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if err := build(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(bin)
		return m.Run()
	}())
}

// build makes the programs as make does: static, and without the race
// detector, whatever the tests are built with.
func build() error {
	var err error
	if root, err = filepath.Abs("../.."); err != nil {
		return err
	}
	if bin, err = os.MkdirTemp("", "mcpfleet-e2e-"); err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", bin+"/", "./cmd/...", "./test/e2e/testserver", "./test/e2e/load")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		os.RemoveAll(bin)
		return fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return nil
}

// sources looks at every source of the programs once, in the course of a test:
// so go test takes them for what the tests depend on, and does not show cached
// results of other programs.
var sources = sync.OnceValue(func() error {
	for _, dir := range []string{"cmd", "internal", "test/e2e", "test/tsclient", "deploy/images"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(_ string, _ fs.DirEntry, err error) error { return err })
		if err != nil {
			return err
		}
	}
	_, err := os.Stat(filepath.Join(root, "go.mod"))
	return err
})

func program(name string) string { return filepath.Join(bin, name) }
