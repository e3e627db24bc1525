//go:build linux

package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

// mount mounts at the directory, until the returned function is called or the
// test ends.
func mount(t testing.TB, source, dir, kind string, flags uintptr, data string) (unmount func()) {
	t.Helper()
	if err := unix.Mount(source, dir, kind, flags, data); err != nil {
		t.Fatalf("mount %s at %s: %v", source, dir, err)
	}
	mounted := true
	unmount = func() {
		t.Helper()
		if !mounted {
			return
		}
		mounted = false
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	}
	t.Cleanup(unmount)
	return unmount
}

// readOnly makes a directory read-only. Files that are open already stay writable.
func readOnly(t testing.TB, dir string) (repair func()) {
	t.Helper()
	repair = mount(t, dir, dir, "", unix.MS_BIND, "")
	if err := unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatalf("make %s read-only: %v", dir, err)
	}
	return repair
}

// fill uses all space of a small file system.
func fill(t testing.TB, dir string) (repair func()) {
	t.Helper()
	name := filepath.Join(dir, "filler")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 4096); ; {
		if _, err := f.Write(block); err != nil {
			break
		}
	}
	return func() { os.Remove(name) }
}

// Workers that cannot write their ledger keep their replicas under a new leader,
// get no new ones, and say why. Even if no worker can, no call fails, whichever
// controllers are restarted.
func TestLedgersThatCannotBeWritten(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	p := NewPlane(t, 3)
	journal := func(n int) string { return filepath.Join(p.dir, fmt.Sprint("journal", n)) }
	demo := func(revision, replicas int) string {
		return fmt.Sprintf(`{"command": [%q, "-journal", %q], "replicas": %d, "env": {"TOKEN": %q}}`,
			program("testserver"), journal(revision), replicas, p.token)
	}
	w := func(n int) string { return filepath.Join(p.dir, fmt.Sprint("w", n)) }
	if err := os.Mkdir(w(3), 0o700); err != nil {
		t.Fatal(err)
	}
	mount(t, "tmpfs", w(3), "tmpfs", 0, "size=64k")
	p.Fleet(`servers: {demo: %s}`, demo(1, 6))
	p.Start(3)
	traffic := p.steadyCalls(100)

	newLeader := func() {
		t.Helper()
		leader := p.Leader()
		term, err := leader.term(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("a new leader after %s", p.awaitSuccessor(term, p.Kill(leader.name)))
		p.Restart(leader.name)
	}
	degraded := func(name, cause string) {
		t.Helper()
		harness.Eventually(t, patience, func() error {
			nodes, err := p.Nodes(t.Context())
			if err != nil {
				return err
			}
			for _, n := range nodes {
				if string(n.Name) == p.Node(name) && (n.State != api.NodeDegraded || !strings.Contains(n.Reason, cause)) {
					return fmt.Errorf("node %s is %s: %q, want DEGRADED: %s", name, n.State, n.Reason, cause)
				}
			}
			return nil
		})
	}

	// One worker.
	repair1 := readOnly(t, w(1))
	before := p.alive("demo")
	newLeader()
	degraded("w1", "read-only file system")
	on := func(name string) (n int) {
		for _, r := range p.ReplicasOf("demo", "READY") {
			if string(r.Node) == p.Node(name) {
				n++
			}
		}
		return n
	}
	if n := on("w1"); n != 2 || !maps.Equal(before, p.alive("demo")) {
		t.Errorf("w1 serves with %d replicas, want the 2 that it had; replicas were %v and are %v", n, before, p.alive("demo"))
	}
	begin := time.Now()
	p.mustCLI("", "scale", "demo", "9", "--wait")
	if n := on("w1"); n != 2 {
		t.Errorf("w1 has %d replicas, want the 2 of before", n)
	}
	t.Logf("three more replicas elsewhere after %s", since(begin))
	p.put("demo", demo(2, 6))
	harness.Eventually(t, patience, func() error {
		s := p.Server("demo")
		if s.Rollout != nil || s.Stable != 2 {
			return fmt.Errorf("the rollout goes on: %+v", s)
		}
		return nil
	})
	for n := range 100 {
		p.MustText("demo", "count", fmt.Sprintf(`{"id":"after-%d","ms":0}`, n))
	}
	executed, err := os.ReadFile(journal(2))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(executed), "after-"); n != 100 {
		t.Errorf("the new revision answered %d of 100 calls", n)
	}
	if n := on("w1"); n != 0 {
		t.Errorf("w1 still has %d replicas", n)
	}
	repair1()
	harness.Eventually(t, patience, func() error {
		nodes, err := p.Nodes(t.Context())
		for _, n := range nodes {
			if n.State != api.NodeReady || n.Reason != "" {
				err = fmt.Errorf("node %s is %s: %s", n.Name, n.State, n.Reason)
			}
		}
		return err
	})
	p.mustCLI("", "scale", "demo", "12", "--wait")
	if on("w1") == 0 {
		t.Error("w1 gets nothing although it can record orders again")
	}

	// All workers, and then all controllers.
	before = p.alive("demo")
	repair1 = readOnly(t, w(1))
	repair2 := readOnly(t, w(2))
	repair3 := fill(t, w(3))
	newLeader()
	degraded("w1", "read-only file system")
	degraded("w2", "read-only file system")
	degraded("w3", "no space left on device")
	p.KillAll()
	for _, name := range []string{"c1", "c2", "c3"} {
		p.Restart(name)
	}
	p.Leader()
	harness.Eventually(t, patience, func() error {
		if n := len(p.ReplicasOf("demo", "READY")); n != 12 {
			return fmt.Errorf("%d replicas are READY, want 12", n)
		}
		return nil
	})
	for n := range 100 {
		p.MustText("demo", "echo", fmt.Sprintf(`{"text":"%d"}`, n))
	}
	degraded("w3", "no space left on device")
	if after := p.alive("demo"); !maps.Equal(before, after) {
		t.Errorf("replicas and pids were %v and are %v", before, after)
	}
	repair1()
	repair2()
	repair3()
	p.mustCLI("", "scale", "demo", "13", "--wait")
	p.AwaitReady(3)

	traffic.stop()
	t.Logf("calls: %s", traffic)
	for _, err := range traffic.failed {
		t.Errorf("a call through a living controller: %v", err)
	}
	if traffic.good < 300 {
		t.Errorf("only %d calls succeeded", traffic.good)
	}
}
