//go:build linux

package partition

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/mcpfleet/mcpfleet/test/harness"
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		defer func() { // removes what was built
			if made, err := filepath.Glob(filepath.Join(os.TempDir(), owned(self())+"*")); err == nil {
				for _, dir := range made {
					os.RemoveAll(dir)
				}
			}
		}()
		return m.Run()
	}())
}

// programs builds the programs once, and returns their directory.
var programs = sync.OnceValues(func() (string, error) {
	if err := harness.DependOn("cmd", "internal"); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", owned(self())+"*")
	if err != nil {
		return "", err
	}
	return dir, harness.Build(dir, "./cmd/controller", "./cmd/worker", "./cmd/demo-server")
})

// program returns the path of one of the programs.
func program(t testing.TB, name string) string {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}
