//go:build linux

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/test/harness"
)

// traces records what a test has created outside its own directory, to find what
// is left. It reads the ids of containers from the runtime's state while they run,
// because remains of a container that was killed at the wrong moment have only its
// id.
type traces struct {
	token string

	mu  sync.Mutex
	ids map[string]bool // containers
}

// runcState is the state directory of root's runc.
const runcState = "/run/runc"

// follow records the test's containers until the test ends.
func follow(t testing.TB, token string) *traces {
	tr := &traces{token: token, ids: map[string]bool{}}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		known := map[string]bool{}
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			tr.scan(known)
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
	return tr
}

// scan reads the state of containers that are not recorded yet.
func (tr *traces) scan(known map[string]bool) {
	dirs, err := os.ReadDir(runcState)
	if err != nil {
		return // runc is not installed, or has no containers
	}
	for _, d := range dirs {
		if known[d.Name()] {
			continue
		}
		b, err := os.ReadFile(filepath.Join(runcState, d.Name(), "state.json"))
		if err != nil {
			continue // not written yet, or removed
		}
		known[d.Name()] = true
		if bytes.Contains(b, []byte(tr.token)) {
			tr.mu.Lock()
			tr.ids[d.Name()] = true
			tr.mu.Unlock()
		}
	}
}

// mustVanish fails the test unless all traces vanish soon.
func (tr *traces) mustVanish(t testing.TB, within time.Duration) {
	t.Helper()
	err := harness.Poll(within, func() error {
		if left := tr.left(); len(left) > 0 {
			return fmt.Errorf("left behind:\n  %s", strings.Join(left, "\n  "))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// add records containers that cannot be attributed to the test otherwise.
func (tr *traces) add(ids ...string) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, id := range ids {
		tr.ids[id] = true
	}
}

// left lists the traces that exist.
func (tr *traces) left() []string {
	tr.mu.Lock()
	ids := slices.Sorted(maps.Keys(tr.ids))
	tr.mu.Unlock()
	var left []string
	for _, pid := range processesWith(tr.token) {
		left = append(left, fmt.Sprintf("process %d: %s", pid, cmdline(pid)))
	}
	if len(ids) > 0 {
		left = append(left, leftOf(ids, tr.token)...)
	}
	return left
}

// leftOf lists the traces of these containers, and, if word is not empty, of any
// with that word in its name.
func leftOf(ids []string, word string) []string {
	var left []string
	for _, id := range ids {
		if _, err := os.Stat(filepath.Join(runcState, id)); !errors.Is(err, fs.ErrNotExist) {
			left = append(left, "state of container "+id)
		}
		for _, pid := range processesWith(id) {
			left = append(left, fmt.Sprintf("process %d: %s", pid, cmdline(pid)))
		}
	}
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && slices.ContainsFunc(ids, func(id string) bool { return strings.Contains(d.Name(), id) }) {
			left = append(left, "cgroup "+path)
			return fs.SkipDir
		}
		return nil // cgroups of others come and go
	})
	out, err := podman("ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.Status}}")
	if err != nil {
		return append(left, err.Error())
	}
	for line := range strings.Lines(out) {
		id, _, _ := strings.Cut(line, " ")
		if slices.Contains(ids, id) || word != "" && strings.Contains(line, word) {
			left = append(left, "container "+strings.TrimSpace(line))
		}
	}
	return left
}

// podman runs podman like the programs under test, and returns its output.
func podman(args ...string) (string, error) {
	cmd := exec.Command("podman", args...)
	cmd.Env = environ()
	out, err := cmd.Output()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%w: %s", err, e.Stderr)
	}
	if err != nil {
		err = fmt.Errorf("podman %s: %w", args[0], err)
	}
	return string(out), err
}

// needPodman fails the test if podman is missing where it should be installed, and
// skips it on other machines.
func needPodman(t testing.TB, images ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skipf("containers need root here, and this is uid %d", os.Geteuid())
	}
	for _, image := range append([]string{"docker.io/mcp/everything"}, images...) {
		if _, err := podman("image", "inspect", image); err != nil {
			t.Fatalf("%v (deploy/images/setup-host.sh installs podman, deploy/images/build.sh makes the images)", err)
		}
	}
}

// processesWith returns the processes with a word in their command line or
// environment, except this one.
func processesWith(word string) []int {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		for _, file := range []string{"cmdline", "environ"} {
			if b, err := os.ReadFile(filepath.Join("/proc", d.Name(), file)); err == nil && bytes.Contains(b, []byte(word)) {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}

func cmdline(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return err.Error()
	}
	return string(bytes.ReplaceAll(b, []byte{0}, []byte(" ")))
}
