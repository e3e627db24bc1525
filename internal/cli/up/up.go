// Package up runs a whole cluster on this machine, from the real controller
// and worker programs: one controller or several, some workers, and the servers
// of a fleet file or the demo server; or, in a directory that has state
// already, what is deployed there.
//
// It promises that nothing it started outlives it for long. Children run in
// process groups of their own, so that Ctrl-C reaches only Run, which then
// tells them to stop and at last kills them. Each also inherits the read end of
// a pipe, the lifeline, whose write end only Run's process has: its end tells a
// child to stop when Run was killed and can tell nobody. Children write their
// logs into files themselves, for a pipe without a reader would kill them in
// the middle of their clean stop. A child that dies is started again, at the
// addresses it had; only a child that cannot start at all ends everything.
//
// Stopping drains nothing: nobody is left to take replicas over. Controllers
// stop first, by a signal, and finish the calls they have; then the lifeline of
// the workers ends.
//
// It leaves to the programs what they do. Run owns all goroutines and child
// processes and waits for them.
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
	File        string  // the fleet file; "" serves what is deployed, or else the demo server
	Controllers int     // 0: as many as the data directory has, or one
	Workers     int     // 0: as many as the data directory had last, or three, or as few as File needs
	Runtime     string  // as the worker's --runtime; "" is what was asked for before in DataDir, or auto
	CPUs        float64 // that each worker offers; 0 shares those of the machine
	Memory      string  // likewise; ""
	HTTP        string  // where the first controller listens; the others take free ports beside it
	Insecure    bool    // HTTP may be reachable from elsewhere
	// AllowedHosts are names that the Host header may have; see web.Config.
	AllowedHosts []string
	DataDir      string // "" takes a temporary one and removes it at the end

	BinDir string // where the programs are; they are looked for in PATH, too
	Called string // how the user calls mcpfleet, for commands to copy; "" is mcpfleet
	Out    io.Writer
	Env    []string
	Lookup func(string) (string, bool) // of variables in the fleet file

	// Stop ends the cluster when it is closed, Force kills what has not ended.
	Stop, Force <-chan struct{}
}

// MaxWorkers bounds Config.Workers.
const MaxWorkers = 64

const (
	// screenBuffer is how much waits for a terminal that was stopped (Ctrl-S) or
	// a pipe that nobody reads. Nothing else waits for it: children go on being
	// kept. At the end it gets lastLines to take what is left.
	screenBuffer = 64 << 10
	lastLines    = 2 * time.Second

	maxControllers = 9
	defaultWorkers = 3
	// How long children have before they are killed: all must be over 15 s
	// after the signal, workers after controllers.
	controllerPatience = 6500 * time.Millisecond
	workerPatience     = 7500 * time.Millisecond
	forcePatience      = 3 * time.Second  // of workers after a second signal
	stopPatience       = 12 * time.Second // of those that all see the end of the lifeline
)

// Validate names the flag that cannot be as it is.
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

// memory is --memory in bytes, 0 for none.
func (c *Config) memory() int64 {
	n, err := fleetfile.ParseSize(strings.TrimSpace(c.Memory))
	if err != nil {
		return 0
	}
	return n
}

