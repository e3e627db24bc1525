//go:build linux

package scale

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/worker"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

var (
	workers = flag.Int("workers", 5, "how many workers to simulate")
	servers = flag.Int("servers", 5, "how many servers to deploy")
	each    = flag.Int("replicas", 4, "how many replicas each server has")
	idle    = flag.Duration("idle", time.Second, "how long to watch the controller when nothing happens")
	report  = flag.String("report", "", "write the figures as Markdown to this file; measures the plans, too")
)

// patience is for a machine on which hundreds of workers share two processors.
const patience = 5 * time.Minute

// probeInterval is long. Workers that compete for two processors answer late, and the
// ring would spread suspicions of all of them.
const probeInterval = 20 * time.Second

// usage is what the controller has used.
type usage struct {
	cpu time.Duration
	rss int64 // bytes
}

// figures are what a run of the controller with its workers has shown.
type figures struct {
	workers, replicas int
	joined            time.Duration // until all workers were READY
	without           usage         // a second, while there is no replica
	placed            time.Duration // from the write until all replicas were READY
	placing           usage         // for that
	idle              usage         // a second, afterwards
	byWorkers         time.Duration // CPU time of all workers a second, afterwards
	onWorkers         int           // replicas on the fullest worker
	onEmptiest        int
}

// All replicas are placed and serve. How fast, and what it costs, is only shown: the
// machine may be busy.
func TestScale(t *testing.T) {
	f := measureFleet(t)
	t.Logf("%d workers joined within %v. %d replicas were READY after %v; the controller used %v of CPU.",
		f.workers, f.joined.Round(10*time.Millisecond), f.replicas, f.placed.Round(10*time.Millisecond), f.placing.cpu)
	t.Logf("Idle, the controller uses %.1f%% of a CPU and %d MiB; without replicas %.1f%% and %d MiB. All workers use %.1f%%.",
		percent(f.idle.cpu), f.idle.rss>>20, percent(f.without.cpu), f.without.rss>>20, percent(f.byWorkers))
	t.Logf("%d replicas are on the fullest worker, %d on the emptiest.", f.onWorkers, f.onEmptiest)
	if *report != "" {
		if err := writeReport(*report, f); err != nil {
			t.Fatal(err)
		}
	}
}

func percent(aSecond time.Duration) float64 { return 100 * aSecond.Seconds() }

