// Package fleettest runs controllers and workers in one process, exactly as
// production assembles them, but for the runtime: agenttest's, which runs Go
// functions as MCP servers. It is for tests only.
//
// Everything listens on loopback at free ports, keeps its state in the test's
// own directories, and logs to the test's output. What a test has started is
// stopped when the test ends, and a replica that is left then is an error.
package fleettest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/rpc"
	"github.com/mcpfleet/mcpfleet/internal/store"
	"github.com/mcpfleet/mcpfleet/internal/worker"
)

// Cluster is one controller, or several, and their workers.
type Cluster struct {
	*api.Client // of the first controller

	t          testing.TB
	opts       Options
	raft       store.Timeouts
	leaderWait time.Duration
	file       string // the fleet file
	log        *slog.Logger
	reload     chan os.Signal // of the first controller
	hurry      chan struct{}  // closed: workers stop without waiting for their replicas to be moved

	mu          sync.Mutex
	controllers map[fleet.NodeID]*Controller
	workers     map[fleet.NodeID]*Worker
}

// Options vary a cluster.
type Options struct {
	Controllers int           // named c1, c2, ...; 0: one
	Workers     int           // started at once, named w1, w2, ...
	File        string        // fleet file, YAML
	NodeGrace   time.Duration // 0: production's
	ParkWindow  time.Duration // 0: production's
	// ShutdownDelay is how long controllers serve on when they are stopped.
	ShutdownDelay time.Duration
	// DrainTimeout is how long workers that are stopped wait for their replicas to
	// be moved; 0: 5 s.
	DrainTimeout time.Duration
	// Patient clusters give up no leader and no node because it is silent for some
	// seconds. They are for tests that are not about silence: on a busy machine it
	// means nothing.
	Patient      bool
	AllowedHosts []string         // of every controller
	Dial         rpc.ClientConfig // of the controllers' connections to workers
	WorkerLog    *slog.Logger     // nil: the test's output
	Server       agenttest.Server // that replicas are; nil: agenttest's
	// Runtimes makes what a worker offers; nil: agenttest's.
	Runtimes func(node fleet.NodeID, dataDir string, log *slog.Logger) ([]fleet.Runtime, error)
}

// Worker is one worker in its present life.
type Worker struct {
	Runtime *agenttest.Runtime
	Data    string

	process *process
	conns   *severable
	killed  bool
}

// Start starts a cluster.
func Start(t testing.TB, opts Options) *Cluster {
	t.Helper()
	dir := t.TempDir()
	c := &Cluster{
		t: t, opts: opts, file: filepath.Join(dir, "fleet.yaml"),
		log:         slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})),
		reload:      make(chan os.Signal, 1),
		hurry:       make(chan struct{}),
		controllers: make(map[fleet.NodeID]*Controller),
		workers:     make(map[fleet.NodeID]*Worker),
	}
	c.opts.Controllers = max(1, opts.Controllers)
	if opts.Patient {
		c.raft = store.Timeouts{Heartbeat: 3 * time.Second, Election: 3 * time.Second, Lease: 2 * time.Second}
		c.leaderWait = 8 * time.Second // an election takes 3 to 6
		c.opts.Dial.Silence, c.opts.NodeGrace = patience, cmp.Or(opts.NodeGrace, patience)
	}
	c.write(opts.File)
	t.Cleanup(c.stop)
	for i := range c.opts.Controllers {
		c.StartController(fleet.NodeID(fmt.Sprintf("c%d", i+1)))
	}
	c.Client = c.Controller("c1").Client
	for i := range opts.Workers {
		c.StartWorker(fleet.NodeID(fmt.Sprintf("w%d", i+1)))
	}
	return c
}

