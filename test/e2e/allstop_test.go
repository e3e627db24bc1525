//go:build linux

package e2e

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/test/harness"
)

// Workers that all stop at once do not wait for room elsewhere. Each ends as soon
// as its running calls have been answered.
func TestAllWorkersStopAtOnce(t *testing.T) {
	c := NewCluster(t, "process")
	c.Fleet(`servers: {demo: {command: [%q], replicas: 6, drain_timeout: 20s, env: {TOKEN: %q}}}`, program("testserver"), c.token)
	c.Start(3)
	const calls = 12
	var running sync.WaitGroup
	for range calls {
		running.Go(func() {
			got, err := c.Text("demo", "slow", `{"ms":3000}`)
			if err != nil || got != "at last" {
				t.Errorf("a call that was under way: %q, %v", got, err)
			}
		})
	}
	harness.Eventually(t, patience, func() error {
		ongoing := 0
		for _, r := range c.ReplicasOf("demo", "READY") {
			ongoing += r.Ongoing
		}
		if ongoing < calls {
			return fmt.Errorf("%d calls are under way, want %d", ongoing, calls)
		}
		return nil
	})
	begin := time.Now()
	for _, w := range c.Workers {
		w.Signal(syscall.SIGTERM)
	}
	for name, w := range c.Workers {
		select {
		case <-w.Exited():
			if w.Err() != nil {
				t.Errorf("%s ended with %v", name, w.Err())
			}
		case <-time.After(patience):
			t.Fatalf("%s goes on %s after SIGTERM", name, patience)
		}
	}
	// Their --drain-timeout is 25 s.
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("they ended after %s", took)
	} else {
		t.Logf("they ended after %s, with calls of 3 s under way", took.Round(time.Millisecond))
	}
	running.Wait()
}