// Run runs the cluster until Stop is closed or ctx ends, and returns nil then.
// An error means that something could not start.
func Run(ctx context.Context, cfg Config) (err error) {
	if err := cfg.Validate(); err != nil {
		return err
	}
	var file *fleetfile.File
	if cfg.File != "" { // what is wrong with the file is told before anything starts
		if file, err = readFleetFile(&cfg); err != nil {
			return err
		}
	}
	bins, err := findPrograms(cfg)
	if err != nil {
		return err
	}
	// Whoever read the output may have gone. By default the first line that
	// cannot be written would end the program, and with it the fleet.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	screen := sink.New(sink.Config{Out: cfg.Out, Buffer: screenBuffer})
	defer screen.Close(lastLines)
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
		out.Event(stopText(callsUnderWay(ctx, ring.fronts())))
		cancel(errAskedToStop)
		select {
		case <-cfg.Force:
		case <-finished:
		}
		select {
		case <-cfg.Force: // children are killed by those who wait for them
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
	if err := free(cfg.HTTP); err != nil {
		return err
	}

	l, err := newLauncher(dir, cfg.Env, cfg.Force)
	if err != nil {
		return err
	}
	defer l.close()

	had := earlier(dir.path)
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
	before := lastOf(dir.path)
	asked := last{Runtime: cmp.Or(cfg.Runtime, before.Runtime)}
	here, err := askMachine(ctx, l, bins.worker, cmp.Or(asked.Runtime, "auto"))
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
		out.Event("resuming what is deployed in " + dir.path)
	case len(had) == 0: // else it may well be that none of it is going to run
		warning, err := runnable(file, &here)
		if err != nil {
			return err
		}
		for _, w := range []string{warning, tooBig(file, offered, cfg.Workers)} {
			if w != "" {
				out.Event(w)
			}
		}
	}
	if err := asked.keep(dir.path); err != nil {
		return fmt.Errorf("note what runs: %w", err)
	}

	// The group's context ends with a signal and with the first child that
	// cannot start; then every keeper stops its child.
	group, running := errgroup.WithContext(ctx)
	working, stopWorkers := context.WithCancelCause(context.WithoutCancel(running))
	defer stopWorkers(nil)
	cluster := &cluster{launcher: l, out: out, group: group, ring: ring}
	names := controllerNames(had, cfg.Controllers)
	kind := &controllers{
		path: bins.controller, dataDir: dir.path, config: configFile, count: cfg.Controllers, workers: cfg.Workers,
		insecure: cfg.Insecure, allowedHosts: cfg.AllowedHosts, ring: cluster.ring,
	}
	workers := &workers{path: bins.worker, dataDir: dir.path, runtime: here.runtime(), offered: offered, ring: cluster.ring}
	group.Go(func() error {
		var keepers sync.WaitGroup
		defer func() { // the keepers of controllers end with running
			keepers.Wait()
			stopWorkers(context.Cause(running))
		}()
		front := kind.program(names[0], cfg.HTTP)
		front.known = true
		first := cluster.keep(running, front, &keepers)
		addr, err := first.address(running)
		if err != nil {
			return nil // the keeper has told why
		}
		host, _, err := net.SplitHostPort(addr.HTTP)
		if err != nil {
			return fmt.Errorf("controller's address: %w", err)
		}
		var others []*kept
		for _, name := range names[1:] {
			others = append(others, cluster.keep(running, kind.program(name, net.JoinHostPort(host, "0")), &keepers))
		}
		for _, one := range others {
			if _, err := one.address(running); err != nil {
				return nil
			}
		}
		for i := range cfg.Workers {
			cluster.keep(working, workers.program(workerName(i)), nil)
		}
		client, err := api.NewClient(reachable(addr.HTTP), &http.Client{Timeout: pollTimeout})
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

// cleanStop returns no error for what ended because it was asked to.
func cleanStop(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errAskedToStop) {
		return nil
	}
	return err
}

// programs are the paths of what runs.
type programs struct {
	controller, worker, demo string
	noDemo                   error // why demo is ""
}

func findPrograms(cfg Config) (programs, error) {
	var p programs
	want := map[string]*string{"controller": &p.controller, "worker": &p.worker}
	for name, path := range want {
		found, err := findProgram(cfg.BinDir, name, cfg.Env)
		if err != nil {
			return programs{}, err
		}
		*path = found
	}
	p.demo, p.noDemo = findProgram(cfg.BinDir, "demo-server", cfg.Env) // may not be needed
	return p, nil
}

// findProgram looks beside our own program first: versions belong together.
func findProgram(dir, name string, env []string) (string, error) {
	search := []string{dir}
	for _, kv := range env {
		if list, ok := strings.CutPrefix(kv, "PATH="); ok {
			search = append(search, filepath.SplitList(list)...)
		}
	}
	for _, d := range search {
		path, err := filepath.Abs(filepath.Join(d, name))
		if err != nil || d == "" {
			continue
		}
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("the program %s is neither beside mcpfleet, in %s, nor in PATH; make build makes it", name, dir)
}

// readFleetFile reads the fleet file for what is wrong with it. The controller
// reads it again by itself.
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

// free says so when another program listens at the address already.
func free(addr string) error {
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("--http: another program listens at %s (address already in use): stop it, or take another port, such as --http 127.0.0.1:8001", addr)
	} else if err != nil {
		return fmt.Errorf("--http: %w", err)
	}
	return l.Close()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// reachable turns a listener's address into one to connect to.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
