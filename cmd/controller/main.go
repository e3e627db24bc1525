// Command controller runs one controller of a fleet. Controllers store the
// desired state, serve the HTTP API and route calls to replicas. The one that
// leads also places replicas on workers and replaces those that fail.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/mcpfleet/mcpfleet/internal/controller"
	"github.com/mcpfleet/mcpfleet/internal/envflag"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
	"github.com/mcpfleet/mcpfleet/internal/membership"
	"github.com/mcpfleet/mcpfleet/internal/program"
	"github.com/mcpfleet/mcpfleet/internal/rpc"
	"github.com/mcpfleet/mcpfleet/internal/store"
)

var version = "dev" // set by the linker

// maxBodyLimit is the longest line that a worker passes on to a server.
const maxBodyLimit = 64 << 20

func main() { os.Exit(program.Main("controller", run)) }

type flags struct {
	name, http, gossip, raft, grpc, advertise, dataDir, config, zone, logFormat, logLevel string
	join, allowedHosts                                                                    []string
	bodyLimit                                                                             string
	lifeline, expectWorkers, expect                                                       int
	deadAfter, shutdownDelay, drainTimeout, resumeWindow                                  time.Duration
	insecure, recover, version, legacySSE                                                 bool
}

func parse(args []string, help io.Writer) (flags, error) {
	var f flags
	host, _ := os.Hostname() // without one, the check of --name fails
	fs := pflag.NewFlagSet("controller", pflag.ContinueOnError)
	fs.SetOutput(help)
	fs.SortFlags = false
	fs.StringVar(&f.name, "name", host, "name of this node")
	fs.StringVar(&f.http, "http", "127.0.0.1:8000", "host:port to serve the HTTP API on")
	fs.StringVar(&f.gossip, "gossip", "127.0.0.1:7946", "host:port of gossip, TCP and UDP; port 0 takes a free one")
	fs.StringVar(&f.raft, "raft", "", "host:port where other controllers reach this one (default: gossip's host and a free port)")
	fs.StringVar(&f.grpc, "grpc", "", "host:port where the leader asks for the calls that wait here (default: gossip's host and a free port)")
	fs.StringVar(&f.advertise, "advertise", "", "host, or host:port of gossip, at which other members reach this one (default: the address that is bound)")
	fs.StringSliceVar(&f.join, "join", nil, "host:port of members of the cluster to join; retried until one answers; comma-separated or repeated")
	fs.StringVar(&f.dataDir, "data-dir", "", "directory for the desired state (default: $XDG_STATE_HOME/mcpfleet/controller-NAME)")
	fs.StringVar(&f.config, "config", "", "fleet file to apply if the state is empty, and again on SIGHUP")
	fs.IntVar(&f.expect, "bootstrap-expect", 0, "found a cluster once this many controllers without any state see each other "+
		"(default: 1 without --join; with it, wait to be added to a cluster)")
	fs.DurationVar(&f.deadAfter, "dead-controller-after", membership.DefaultDeadAfter, "remove a dead controller after this long, if enough others are left")
	fs.BoolVar(&f.recover, "recover", false, "after most controllers are lost for good: make this one the only voter, keep its state, and exit")
	fs.BoolVar(&f.insecure, "insecure", false, "allow listeners that other machines can reach: there is no access control yet")
	fs.StringVar(&f.zone, "zone", "", "zone of this controller; replicas of the same zone are preferred among equals")
	fs.StringSliceVar(&f.allowedHosts, "allowed-hosts", nil, "further host names by which clients call this controller, such as a load balancer's; their web pages may use it, too; "+
		"comma-separated or repeated; *.example.com stands for all names below, * for any")
	fs.StringVar(&f.bodyLimit, "body-limit", "16m", "largest body of a request, at most 64m")
	fs.IntVar(&f.expectWorkers, "expect-workers", 0, "how many workers a new cluster waits for, 10s at most, before it places the first replicas")
	fs.DurationVar(&f.shutdownDelay, "shutdown-delay", 5*time.Second, "on a signal to stop, answer 503 on /readyz and keep serving for this long, so that load balancers stop sending requests; a second signal stops at once")
	fs.DurationVar(&f.drainTimeout, "drain-timeout", 25*time.Second, "how long running requests may take to end after the shutdown delay")
	fs.DurationVar(&f.resumeWindow, "resume-window", fleet.DefaultWindow, "how long a request of an MCP client of the legacy era runs on, and its answer is kept, while the client is away")
	fs.BoolVar(&f.legacySSE, "legacy-sse", false, "also offer the deprecated HTTP+SSE transport of MCP, at /sse, /SERVER/sse and /g/NAME/sse")
	fs.IntVar(&f.lifeline, "lifeline-fd", -1, "stop when the pipe at this file descriptor is closed")
	fs.StringVar(&f.logFormat, "log-format", "text", "text or json")
	fs.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	fs.BoolVar(&f.version, "version", false, "print the version and exit")
	envflag.Document(fs)
	fs.Usage = func() {
		fmt.Fprintf(help, "controller serves the HTTP API and keeps the fleet as desired, alone or with other controllers.\n\nFlags and their environment variables:\n%s", fs.FlagUsages())
	}
	if err := program.Parse(fs, args, os.LookupEnv, func() error { return f.check(fs.Lookup("bootstrap-expect").Changed) }); err != nil {
		return f, err
	}
	if f.expect == 0 && !fs.Lookup("bootstrap-expect").Changed && len(f.join) == 0 {
		f.expect = 1
	}
	anyPort := net.JoinHostPort(hostOf(f.gossip), "0")
	f.raft, f.grpc = cmp.Or(f.raft, anyPort), cmp.Or(f.grpc, anyPort)
	if f.dataDir == "" {
		f.dataDir = filepath.Join(program.StateHome(os.LookupEnv), "mcpfleet", "controller-"+f.name)
	}
	return f, nil
}

