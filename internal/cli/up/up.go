// Package up runs a whole cluster on this machine, from the real controller and
// worker programs: one or more controllers, some workers, and the servers of a
// fleet file or the demo server. In a data directory with state it resumes the
// servers that are deployed there.
//
// Nothing that it starts outlives it for long. Children run in process groups of
// their own, so that Ctrl-C reaches only Run. Run then stops them, and kills
// those that take too long. Each child also inherits the read end of a pipe, the
// lifeline. Only Run's process has the write end, so the pipe ends if that
// process is killed, and the children stop. Children write their logs to files
// themselves, since a pipe without a reader would kill them during their stop.
//
// A child that dies is restarted at the addresses that it had. If a child cannot
// start the first time, Run stops everything.
//
// A stop drains no worker, since no node is left to take its replicas.
// Controllers get a signal first and finish their running calls. Then the
// lifeline of the workers ends.
//
// Run owns all goroutines and child processes and waits for them.
package up

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/cli/progress"
	"github.com/mcpfleet/mcpfleet/internal/cli/shell"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
	"github.com/mcpfleet/mcpfleet/internal/sink"
)

// Config says what to run.
type Config struct {
	File        string  // the fleet file; "" runs the deployed servers, or else the demo server
	Controllers int     // 0 for as many as the data directory has, or one
	Workers     int     // 0 for as many as the data directory had last, or three, or fewer if File needs that
	Runtime     string  // the worker's --runtime; "" for the one used before in DataDir, or auto
	CPUs        float64 // that each worker offers; 0 for an equal share of the machine's
	Memory      string  // that each worker offers; "" for an equal share of the machine's
	HTTP        string  // host:port of the first controller; the others use free ports of the same host
	Insecure    bool    // HTTP may be reachable from other machines
	// AllowedHosts are names that the Host header may have; see web.Config.
	AllowedHosts []string
	// LegacySSE has the controllers offer the deprecated HTTP+SSE transport of MCP, too.
	LegacySSE bool
	DataDir   string // "" for a temporary one, which is removed at the end

	BinDir string // directory of the programs; PATH is searched, too
	Called string // how the user calls mcpfleet, for commands to copy; "" is mcpfleet
	Out    io.Writer
	Env    []string
	Lookup func(string) (string, bool) // of variables in the fleet file

	// Closing Stop stops the cluster. Closing Force kills what has not stopped.
	Stop, Force <-chan struct{}
}

// MaxWorkers bounds Config.Workers.
const MaxWorkers = 64

const (
	// screenBuffer is how much output is buffered for a terminal that was stopped
	// (Ctrl-S), or a pipe without a reader. Nothing waits for it, so children are
	// still supervised. At the end it has flushTimeout to accept the rest.
	screenBuffer = 64 << 10
	flushTimeout = 2 * time.Second

	maxControllers = 9
	defaultWorkers = 3
	// Children are killed after these timeouts. Workers stop after controllers,
	// and all must be gone 15 s after the signal.
	controllerStopTimeout = 6500 * time.Millisecond
	workerStopTimeout     = 7500 * time.Millisecond
	forceTimeout          = 3 * time.Second  // of workers after a second signal
	stopTimeout           = 12 * time.Second // of children that stop by the end of the lifeline
)

// Validate checks the configuration. Its errors name the flags.
func (c *Config) Validate() error {
	var problems []error
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if c.Workers < 0 || c.Workers > MaxWorkers {
		wrong("--workers must be between 1 and %d, not %d", MaxWorkers, c.Workers)
	}
	if c.Runtime != "" {
		if _, err := fleet.ParseRuntimes(c.Runtime); err != nil {
			wrong("--runtime: %w", err)
		}
	}
	if c.CPUs < 0 {
		wrong("--cpus must be a number of CPUs, not %g", c.CPUs)
	}
	if c.Memory != "" && c.memory() <= 0 {
		wrong("--memory must be an amount of memory, such as 4g, not %q", c.Memory)
	}
	if c.Controllers < 0 || c.Controllers > maxControllers {
		wrong("--controllers must be between 1 and %d, not %d", maxControllers, c.Controllers)
	}
	if err := fleet.CheckAllowedHosts(c.AllowedHosts); err != nil {
		wrong("--allowed-hosts: %w", err)
	}
	if host, _, err := net.SplitHostPort(c.HTTP); err != nil {
		wrong("--http must be host:port: %w", err)
	} else if ip := net.ParseIP(host); !c.Insecure && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		wrong("--http must be loopback, not %s: other machines could reach it, and there is no access control yet; --insecure allows it", c.HTTP)
	}
	return errors.Join(problems...)
}

