// Package worker assembles one worker. It locks the data directory, opens the
// runtimes, removes what an earlier life of the node left, serves controllers over
// gRPC, and joins the ring. Other packages do the work: this one decides the order.
//
//	                Run
//	lock -> runtime -> agent (sweep) -> gRPC server -> ring
//	           ^          |    ^             |
//	           +----------+    +-------------+
//	            replicas          orders, calls
//
// A worker takes orders only once nothing of an earlier life is left, and nothing of
// its own life is left when Run returns. Flags, signals and the choice of runtimes
// are cmd/worker's. Run owns every goroutine.
package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/gossip"
	"github.com/mcpfleet/mcpfleet/internal/rpc"
)

// Config is what a worker needs.
type Config struct {
	Node     fleet.NodeID
	Zone     string
	Labels   map[string]string
	Capacity fleet.Resources
	Version  string
	// MaxStarts bounds how many replicas start at once; 0 means agent's default.
	MaxStarts int

	// DataDir is locked by this worker while Run runs.
	DataDir string
	// Runtimes opens the runtimes of replicas, each with another name. It is called
	// once, after the data directory is locked. Run closes them.
	Runtimes func(ctx context.Context) ([]fleet.Runtime, error)
	// GRPC is where controllers are served. Run closes it. Nothing else may accept
	// its connections.
	GRPC net.Listener
	// Gossip is the host:port to bind the ring to.
	Gossip string
	// Advertise is the host at which others reach this worker. "" stands for the
	// listener's own, or the machine's if it listens on every address.
	Advertise string
	// Join are addresses of the ring. They are tried for ever.
	Join []string
	// ProbeInterval is that of the ring; 0 means its default.
	ProbeInterval time.Duration
	// DrainTimeout bounds how long a stop waits for controllers to move the replicas
	// elsewhere; 0 means agent.DefaultDrainTimeout. It waits no longer once Hurry is
	// closed, and kills replicas once Now is closed. Both may be nil.
	DrainTimeout time.Duration
	Hurry        <-chan struct{}
	Now          <-chan struct{}
	Log          *slog.Logger

	// Bound is called once with the advertised addresses, when both are bound. It may
	// be nil.
	Bound func(grpc, gossip string) error
}

// Validate returns an error that names the wrong flag.
func (c *Config) Validate() error {
	if err := fleet.CheckNodeID(c.Node); err != nil {
		return fmt.Errorf("--name: %w", err)
	}
	if c.DataDir == "" {
		return errors.New("--data-dir: must not be empty")
	}
	if c.Runtimes == nil || c.GRPC == nil || c.Log == nil {
		return errors.New("worker: runtimes, gRPC listener and log are needed")
	}
	if _, _, err := net.SplitHostPort(c.Gossip); err != nil {
		return fmt.Errorf("--gossip: %w", err)
	}
	for _, j := range c.Join {
		if host, port, err := net.SplitHostPort(j); err != nil {
			return fmt.Errorf("--join: %w", err)
		} else if host == "" || port == "" || port == "0" {
			return fmt.Errorf("--join: %q has no host or no port", j)
		}
	}
	if c.Capacity.CPUs < 0 {
		return fmt.Errorf("--cpus: %v is negative", c.Capacity.CPUs)
	}
	if c.Capacity.Memory < 0 {
		return fmt.Errorf("--memory: %v is negative", c.Capacity.Memory)
	}
	if c.MaxStarts < 0 {
		return fmt.Errorf("--max-starts: %d is negative", c.MaxStarts)
	}
	if c.DrainTimeout < 0 {
		return fmt.Errorf("--drain-timeout: %s is negative", c.DrainTimeout)
	}
	return nil
}

// Run runs one life of the worker. It returns nil after an orderly stop.
func Run(ctx context.Context, cfg Config) error {
	began := time.Now()
	if cfg.GRPC != nil {
		defer cfg.GRPC.Close()
	}
	if err := cfg.Validate(); err != nil {
		return err
	}
	log := cfg.Log.With("node", string(cfg.Node))
	grpcAddr, ringHost, err := addresses(&cfg)
	if err != nil {
		return err
	}
	lock, err := LockDir(cfg.DataDir)
	if err != nil {
		return err
	}
	defer lock.Close()

	offered, err := cfg.Runtimes(ctx)
	if err != nil {
		return fmt.Errorf("runtime: %w", err)
	}
	runtime := runtimes(offered)
	life, started := fleet.NewLifeID(), time.Now()
	replicas, err := agent.New(agent.Config{
		Node: fleet.NodeInfo{
			Node: cfg.Node, Life: life, PID: os.Getpid(), Zone: cfg.Zone, Labels: cfg.Labels,
			Capacity: cfg.Capacity, Runtimes: runtime.names(), Version: cfg.Version, GRPC: grpcAddr,
			StartTook: time.Since(began), Sessions: true,
		},
		Runtime: runtime, Log: log, MaxStarts: cfg.MaxStarts, DrainTimeout: cfg.DrainTimeout, Hurry: cfg.Hurry, Now: cfg.Now,
		StateFile: filepath.Join(cfg.DataDir, "orders.json"),
	})
	if err != nil {
		return errors.Join(err, closeRuntime(ctx, runtime))
	}
	ring, err := gossip.New(gossip.Config{
		Member: fleet.Member{
			Node: cfg.Node, Life: life, Role: fleet.RoleWorker, GRPC: grpcAddr, PID: os.Getpid(), Started: started,
		},
		Bind: cfg.Gossip, Advertise: ringHost, Join: cfg.Join, ProbeInterval: cfg.ProbeInterval, Log: log,
	})
	if err != nil {
		return errors.Join(err, closeRuntime(ctx, runtime))
	}
	defer ring.Close()
	if cfg.Bound != nil {
		if err := cfg.Bound(grpcAddr, ring.Addr()); err != nil {
			return errors.Join(err, closeRuntime(ctx, runtime))
		}
	}
	log.Info("worker starting", "life", string(life), "runtime", runtime.Name(), "grpc", grpcAddr, "gossip", ring.Addr(),
		"cpus", cfg.Capacity.CPUs, "memory", cfg.Capacity.Memory, "max_starts", cfg.MaxStarts)

	server := rpc.NewServer(rpc.ServerConfig{Worker: replicas, Log: log})
	s := newStages(ctx)
	s.add("agent", replicas.Run)
	select {
	case <-replicas.Ready():
		s.add("gRPC", func(ctx context.Context) error { return server.Serve(ctx, cfg.GRPC) })
		s.add("ring", ring.Run)
		log.Info("worker ready")
	case <-s.failed: // the sweep
	case <-ctx.Done():
	}
	select {
	case <-s.failed:
	case <-ctx.Done():
		log.Info("worker stopping", "cause", context.Cause(ctx))
	}

	err = errors.Join(
		// Controllers learn from their watches that the node drains. They place nothing
		// on it, and move its replicas, which serve until then. Replicas that nobody has
		// moved in time are stopped: new calls are refused, running ones finish, every
		// replica is removed, and the last report says so.
		s.end("agent"),
		// Leaving the ring spares the others the wait until they miss this node.
		s.end("ring"),
		// gRPC is last, because it carried all of the above.
		s.end("gRPC"),
	)
	if err == nil {
		log.Info("worker stopped")
	}
	return err
}

// closeRuntime closes the runtimes of a start that failed before the agent could.
func closeRuntime(ctx context.Context, rt fleet.Runtime) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return rt.Close(ctx)
}