// check returns every problem with the flags, joined.
func (f *flags) check(expectGiven bool) error {
	var problems []error
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if f.expect < 0 || expectGiven && f.expect == 0 && len(f.join) == 0 {
		wrong("--bootstrap-expect: must be at least 1, not %d: a cluster needs a controller", f.expect)
	}
	if f.deadAfter <= 0 {
		wrong("--dead-controller-after: must be more than 0, not %s", f.deadAfter)
	}
	if f.shutdownDelay < 0 {
		wrong("--shutdown-delay: must be 0 or more, not %s", f.shutdownDelay)
	}
	if f.drainTimeout <= 0 {
		wrong("--drain-timeout: must be more than 0, not %s", f.drainTimeout)
	}
	if f.resumeWindow <= 0 {
		wrong("--resume-window: must be more than 0, not %s", f.resumeWindow)
	}
	if _, _, err := net.SplitHostPort(f.gossip); err != nil && (f.raft == "" || f.grpc == "") {
		wrong("--gossip: %w", err)
	}
	if f.expectWorkers < 0 {
		wrong("--expect-workers: must be 0 or more, not %d", f.expectWorkers)
	}
	if n, err := fleetfile.ParseSize(f.bodyLimit); err != nil || n <= 0 || n > maxBodyLimit {
		wrong("--body-limit: must be a size of up to 64m, such as 16m, not %q", f.bodyLimit)
	}
	if err := fleet.CheckAllowedHosts(f.allowedHosts); err != nil {
		wrong("--allowed-hosts: %w", err)
	}
	return errors.Join(append(problems, program.CheckLog(f.logFormat, f.logLevel))...)
}

// hostOf returns the host of a valid host:port.
func hostOf(address string) string {
	host, _, _ := net.SplitHostPort(address)
	return host
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
	rpc.LogTo(log)
	bodyLimit, err := fleetfile.ParseSize(f.bodyLimit)
	if err != nil {
		return program.Usage(fmt.Errorf("--body-limit: %w", err))
	}
	ctx, stop := program.Context(ctx, f.lifeline)
	defer program.ReturnMemory(ctx)()
	defer stop()
	program.TuneGC(0, os.LookupEnv)
	if f.lifeline >= 0 { // mcpfleet up runs several programs on this machine
		program.HalveProcs(os.LookupEnv)
	}

	if f.recover {
		report, err := store.Recover(f.dataDir)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(stdout, "controller %s is now the only voter of cluster %s, incarnation %d, with %d servers, as of index %d; no longer members: %v\n"+
			"Start it, then add new controllers with empty data directories. Never start the lost controllers again with their old data directories.\n",
			report.Controller, report.Cluster, report.Incarnation, report.Servers, report.Index, report.Dropped)
		return err
	}
	const danger = "anyone who can reach it can run any command on the workers"
	if err := program.RefuseIfExposed(f.insecure, danger,
		program.Listener{Flag: "--http", Addr: f.http}, program.Listener{Flag: "--gossip", Addr: f.gossip},
		program.Listener{Flag: "--raft", Addr: f.raft}, program.Listener{Flag: "--grpc", Addr: f.grpc}); err != nil {
		return err
	}
	var listeners [3]net.Listener
	for i, at := range []program.Listener{{Flag: "--http", Addr: f.http}, {Flag: "--raft", Addr: f.raft}, {Flag: "--grpc", Addr: f.grpc}} {
		if listeners[i], err = net.Listen("tcp", at.Addr); err != nil {
			for _, l := range listeners[:i] {
				l.Close()
			}
			return fmt.Errorf("%s: %w", at.Flag, err)
		}
	}
	program.WarnIfExposed(log, danger, f.http, f.gossip, f.raft, f.grpc)

	reload := make(chan os.Signal, 1) // one pending signal is enough: the file is read afterwards
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)

	return controller.Run(ctx, controller.Config{
		Name: fleet.NodeID(f.name), HTTP: listeners[0], Raft: listeners[1], GRPC: listeners[2], Gossip: f.gossip, Advertise: f.advertise, Join: f.join,
		Expect: f.expect, DeadAfter: f.deadAfter, ShutdownDelay: f.shutdownDelay, DrainTimeout: f.drainTimeout, ResumeWindow: f.resumeWindow, LegacySSE: f.legacySSE,
		DataDir: f.dataDir, Zone: f.zone, ExpectWorkers: f.expectWorkers, Version: version, Log: log, LogDropped: program.LogDropped(stderr),
		HTTPHost: hostOf(f.http), AllowedHosts: f.allowedHosts,
		MaxBody: bodyLimit, File: f.config, Lookup: os.LookupEnv, Reload: reload,
		Up: func(a controller.Addresses) error {
			program.Announce(stdout, a, log)
			return nil
		},
	})
}
