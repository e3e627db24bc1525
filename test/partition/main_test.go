//go:build linux

package partition

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		defer func() { // whatever has been built
			if made, err := filepath.Glob(filepath.Join(os.TempDir(), owned(self())+"*")); err == nil {
				for _, dir := range made {
					os.RemoveAll(dir)
				}
			}
		}()
		return m.Run()
	}())
}

// programs builds the programs once, as make does: static, and without the
// race detector, whatever the tests are built with. It returns their directory.
var programs = sync.OnceValues(func() (string, error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return "", err
	}
	for _, sources := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, sources), func(_ string, _ fs.DirEntry, err error) error { return err })
		if err != nil {
			return "", err
		}
	}
	dir, err := os.MkdirTemp("", owned(self())+"*")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", dir+"/", "./cmd/controller", "./cmd/worker", "./cmd/demo-server")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		os.RemoveAll(dir)
		return "", fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return dir, nil
})

// program is the path of one of the programs.
func program(t testing.TB, name string) string {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}
