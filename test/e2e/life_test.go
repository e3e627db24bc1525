//go:build linux

package e2e

import (
	"context"
	"encoding/json"
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

// running counts the processes of a program that belong to the test.
func (c *Cluster) running(name string) int {
	n := 0
	for _, pid := range processesWith(c.token) {
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && filepath.Base(exe) == name {
			n++
		}
	}
	return n
}

// A worker that is told to stop finishes its calls first. None fails, not even
// one that must not be repeated.
func TestStoppingAWorkerFailsNoCall(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, "process")
	c.Fleet(`servers: { demo: { command: [%q, -journal, %q], replicas: 4, env: { TOKEN: %s } } }`,
		program("testserver"), filepath.Join(c.dir, "journal"), c.token)
	c.Start(2)
	readers := call(t, c, 8, "demo", "echo")
	counters := call(t, c, 8, "demo", "count")
	for range 2 {
		c.Workers["w2"].Stop()
		c.StartWorker("w2")
		c.AwaitReady(2)
	}
	readers.Stop()
	counters.Stop()
	for _, k := range []callers{readers, counters} {
		if n, err := k.result(); err != nil || n < 50 || len(k.Results().Refused) > 0 {
			t.Errorf("of %d calls of %s: %v, errors %v", n, k.Tool, err, k.Results().Refused)
		}
	}
}

// A frozen worker answers nothing. Its calls go elsewhere, and its replicas are
// replaced. When it thaws nothing runs twice.
func TestFrozenWorker(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, "process")
	c.Fleet(`servers: { demo: { command: [%q], replicas: 4, env: { TOKEN: %s } } }`, program("testserver"), c.token)
	c.Start(2)
	readers := callFor(t, c, 8, "demo", "echo", 30*time.Second)
	c.Workers["w1"].Signal(syscall.SIGSTOP)
	harness.Eventually(t, patience, func() error {
		n := 0
		for _, r := range c.ReplicasOf("demo", "READY") {
			if string(r.Node) == c.Node("w2") {
				n++
			}
		}
		if n != 4 {
			return fmt.Errorf("%d of 4 replicas are READY on w2", n)
		}
		return nil
	})
	c.Workers["w1"].Signal(syscall.SIGCONT)
	harness.Eventually(t, patience, func() error {
		if n, m := len(c.ReplicasOf("demo", "")), c.running("testserver"); n != 4 || m != 4 {
			return fmt.Errorf("%d replicas and %d processes, want 4", n, m)
		}
		return nil
	})
	c.AwaitReady(2)
	readers.Stop()
	if n, err := readers.result(); err != nil || n < 50 {
		t.Errorf("of %d calls: %v", n, err)
	}
	if r := readers.Results().Slowest; r > 15*time.Second {
		t.Errorf("a call took %s: the frozen worker was waited for too long", r)
	}
}

// A killed worker may leave processes that ignore the end of stdin, and processes
// that these have started. Its next life kills them.
func TestSweepOfProcesses(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, "process")
	c.Fleet(`servers: { demo: { command: [/bin/sh, -c, "sleep 4711 & setsid sleep 4712 & exec %s"], env: { TOKEN: %s }, replicas: 2 } }`,
		program("testserver"), c.token)
	c.Start(1)
	// A replica may be READY before what its shell has forked is a sleep.
	harness.Eventually(t, patience, func() error {
		if n := c.running("sleep"); n != 4 {
			return fmt.Errorf("%d processes of the replicas run beside them, want 4", n)
		}
		return nil
	})
	c.Workers["w1"].Kill9()
	if n := c.running("sleep"); n != 4 {
		t.Fatalf("%d processes outlived the worker: the test cannot see a sweep", n)
	}
	c.StartWorker("w1")
	c.AwaitReady(1)
	harness.Eventually(t, patience, func() error {
		if n, m := c.running("sleep"), c.running("testserver"); n != 4 || m != 2 {
			return fmt.Errorf("%d and %d processes, want 4 and 2", n, m)
		}
		return nil
	})
	// When a process dies, those that it has started are killed.
	if err := syscall.Kill(*c.ReplicasOf("demo", "READY")[0].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, patience, func() error {
		if s, n := c.Server("demo"), c.running("sleep"); s.Restarts < 1 || s.Ready != 2 || n != 4 {
			return fmt.Errorf("%d processes run beside the replicas, want 4; server: %+v", n, s)
		}
		return nil
	})
}

// Callers of a hanging replica wait no longer than their deadlines, and the replica
// is replaced. The server is told about callers that give up.
func TestHungReplicaIsReplaced(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, "process")
	c.Fleet(`servers: { demo: { command: [%q], env: { TOKEN: %s }, health: { period: 5s, timeout: 1s, failures: 2 } } }`, program("testserver"), c.token)
	c.Start(1)

	// A client disconnects.
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := c.Call(ctx, "demo", api.CallRequest{ToolName: "slow", ToolArgs: json.RawMessage(`{"ms":600000}`)}); err == nil {
		t.Error("a call of ten minutes was answered")
	}
	harness.Eventually(t, patience, func() error {
		if seen := c.MustText("demo", "seen", `{}`); !strings.Contains(seen, `"notifications/cancelled":1`) {
			return fmt.Errorf("the server saw %s", seen)
		}
		return nil
	})
	harness.Eventually(t, patience, func() error { // its slot is free, though the call still runs
		if r := c.ReplicasOf("demo", "READY"); len(r) != 1 || r[0].Ongoing != 0 {
			return fmt.Errorf("replicas: %+v", r)
		}
		return nil
	})

	hung := c.ReplicasOf("demo", "READY")[0]
	for _, tool := range []string{"hang", "echo", "echo"} {
		begin := time.Now()
		status, b := postWith(t, "http://"+c.Controller.Addr.HTTP+"/demo/call", `{"tool_name":"`+tool+`","tool_args":{"text":"x"}}`, "X-Request-Timeout", "1s")
		if took := time.Since(begin); status != 504 || !strings.Contains(string(b), `"timeout"`) || took > time.Second+callSlack {
			t.Errorf("%s was answered after %s with %d %s", tool, took, status, b)
		}
	}
	ended := c.awaitEnded("demo", hung)
	c.AwaitReady(1)
	t.Logf("it ended: %s", ended.Reason)
	if got := c.MustText("demo", "echo", `{"text":"again"}`); got != "again" {
		t.Errorf("echo returned %q", got)
	}
}
