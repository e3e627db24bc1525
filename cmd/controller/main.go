// Command controller holds the desired state of a fleet and serves its HTTP
// front: it reads the fleet file, finds workers by gossip, places replicas on
// them, restarts what fails, and routes calls.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/mcpfleet/mcpfleet/internal/controller"
	"github.com/mcpfleet/mcpfleet/internal/envflag"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
	"github.com/mcpfleet/mcpfleet/internal/program"
)

var version = "dev" // set by the linker

// maxBodyLimit is the longest line that workers promise to pass on.
const maxBodyLimit = 64 << 20

func main() { os.Exit(program.Main("controller", run)) }

type flags struct {
	name, http, gossip, advertise, dataDir, config, zone, logFormat, logLevel string
	join                                                                      []string
	bodyLimit                                                                 string
	lifeline, expectWorkers                                                   int
	version                                                                   bool
}

func parse(args []string, help io.Writer) (flags, error) {
	var f flags
	host, _ := os.Hostname() // --name says so if there is none
	fs := pflag.NewFlagSet("controller", pflag.ContinueOnError)
	fs.SetOutput(help)
	fs.SortFlags = false
	fs.StringVar(&f.name, "name", host, "name of this node")
	fs.StringVar(&f.http, "http", "127.0.0.1:8000", "host:port of the HTTP front")
	fs.StringVar(&f.gossip, "gossip", "127.0.0.1:7946", "host:port of gossip, TCP and UDP; port 0 takes a free one")
	fs.StringVar(&f.advertise, "advertise", "", "host or host:port of gossip told to others; default: what is bound")
	fs.StringSliceVar(&f.join, "join", nil, "host:port of other members to join, tried for ever; comma-separated or repeated")
	fs.StringVar(&f.dataDir, "data-dir", "", "directory of the desired state; default: $XDG_STATE_HOME/mcpfleet/controller-NAME")
	fs.StringVar(&f.config, "config", "", "fleet file, read at the start and on SIGHUP; default: what the data directory has")
	fs.StringVar(&f.zone, "zone", "", "zone of this controller; replicas of the same zone are preferred among equals")
	fs.StringVar(&f.bodyLimit, "body-limit", "16m", "how large a request's body may be, at most 64m")
	fs.IntVar(&f.expectWorkers, "expect-workers", 0, "how many workers a new cluster waits for, 10s at most, before it places the first replicas")
	fs.IntVar(&f.lifeline, "lifeline-fd", -1, "stop when this file descriptor ends")
	fs.StringVar(&f.logFormat, "log-format", "text", "text or json")
	fs.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	fs.BoolVar(&f.version, "version", false, "print the version and exit")
	envflag.Document(fs)
	if err := fs.Parse(args); err != nil {
		return f, program.Usage(err)
	}
	if fs.NArg() > 0 {
		return f, program.Usage(fmt.Errorf("unexpected argument %q", fs.Arg(0)))
	}
	if err := envflag.Apply(fs, os.LookupEnv); err != nil {
		return f, program.Usage(err)
	}
	if f.dataDir == "" {
		f.dataDir = filepath.Join(program.StateHome(os.LookupEnv), "mcpfleet", "controller-"+f.name)
	}
	return f, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f, err := parse(args, stdout)
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
	if f.expectWorkers < 0 {
		return program.Usage(fmt.Errorf("--expect-workers: %d is negative", f.expectWorkers))
	}
	bodyLimit, err := fleetfile.ParseSize(f.bodyLimit)
	if err != nil || bodyLimit <= 0 || bodyLimit > maxBodyLimit {
		return program.Usage(fmt.Errorf("--body-limit: %q is no size of up to 64m, such as 16m", f.bodyLimit))
	}
	ctx, stop := program.Context(ctx, f.lifeline)
	defer program.ReturnMemory(ctx)()
	defer stop()
	program.TuneGC(0, os.LookupEnv)

	front, err := net.Listen("tcp", f.http)
	if err != nil {
		return fmt.Errorf("--http: %w", err)
	}
	program.WarnIfExposed(log, "who reaches it can call every tool, and join as a worker", f.http, f.gossip)

	reload := make(chan os.Signal, 1) // one that waits stands for all that come meanwhile
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)

	return controller.Run(ctx, controller.Config{
		Name: fleet.NodeID(f.name), HTTP: front, Gossip: f.gossip, Advertise: f.advertise, Join: f.join,
		DataDir: f.dataDir, Zone: f.zone, ExpectWorkers: f.expectWorkers, Version: version, Log: log,
		MaxBody: bodyLimit, File: f.config, Lookup: os.LookupEnv, Reload: reload,
		Up: func(a controller.Addresses) error { return program.PrintLine(stdout, a) },
	})
}
