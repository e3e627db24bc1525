//go:build linux

package e2e

import (
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

// Callers send unique texts while replicas and a worker die. No caller gets a
// wrong answer or waits past its deadline, no read-only call fails, and a call
// that is not safe to repeat is never executed twice.
func TestCallsWhileReplicasAndAWorkerDie(t *testing.T) {
	during := 30 * time.Second
	if testing.Short() {
		during = 8 * time.Second
	}
	c := NewCluster(t, "process")
	journal := filepath.Join(c.dir, "journal")
	c.Fleet(`servers:
  reader: { command: [%[1]q], replicas: 6, env: { TOKEN: %[2]s } }
  counter: { command: [%[1]q, -journal, %[3]q], replicas: 4, env: { TOKEN: %[2]s } }
`, program("testserver"), c.token, journal)
	c.Start(3)

	readers := call(t, c, 56, "reader", "echo")
	counters := call(t, c, 8, "counter", "count")
	kills := 0
	begin := time.Now()
	tick := time.NewTicker(400 * time.Millisecond)
	defer tick.Stop()
	workerKilled, workerBack := false, false
	for round := 0; time.Since(begin) < during; round++ {
		<-tick.C
		server := [...]string{"reader", "counter"}[round%2]
		// With fewer replicas there would be none for a retry, since restarts
		// are delayed longer with each kill. Replicas of the killed worker count
		// as READY until its grace is over, but serve no calls.
		if ready := living(c.ReplicasOf(server, "READY")); len(ready) >= 3 {
			if syscall.Kill(*ready[round%len(ready)].PID, syscall.SIGKILL) == nil {
				kills++
			}
		}
		switch into := time.Since(begin); {
		case !workerKilled && into > during/3:
			c.Workers["w2"].Kill9()
			workerKilled = true
		case workerKilled && !workerBack && into > during/2:
			c.StartWorker("w2")
			workerBack = true
		}
	}
	readers.Stop()
	counters.Stop()
	read, counted := readers.Results(), counters.Results()
	t.Logf("%d replicas killed and a worker; %d read-only calls, the slowest took %s; %d others, with errors %v",
		kills, read.Calls, read.Slowest, counted.Calls, counted.Refused)
	if n, err := readers.result(); err != nil || n < 1000 {
		t.Errorf("of %d read-only calls: %v", n, err)
	}
	if n, err := counters.result(); err != nil || n < 100 {
		t.Errorf("of %d counted calls: %v", n, err)
	}
	for code := range counted.Refused {
		if code != "replica_lost" && code != "no_replica" {
			t.Errorf("counted calls ended with %v", counted.Refused)
		}
	}
	if kills < 5 || !workerBack {
		t.Errorf("only %d replicas were killed, worker back: %v", kills, workerBack)
	}

	executed := executions(t, journal)
	for id, n := range executed {
		if n > 1 {
			t.Errorf("call %s was executed %d times", id, n)
		}
	}
	done := 0
	for _, n := range counted.Refused {
		done -= n
	}
	if done += counted.Calls; len(executed) < done {
		t.Errorf("%d calls were answered, %d executed", done, len(executed))
	}
	c.AwaitReady(3)
}

// living returns the replicas whose processes exist.
func living(replicas []api.Replica) []api.Replica {
	return slices.DeleteFunc(replicas, func(r api.Replica) bool {
		return r.PID == nil || syscall.Kill(*r.PID, 0) != nil
	})
}
