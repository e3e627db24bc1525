//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

// containersOn returns the containers of a worker's replicas.
func (c *Cluster) containersOn(worker string) []string {
	all, err := c.Replicas(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	var ids []string
	for _, r := range all {
		if string(r.Node) == c.Node(worker) && r.ContainerID != nil {
			ids = append(ids, *r.ContainerID)
		}
	}
	return ids
}

// gone fails the test unless the containers vanish soon.
func gone(t testing.TB, what string, ids []string) {
	t.Helper()
	err := harness.Poll(patience, func() error {
		if left := leftOf(ids, ""); len(left) > 0 {
			return fmt.Errorf("%s: left behind:\n  %s", what, strings.Join(left, "\n  "))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// Killing a worker under calls fails no read-only call. When the worker returns
// it removes what its earlier life left.
func TestWorkerKilledWithContainers(t *testing.T) {
	needPodman(t)
	t.Parallel()
	c := NewCluster(t, "podman")
	c.Fleet(`servers: { everything: { image: docker.io/mcp/everything, network: none, replicas: 4 } }`)
	c.Start(2)
	orphans := c.containersOn("w1")
	if len(orphans) != 2 {
		t.Fatalf("w1 has the containers %v", orphans)
	}
	calls := call(t, c, 8, "everything", "echo")
	c.Workers["w1"].Kill9()
	harness.Eventually(t, 2*patience, func() error {
		var elsewhere int
		for _, r := range c.ReplicasOf("everything", "READY") {
			if string(r.Node) == c.Node("w2") {
				elsewhere++
			}
		}
		if elsewhere != 4 {
			return fmt.Errorf("%d of 4 replicas are READY on w2", elsewhere)
		}
		return nil
	})
	c.StartWorker("w1")
	gone(t, "after the sweep", orphans)
	c.AwaitReady(2)
	calls.Stop()
	if n, err := calls.result(); err != nil || n < 20 {
		t.Errorf("of %d calls: %v", n, err)
	}
}

// A killed container is replaced, and the reason of its end is kept. The same
// holds if its conmon is killed, though podman then says for ever that it runs.
func TestContainerAndConmonKilled(t *testing.T) {
	needPodman(t)
	t.Parallel()
	c := NewCluster(t, "podman")
	c.Fleet(`servers: { everything: { image: docker.io/mcp/everything, network: none, replicas: 2 } }`)
	c.Start(1)

	victim := c.ReplicasOf("everything", "READY")[0]
	if _, err := podman("kill", *victim.ContainerID); err != nil {
		t.Fatal(err)
	}
	ended := c.awaitEnded("everything", victim)
	if ended.Phase != "FAILED" || ended.Exit == nil || ended.Exit.Signal != "SIGKILL" || ended.Exit.Requested || !strings.Contains(ended.Reason, "SIGKILL") {
		t.Errorf("a killed container ended as %+v (%+v)", ended, ended.Exit)
	}
	if len(ended.Log) == 0 {
		t.Error("the log of the killed container was not kept")
	}
	c.AwaitReady(1)
	gone(t, "after podman kill", []string{*victim.ContainerID})
	if s := c.Server("everything"); s.Restarts != 1 {
		t.Errorf("%d restarts after one kill", s.Restarts)
	}

	// Without conmon the container is not reaped, but it keeps running. Calls
	// must be answered however that is handled.
	victim = c.ReplicasOf("everything", "READY")[0]
	conmon, err := conmonOf(*victim.ContainerID)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(conmon, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		c.MustText("everything", "echo", `{"message":"hi"}`)
	}
	// Now kill the container itself.
	if victim.PID != nil {
		_ = syscall.Kill(*victim.PID, syscall.SIGKILL) // it may be dead already
	}
	c.awaitEnded("everything", victim)
	c.AwaitReady(1)
	gone(t, "after the conmon was killed", []string{*victim.ContainerID})
	c.MustText("everything", "echo", `{"message":"hi"}`)
}

// awaitEnded waits until a replica is listed as ended.
func (c *Cluster) awaitEnded(server string, r api.Replica) api.Ended {
	c.t.Helper()
	var ended api.Ended
	harness.Eventually(c.t, patience, func() error {
		s := c.Server(server)
		for _, e := range s.LastEnded {
			if e.ID == r.ID {
				ended = e
				return nil
			}
		}
		return fmt.Errorf("replica %s has not ended: %+v", r.ID, s)
	})
	return ended
}

func conmonOf(container string) (int, error) {
	for _, pid := range processesWith(container) {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err == nil && filepath.Base(exe) == "conmon" {
			return pid, nil
		}
	}
	return 0, errors.New("no conmon of " + container)
}

// A missing image, and a memory limit that kills, show as a state with a reason.
// Neither affects other servers.
func TestContainersThatCannotStart(t *testing.T) {
	needPodman(t)
	t.Parallel()
	c := NewCluster(t, "podman")
	c.Fleet(`servers:
  good: { image: docker.io/mcp/everything, network: none }
  absent: { image: localhost/mcpfleet/no-such-image, pull_policy: never }
  wrong: { image: docker.io/mcp/everything, network: none, entrypoint: [/bin/sh, -c, "echo the license has expired >&2; exit 3"] }
`)
	c.StartController()
	c.StartWorker("w1")
	harness.Eventually(t, patience, func() error {
		ready, err := c.Ready(t.Context())
		if err != nil {
			return err
		}
		if !ready.Ready {
			return fmt.Errorf("not ready: %+v", ready.Servers)
		}
		return nil
	})
	for name, words := range map[string][]string{"absent": {"no-such-image"}, "wrong": {"exit code 3", "the license has expired"}} {
		harness.Eventually(t, patience, func() error { // podman knows the exit code later than the state
			s := c.Server(name)
			if s.State != "UNAVAILABLE" || s.Ready != 0 {
				return fmt.Errorf("%s is %s with %d replicas", name, s.State, s.Ready)
			}
			for _, w := range words {
				if !strings.Contains(s.Reason, w) {
					return fmt.Errorf("reason of %s is %q, want %q in it", name, s.Reason, w)
				}
			}
			return nil
		})
		_, err := c.Text(name, "echo", `{}`)
		e, ok := errors.AsType[*api.Error](err)
		if !ok || e.Status != 503 {
			t.Errorf("a call of %s: %v", name, err)
		}
	}
	if got := c.MustText("good", "echo", `{"message":"hi"}`); got != "Echo: hi" {
		t.Errorf("echo returned %q", got)
	}
}

// A server that cannot start is restarted repeatedly, but fewer than 15 times in
// its first 30 seconds.
func TestServerThatEndsAtOnceIsNotHammered(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, "process")
	journal := filepath.Join(c.dir, "starts")
	c.Fleet(`servers: { bad: { command: [/bin/sh, -c, "echo start >>%s; exec %s -exit 7"] , replicas: 2 } }`, journal, program("testserver"))
	c.StartController()
	c.StartWorker("w1")
	starts := func() int {
		b, err := os.ReadFile(journal)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return strings.Count(string(b), "start\n")
	}
	harness.Eventually(t, patience, func() error {
		if starts() == 0 {
			return errors.New("it was not started")
		}
		return nil
	})
	first := time.Now()
	harness.Eventually(t, patience, func() error {
		if s := c.Server("bad"); s.State != "UNAVAILABLE" || !strings.Contains(s.Reason, "exit code 7") || !strings.Contains(s.Reason, "the license has expired") {
			return fmt.Errorf("state %s, reason %q", s.State, s.Reason)
		}
		return nil
	})
	begin := time.Now()
	_, err := c.Text("bad", "echo", `{}`)
	if e, ok := errors.AsType[*api.Error](err); !ok || e.Status != 503 || time.Since(begin) > 5*time.Second {
		t.Errorf("a call after %s: %v", since(begin), err)
	}
	harness.Eventually(t, patience, func() error {
		if left := 30*time.Second - time.Since(first); left > 0 {
			return fmt.Errorf("%s more to wait", left)
		}
		return nil
	})
	n, s := starts(), c.Server("bad")
	t.Logf("%d starts in the first 30 s, %d restarts reported", n, s.Restarts)
	if n < 4 || n >= 15 {
		t.Errorf("%d starts in the first 30 s, want some and fewer than 15", n)
	}
	if s.Restarts > n || s.Restarts < n-3 {
		t.Errorf("%d restarts are reported, but there were %d starts of 2 replicas", s.Restarts, n)
	}
	if len(s.LastEnded) == 0 || len(s.LastEnded) > 10 || s.LastEnded[0].Exit == nil || s.LastEnded[0].Exit.Code != 7 {
		t.Errorf("last ended: %+v", s.LastEnded)
	}
}