func measureFleet(t *testing.T) (f figures) {
	bin, data := t.TempDir(), t.TempDir()
	if err := harness.Build(bin, "./cmd/controller"); err != nil {
		t.Fatal(err)
	}
	front := harness.Command(t, "controller", filepath.Join(bin, "controller"), filepath.Join(data, "controller.log"),
		"--name", "c1", "--http", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--raft", "127.0.0.1:0", "--grpc", "127.0.0.1:0",
		"--data-dir", filepath.Join(data, "c1"), "--shutdown-delay", "0s", "--log-level", "warn")
	t.Cleanup(func() {
		if t.Failed() {
			harness.ShowLogs(t, data, 50)
		}
	})
	front.Start()
	t.Cleanup(front.Stop)
	client, err := api.NewClient("http://"+front.Addr.HTTP, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()

	f.workers, f.replicas = *workers, *servers**each
	began := time.Now()
	startWorkers(t, data, front.Addr.Gossip)
	harness.Eventually(t, patience, func() error {
		nodes, err := client.Nodes(ctx)
		if err != nil {
			return err
		}
		ready := 0
		for _, n := range nodes {
			if n.Role == fleet.RoleWorker && n.State == api.NodeReady {
				ready++
			}
		}
		if ready < *workers {
			return fmt.Errorf("%d of %d workers are READY", ready, *workers)
		}
		return nil
	})
	f.joined = time.Since(began)
	f.without, _ = watch(t, front.PID(), *idle)

	before := used(t, front.PID())
	began = time.Now()
	put(t, front.Addr.HTTP)
	harness.Eventually(t, patience, func() error {
		ready, err := client.Ready(ctx)
		switch {
		case err != nil:
			return err
		case len(ready.Servers) < *servers:
			return errors.New("not all servers are known")
		}
		n := 0
		for _, s := range ready.Servers {
			n += s.Ready
		}
		if n < f.replicas {
			return fmt.Errorf("%d of %d replicas are READY", n, f.replicas)
		}
		return nil
	})
	f.placed = time.Since(began)
	after := used(t, front.PID())
	f.placing = usage{after.cpu - before.cpu, after.rss}
	watch(t, front.PID(), *idle) // until rollouts have ended and catalogues are kept
	f.idle, f.byWorkers = watch(t, front.PID(), *idle)

	nodes, err := client.Nodes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	f.onEmptiest = f.replicas
	for _, n := range nodes {
		if n.Role == fleet.RoleWorker {
			f.onWorkers, f.onEmptiest = max(f.onWorkers, n.Replicas), min(f.onEmptiest, n.Replicas)
		}
	}
	return f
}

// startWorkers starts the workers, in ten zones, until the test ends.
func startWorkers(t *testing.T, data, join string) {
	ctx, cancel := context.WithCancel(context.Background())
	now := make(chan struct{})
	var running sync.WaitGroup
	t.Cleanup(func() {
		close(now)
		cancel()
		running.Wait()
	})
	for i := range *workers {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		cfg := worker.Config{
			Node: fleet.NodeID(fmt.Sprintf("n%03d", i)), Zone: fmt.Sprint("zone", i%10), Capacity: fleet.Resources{CPUs: 16, Memory: 16 << 30},
			DataDir:  filepath.Join(data, fmt.Sprint("worker", i)),
			Runtimes: func(context.Context) ([]fleet.Runtime, error) { return []fleet.Runtime{agenttest.New()}, nil },
			GRPC:     l, Gossip: "127.0.0.1:0", Join: []string{join}, ProbeInterval: probeInterval, Hurry: now, Now: now, Log: slog.New(slog.DiscardHandler),
		}
		running.Go(func() {
			if err := worker.Run(ctx, cfg); err != nil {
				t.Errorf("worker %s: %v", cfg.Node, err)
			}
		})
	}
}

// put deploys the servers.
func put(t *testing.T, addr string) {
	t.Helper()
	list := make(map[string]any)
	for i := range *servers {
		list[fmt.Sprintf("server%03d", i)] = map[string]any{
			"image": "localhost/echo", "replicas": *each, "resources": map[string]any{"cpus": 0.25, "memory": "64m"},
		}
	}
	body, err := json.Marshal(map[string]any{"servers": list})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+addr+"/api/v1/servers", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		var b bytes.Buffer
		_, _ = b.ReadFrom(resp.Body)
		t.Fatalf("PUT: %s %s", resp.Status, b.String())
	}
}

// watch returns what a process, and this one, use in a second.
func watch(t *testing.T, pid int, d time.Duration) (u usage, here time.Duration) {
	t.Helper()
	before, mine := used(t, pid), used(t, os.Getpid())
	time.Sleep(d)
	after, mineAfter := used(t, pid), used(t, os.Getpid())
	perSecond := func(cpu time.Duration) time.Duration { return time.Duration(float64(cpu) / d.Seconds()) }
	return usage{perSecond(after.cpu - before.cpu), after.rss}, perSecond(mineAfter.cpu - mine.cpu)
}

// clockTick is the unit of the times in /proc/PID/stat.
const clockTick = 10 * time.Millisecond

// used returns what a process has used so far.
func used(t *testing.T, pid int) (u usage) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest) // from the third field on
	number := func(i int) int64 {
		n, err := strconv.ParseInt(f[i-3], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return usage{time.Duration(number(14)+number(15)) * clockTick, number(24) * int64(os.Getpagesize())}
}
