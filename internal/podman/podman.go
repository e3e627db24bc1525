// Package podman runs replicas as containers. No other package knows podman. A
// container gets the worker's own pipes (log driver passthrough), so that no
// process stands between worker and server and nothing is logged to disk. Where
// podman refuses that (remote podman, old versions), a podman client stays and
// relays the pipes. Open finds out which works by running a container.
//
// After Remove, nothing of a replica is left: no container, monitor (conmon),
// half-started runtime process, state directory, cgroup, anonymous volume or
// file. The same holds for an abandoned start once Close has returned, and Sweep
// removes these things of earlier lives of the node. A podman that starts a
// container is never signalled, because a killed one leaves parts that its
// database does not know. If something else kills it, the parts are found by the
// container's name and id.
//
// The caller decides about the steps of a stop, timeouts and restarts. There is
// one goroutine per running podman client, and one per removal or abandoned
// start. Close waits for all of them.
package podman

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/proctab"
)

// Config is what Open needs.
type Config struct {
	Node     fleet.NodeID
	DataDir  string // locked by this worker
	Log      *slog.Logger
	AuthFile string   // registry credentials; "" for podman's default
	Environ  []string // the worker's environment; nil: os.Environ()
	Relayed  bool     // do not try passthrough
}

// Runtime starts replicas as podman containers. It implements fleet.Runtime.
type Runtime struct {
	node     fleet.NodeID
	owner    proctab.Owner
	log      *slog.Logger
	authFile string
	bin      string   // podman's path
	dir      string   // <DataDir>/podman
	environ  []string // of every podman client
	mode     mode

	starts  slots // podman run
	queries slots // inspect, kill, rm, ps
	pulls   *pulls

	background sync.WaitGroup
}

// mode is how this host's podman can be used. Open finds it out.
type mode struct {
	conf   string // path of a generated containers.conf; "": the host's own is used
	init   bool   // --init works
	relay  bool   // passthrough does not work: a client relays the pipes
	remote bool   // containers run on another host, so /proc does not show them
}

// Open finds out how to run containers with this host's podman, and runs one to
// be sure. The error says why podman cannot be used.
func Open(ctx context.Context, cfg Config) (*Runtime, error) {
	bin, err := exec.LookPath("podman")
	if err != nil {
		return nil, fmt.Errorf("podman is not installed: %w", err)
	}
	if bin, err = filepath.Abs(bin); err != nil {
		return nil, fmt.Errorf("find podman: %w", err)
	}
	owner, err := proctab.NewOwner(cfg.DataDir)
	if err != nil {
		return nil, fmt.Errorf("podman runtime: %w", err)
	}
	dir, err := filepath.Abs(filepath.Join(cfg.DataDir, "podman"))
	if err != nil {
		return nil, fmt.Errorf("podman runtime: %w", err)
	}
	environ := cfg.Environ
	if environ == nil {
		environ = os.Environ()
	}
	// A few clients at once keep the cores of a small machine busy. More would
	// only wait for podman's locks.
	atOnce := min(max(2*runtime.NumCPU(), 4), 8)
	r := &Runtime{
		node:     cfg.Node,
		owner:    owner,
		log:      cfg.Log.With("component", "podman"),
		authFile: cfg.AuthFile,
		bin:      bin,
		dir:      dir,
		environ:  clientEnviron(environ),
		starts:   make(slots, atOnce),
		queries:  make(slots, atOnce),
	}
	r.pulls = newPulls(r)
	for _, d := range []string{r.recordsDir(), r.tmpDir()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("podman runtime: %w", err)
		}
	}
	if err := r.findMode(ctx, cfg.Relayed); err != nil {
		return nil, err
	}
	return r, nil
}

// clientEnviron returns the environment of podman clients. It leaves out the
// variables that systemd sets for the worker alone, which podman would act on,
// and makes the paths of podman's configuration absolute.
func clientEnviron(environ []string) []string {
	var kept []string
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		switch {
		case name == "NOTIFY_SOCKET", name == markerName, strings.HasPrefix(name, "LISTEN_"):
			continue
		case strings.HasPrefix(name, "CONTAINERS_") && strings.HasSuffix(name, "_CONF") && value != "":
			if path, err := filepath.Abs(value); err == nil {
				kv = name + "=" + path
			}
		}
		kept = append(kept, kv)
	}
	return kept
}

// recordsDir has one directory per container. It is made before podman is
// called, and removed when nothing of the container is left.
func (r *Runtime) recordsDir() string { return filepath.Join(r.dir, "containers") }

func (r *Runtime) tmpDir() string { return filepath.Join(r.dir, "tmp") }

// Name implements fleet.Runtime.
func (r *Runtime) Name() string { return "podman" }

// Close implements fleet.Runtime.
func (r *Runtime) Close(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		r.background.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("podman: containers are still being removed: %w", context.Cause(ctx))
	}
}