// memory returns Memory in bytes. It returns 0 if Memory is empty or invalid.
func (c *Config) memory() int64 {
	n, err := fleetfile.ParseSize(strings.TrimSpace(c.Memory))
	if err != nil {
		return 0
	}
	return n
}

// Run runs the cluster until Stop is closed or ctx ends, and then returns nil.
// It returns an error if something could not start.
func Run(ctx context.Context, cfg Config) (err error) {
	if err := cfg.Validate(); err != nil {
		return err
	}
	var file *fleetfile.File
	if cfg.File != "" { // report errors in the file before anything starts
		if file, err = readFleetFile(&cfg); err != nil {
			return err
		}
	}
	bins, err := findPrograms(cfg)
	if err != nil {
		return err
	}
	// The reader of the output may have gone. By default the next line would kill
	// this process by SIGPIPE, and with it the fleet.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	screen := sink.New(sink.Config{Out: cfg.Out, Buffer: screenBuffer})
	defer screen.Close(flushTimeout)
	out := progress.NewThrough(cfg.Out, screen)
	out.HideURLs() // the first one in the output is the cluster's own
	ring := newRing()
	ctx, cancel := context.WithCancelCause(ctx)
	var listener sync.WaitGroup
	finished := make(chan struct{})
	defer func() { cancel(nil); close(finished); listener.Wait() }()
	over := ctx.Done()
	listener.Go(func() {
		select {
		case <-cfg.Stop:
		case <-over:
			return
		}
		out.Event(stopText(callsUnderWay(ctx, ring.httpAddresses())))
		cancel(errAskedToStop)
		select {
		case <-cfg.Force:
		case <-finished:
		}
		select {
		case <-cfg.Force: // the goroutines that stop children kill them
			out.Event(forceText)
		default:
		}
	})

	if file != nil {
		for _, w := range file.Warnings {
			out.Event("warning: " + w.String())
		}
	}
	dir, err := openDataDir(ctx, cfg.DataDir, out.Event)
	if err != nil {
		return cleanStop(ctx, err)
	}
	defer func() { err = errors.Join(err, dir.close()) }()
	if err := checkPortFree(cfg.HTTP); err != nil {
		return err
	}

	l, err := newLauncher(dir, cfg.Env, cfg.Force)
	if err != nil {
		return err
	}
	defer l.close()

	had := knownControllers(dir.path)
	if cfg.Controllers == 0 {
		cfg.Controllers = max(1, min(len(had), maxControllers))
	}
	if hint := controllersHint(len(had), cfg.Controllers); hint != "" {
		out.Event(hint)
	}
	demo := cfg.File == "" && (len(had) == 0 || exists(demoPath(dir.path)))
	if demo && bins.demo == "" {
		return bins.noDemo
	}
	before := loadLastRun(dir.path)
	asked := lastRun{Runtime: cmp.Or(cfg.Runtime, before.Runtime)}
	here, err := checkMachine(ctx, l, bins.worker, cmp.Or(asked.Runtime, "auto"))
	if err != nil {
		return cleanStop(ctx, err)
	}
	text := here.String()
	if cfg.Runtime == "" && before.Runtime != "" {
		text += " (--runtime as before in this data directory)"
	}
	out.Event(text)
	if cfg.Workers = cmp.Or(cfg.Workers, before.Workers); cfg.Workers == 0 {
		var why string
		if cfg.Workers, why = here.workersFor(file, cfg); why != "" && len(had) == 0 {
			out.Event(why)
		}
	}
	asked.Workers = cfg.Workers
	if hint := workersHint(before.Workers, cfg.Workers); hint != "" {
		out.Event(hint)
	}
	offered := here.share(&cfg)
	configFile := cfg.File
	switch {
	case demo:
		if configFile, err = demoFile(ctx, &here, bins.demo, dir.path, cfg.Workers); err != nil {
			return cleanStop(ctx, fmt.Errorf("prepare the demo server: %w", err))
		}
	case file == nil:
		out.Event("resuming the servers deployed in " + dir.path)
	case len(had) == 0: // otherwise the file may not be applied at all
		warning, err := checkRunnable(file, &here)
		if err != nil {
			return err
		}
		for _, w := range []string{warning, tooBig(file, offered, cfg.Workers)} {
			if w != "" {
				out.Event(w)
			}
		}
	}
	if err := asked.save(dir.path); err != nil {
		return fmt.Errorf("save the settings of this run: %w", err)
	}

	// The group's context ends with a signal, or if a child cannot start. Then
	// every supervisor stops its child.
	group, running := errgroup.WithContext(ctx)
	working, stopWorkers := context.WithCancelCause(context.WithoutCancel(running))
	defer stopWorkers(nil)
	cluster := &cluster{launcher: l, out: out, group: group, ring: ring}
	names := controllerNames(had, cfg.Controllers)
	kind := &controllers{
		path: bins.controller, dataDir: dir.path, config: configFile, count: cfg.Controllers, workers: cfg.Workers,
		insecure: cfg.Insecure, allowedHosts: cfg.AllowedHosts, legacySSE: cfg.LegacySSE, ring: cluster.ring,
	}
	workers := &workers{path: bins.worker, dataDir: dir.path, runtime: here.runtime(), offered: offered, ring: cluster.ring}
	group.Go(func() error {
		var keepers sync.WaitGroup
		defer func() { // the supervisors of controllers end with running
			keepers.Wait()
			stopWorkers(context.Cause(running))
		}()
		front := kind.program(names[0], cfg.HTTP)
		front.known = true
		first := cluster.supervise(running, front, &keepers)
		addr, err := first.address(running)
		if err != nil {
			return nil // the supervisor returns the error
		}
		host, _, err := net.SplitHostPort(addr.HTTP)
		if err != nil {
			return fmt.Errorf("controller's address: %w", err)
		}
		var others []*supervised
		for _, name := range names[1:] {
			others = append(others, cluster.supervise(running, kind.program(name, net.JoinHostPort(host, "0")), &keepers))
		}
		for _, one := range others {
			if _, err := one.address(running); err != nil {
				return nil
			}
		}
		for i := range cfg.Workers {
			cluster.supervise(working, workers.program(workerName(i)), nil)
		}
		client, err := api.NewClient(dialAddress(addr.HTTP), &http.Client{Timeout: pollTimeout})
		if err != nil {
			return fmt.Errorf("controller's address: %w", err)
		}
		w := &watcher{client: client, controllers: cfg.Controllers, workers: cfg.Workers, out: out, file: file, path: cfg.File, called: shell.Quote(cmp.Or(cfg.Called, "mcpfleet"))}
		w.run(running)
		return nil
	})
	err = group.Wait()
	out.Finish()
	return err
}

var errAskedToStop = errors.New("asked to stop")

// cleanStop returns nil if Run was asked to stop, and err otherwise.
func cleanStop(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errAskedToStop) {
		return nil
	}
	return err
}

// readFleetFile reads the fleet file to report its errors. The controller reads
// it again itself.
func readFleetFile(cfg *Config) (*fleetfile.File, error) {
	path, err := filepath.Abs(cfg.File)
	if err != nil {
		return nil, fmt.Errorf("fleet file: %w", err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("fleet file: %w", err)
	}
	f, err := fleetfile.Parse(data, fleetfile.OnDisk(cfg.File, cfg.Lookup))
	cfg.File = path
	return f, err
}

// checkPortFree returns an error if another program listens at the address.
func checkPortFree(addr string) error {
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("--http: another program listens at %s (address already in use): stop it, or choose another port, such as --http 127.0.0.1:8001", addr)
	} else if err != nil {
		return fmt.Errorf("--http: %w", err)
	}
	return l.Close()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// dialAddress returns the address to connect to for a listener's address.
func dialAddress(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