func (c *Cluster) write(file string) {
	if err := os.WriteFile(c.file, []byte(file), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// Deploy makes the file desired, as an operator with an editor and SIGHUP does
// at the first controller.
func (c *Cluster) Deploy(file string) {
	c.write(file)
	c.reload <- syscall.SIGHUP
}

// StartWorker starts a worker, or a new life of one that was stopped or killed.
func (c *Cluster) StartWorker(name fleet.NodeID) *Worker {
	c.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	old := c.workers[name]
	c.mu.Unlock()
	w := &Worker{Runtime: agenttest.New(), conns: &severable{Listener: l}}
	if c.opts.Server != nil {
		w.Runtime.Handle("", c.opts.Server)
	}
	if old != nil {
		<-old.process.done // it holds the data directory
		w.Data = old.Data
	} else {
		w.Data = c.t.TempDir()
	}
	bound := make(chan struct{})
	log := cmp.Or(c.opts.WorkerLog, c.log)
	w.process = start("worker "+string(name), func(ctx context.Context) error {
		return worker.Run(ctx, worker.Config{
			Node: name, Capacity: fleet.Resources{CPUs: 8, Memory: 8 << 30}, DataDir: w.Data,
			Runtimes: func(context.Context) ([]fleet.Runtime, error) {
				if c.opts.Runtimes != nil {
					return c.opts.Runtimes(name, w.Data, log)
				}
				return []fleet.Runtime{plain{w.Runtime}}, nil
			},
			GRPC: w.conns, Gossip: "127.0.0.1:0", Join: c.gossip(),
			DrainTimeout: cmp.Or(c.opts.DrainTimeout, 5*time.Second), Hurry: c.hurry, Log: log,
			Bound: func(string, string) error { close(bound); return nil },
		})
	})
	select {
	case <-bound:
	case <-w.process.done:
		c.t.Fatalf("worker %s did not start: %v", name, w.process.err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.workers[name] = w
	return w
}

// gossip is where workers join.
func (c *Cluster) gossip() (join []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.controllers {
		join = append(join, one.Addresses.Gossip)
	}
	return join
}

// plain makes the test's runtime count as one of plain processes.
type plain struct{ *agenttest.Runtime }

func (plain) Name() string { return fleet.RuntimeProcess }

// Worker returns a worker's present life.
func (c *Cluster) Worker(name fleet.NodeID) *Worker {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.workers[name]
}

// StopWorker stops a worker in order.
func (c *Cluster) StopWorker(name fleet.NodeID) {
	c.t.Helper()
	if err := c.Worker(name).process.stop(); err != nil {
		c.t.Errorf("worker %s: %v", name, err)
	}
}

// KillWorker ends a worker as a power cut would, as far as the others can see:
// its connections break, with nothing said, and all its replicas die.
func (c *Cluster) KillWorker(name fleet.NodeID) {
	w := c.Worker(name)
	w.conns.sever()
	for _, id := range w.Runtime.Alive() {
		w.Runtime.Kill(id)
	}
	// It complains of its listener, which a killed one could not.
	_ = w.process.stop()
	w.killed = true
}

// KillReplica ends a replica as SIGKILL would. It reports whether it ran.
func (c *Cluster) KillReplica(id fleet.ReplicaID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.workers {
		if w.Runtime.Kill(id) {
			return true
		}
	}
	return false
}

// Alive counts the replicas of which something runs, on all workers.
func (c *Cluster) Alive() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, w := range c.workers {
		n += len(w.Runtime.Alive())
	}
	return n
}

// AwaitReady waits until all servers are settled on these workers.
func (c *Cluster) AwaitReady(workers int) {
	c.t.Helper()
	Eventually(c.t, func(ctx context.Context) error {
		nodes, err := c.Nodes(ctx)
		if err != nil {
			return err
		}
		n := 0
		for _, node := range nodes {
			if node.Role == fleet.RoleWorker && node.State == api.NodeReady {
				n++
			}
		}
		if n != workers {
			return fmt.Errorf("%d workers are READY, want %d", n, workers)
		}
		ready, err := c.Ready(ctx)
		if err == nil && !ready.Ready {
			err = fmt.Errorf("not ready: %+v", ready.Servers)
		}
		return err
	})
}

func (c *Cluster) stop() {
	var errs []error
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.hurry)
	for _, one := range c.controllers {
		errs = append(errs, one.process.stop())
	}
	for name, w := range c.workers {
		if err := w.process.stop(); err != nil && !w.killed {
			errs = append(errs, fmt.Errorf("worker %s: %w", name, err))
		}
		if left := w.Runtime.Alive(); len(left) > 0 {
			errs = append(errs, fmt.Errorf("worker %s left replicas: %v", name, left))
		}
	}
	if err := errors.Join(errs...); err != nil {
		c.t.Error(err)
	}
}

// process is a component that runs as a program would.
type process struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // once done is closed
}

func start(name string, run func(context.Context) error) *process {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		if err := run(ctx); err != nil {
			p.err = fmt.Errorf("%s: %w", name, err)
		}
	}()
	return p
}

func (p *process) stopped() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *process) stop() error {
	p.cancel()
	<-p.done
	return p.err
}
