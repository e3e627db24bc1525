// Command worker runs the replicas of one node. It joins the gossip ring, serves
// the controllers over gRPC, and starts and stops replicas on their orders.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/mcpfleet/mcpfleet/internal/program"
	"github.com/mcpfleet/mcpfleet/internal/rpc"
	"github.com/mcpfleet/mcpfleet/internal/worker"
)

// version is set by the linker.
var version = "dev"

func main() { os.Exit(program.Main("worker", run)) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f, err := parseFlags(args, os.LookupEnv, stdout)
	if err != nil {
		return err
	}
	if f.version {
		_, err := fmt.Fprintln(stdout, version)
		return err
	}
	log, err := program.Logger(stderr, f.logFormat, f.logLevel)
	if err != nil {
		return program.Usage(err)
	}
	rpc.LogTo(log)
	capacity, err := f.capacity(os.DirFS("/"))
	if err != nil {
		return program.Usage(err)
	}
	if f.checkRuntime {
		return checkRuntime(ctx, f, capacity, log, stdout)
	}
	program.TuneGC(capacity.Memory, os.LookupEnv)
	if f.lifeline >= 0 { // mcpfleet up runs several programs on this machine
		program.HalveProcs(os.LookupEnv)
	}

	danger, listeners := f.exposure()
	if err := program.RefuseIfExposed(f.insecure, danger, listeners...); err != nil {
		return err
	}
	ctx, faster, stop := program.Stops(ctx, f.lifeline)
	defer program.ReturnMemory(ctx)()
	defer stop()
	listener, err := net.Listen("tcp", f.grpc)
	if err != nil {
		return fmt.Errorf("--grpc: %w", err)
	}
	program.WarnIfExposed(log, danger, listener.Addr().String(), f.gossip)
	return worker.Run(ctx, worker.Config{
		Node: f.node, Zone: f.zone, Labels: f.labels, Capacity: capacity, Version: version,
		MaxStarts: f.starts(capacity.CPUs),
		DataDir:   f.dataDir, Runtimes: f.openRuntimes(log),
		GRPC: listener, Gossip: f.gossip, Advertise: f.advertise, Join: f.join,
		DrainTimeout: f.drain(), Hurry: faster.Hurry, Now: faster.Now, Log: log,
		Bound: func(grpc, gossip string) error {
			program.Announce(stdout, struct {
				GRPC   string `json:"grpc"`
				Gossip string `json:"gossip"`
			}{grpc, gossip}, log)
			return nil
		},
	})
}
