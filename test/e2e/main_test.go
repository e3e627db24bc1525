//go:build linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/mcpfleet/mcpfleet/test/harness"
)

// patience is how long anything is waited for that the test says nothing else
// about.
const patience = harness.Patience

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

func build() (err error) {
	if root, err = harness.Root(); err != nil {
		return err
	}
	if bin, err = os.MkdirTemp("", "mcpfleet-e2e-"); err != nil {
		return err
	}
	if err = harness.Build(bin, "./cmd/...", "./test/e2e/testserver", "./test/e2e/load"); err != nil {
		os.RemoveAll(bin)
	}
	return err
}

// sources makes the tests depend on what they run.
var sources = sync.OnceValue(func() error {
	return harness.DependOn("cmd", "internal", "test/e2e", "test/tsclient", "deploy/images")
})

func program(name string) string { return filepath.Join(bin, name) }

// command prepares a program. Its stderr is added to the file log.
func command(t testing.TB, name, log string, args ...string) *harness.Process {
	t.Helper()
	p := harness.Command(t, name, program(name), log, args...)
	p.Cmd.Env = environ()
	return p
}

// start runs a program until it has printed its addresses.
func start(t testing.TB, name, log string, args ...string) *harness.Process {
	t.Helper()
	p := command(t, name, log, args...)
	p.Start()
	return p
}

// environ is the environment of programs, with the podman settings of this
// repository unless the caller has some.
func environ() []string {
	env := os.Environ()
	if os.Getenv("CONTAINERS_CONF") == "" {
		env = append(env, "CONTAINERS_CONF="+filepath.Join(root, "deploy/images/containers.conf"))
	}
	return env
}
