// Package process runs replicas as plain child processes. It serves laptops
// without podman, and tests. Each replica is a process group of its own, which
// gets its env and a few variables of the worker's environment. There is no
// isolation and no resource limit, which New logs.
//
// After Remove, nothing of a replica is left, not even daemonised grandchildren.
// Sweep kills the processes that earlier lives of the node left. Both find
// processes by the inherited variable MCPFLEET_REPLICA, which names the cluster,
// the node, the replica, and the life of the worker that started it. They need
// Linux's /proc: elsewhere only the process group is killed.
//
// When the first process of a replica ends, its group is killed at once, as the
// end of PID 1 ends a container. One goroutine per replica waits for that, and
// Remove joins it.
package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/proctab"
)

// Config is what a Runtime needs.
type Config struct {
	Node    fleet.NodeID
	DataDir string // locked by this worker
	Log     *slog.Logger
	Environ []string // the worker's environment; nil: os.Environ()
}

// Runtime starts replicas as child processes. It implements fleet.Runtime.
type Runtime struct {
	node    fleet.NodeID
	owner   proctab.Owner
	log     *slog.Logger
	environ []string

	table tableCache

	mu     sync.Mutex
	warned map[string]bool // revisions whose ignored keys were logged
}

// New returns a Runtime. It logs a warning that nothing is isolated.
func New(cfg Config) (*Runtime, error) {
	owner, err := proctab.NewOwner(cfg.DataDir)
	if err != nil {
		return nil, fmt.Errorf("process runtime: %w", err)
	}
	environ := cfg.Environ
	if environ == nil {
		environ = os.Environ()
	}
	r := &Runtime{
		node:    cfg.Node,
		owner:   owner,
		log:     cfg.Log.With("component", "process"),
		environ: environ,
		warned:  make(map[string]bool),
	}
	r.log.Warn("commands run as plain processes, without isolation or resource limits; --runtime podman accepts images only")
	return r, nil
}

// Name implements fleet.Runtime.
func (r *Runtime) Name() string { return "process" }

// Close implements fleet.Runtime. There is no background work.
func (r *Runtime) Close(context.Context) error { return nil }

// Prepare implements fleet.Runtime. A plain process needs nothing from elsewhere.
func (r *Runtime) Prepare(context.Context, fleet.Launch) error { return nil }

// Start implements fleet.Runtime.
func (r *Runtime) Start(ctx context.Context, l fleet.Launch) (fleet.Process, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	t := l.Template
	if t.Image != "" {
		return nil, fmt.Errorf("image %q needs podman: this node runs plain processes only (--runtime process)", t.Image)
	}
	if len(t.Command) == 0 {
		return nil, errors.New("no command to run")
	}
	if t.Cwd != "" {
		if fi, err := os.Stat(t.Cwd); err != nil {
			return nil, fmt.Errorf("cwd: %w", err)
		} else if !fi.IsDir() {
			return nil, fmt.Errorf("cwd %s is not a directory", t.Cwd)
		}
	}
	env, err := r.childEnv(l)
	if err != nil {
		return nil, err
	}
	path, err := lookPath(t.Command[0], t.Cwd, env)
	if err != nil {
		return nil, err
	}
	if err := windowsScript(path); err != nil {
		return nil, about(t.Command[0], err)
	}
	if len(t.Mounts) > 0 {
		return nil, fmt.Errorf("mount %s on %s: a plain process has no mounts: use an image, and podman", t.Mounts[0].Source, t.Mounts[0].Target)
	}
	r.warnIgnored(l)

	run := func(path string, argv []string) (*child, error) {
		return spawn(&exec.Cmd{
			Path:        path,
			Args:        argv,
			Env:         env,
			Dir:         t.Cwd,
			SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
		}, markerOf(l, r.owner), &r.table)
	}
	args := append(append([]string(nil), t.Command[1:]...), t.Args...)
	c, err := run(path, append([]string{t.Command[0]}, args...))
	if err != nil && forShell(err, path) {
		c, err = run("/bin/sh", append([]string{"/bin/sh", path}, args...))
	}
	if err != nil {
		return nil, about(t.Command[0], explain(err, path))
	}
	return c, nil
}

// warnIgnored logs, once for each revision, the keys of its spec that have no
// effect on a plain process.
func (r *Runtime) warnIgnored(l fleet.Launch) {
	t := l.Template
	var keys []string
	for _, k := range []struct {
		name string
		set  bool
	}{
		{"resources.memory", t.Resources.Memory > 0},
		{"resources.cpus", t.Resources.CPUs > 0},
		{"resources.pids", t.Resources.PIDs > 0},
		{"entrypoint", t.Entrypoint != nil},
		{"network", t.Network != ""},
		{"user", t.User != ""},
		{"read_only", t.ReadOnly},
		{"cap_add", len(t.CapAdd) > 0},
		{"devices", len(t.Devices) > 0},
	} {
		if k.set {
			keys = append(keys, k.name)
		}
	}
	if len(keys) == 0 {
		return
	}
	id := fmt.Sprintf("%s/%s/%d", l.Cluster, l.Server, l.Revision)
	r.mu.Lock()
	seen := r.warned[id]
	r.warned[id] = true
	r.mu.Unlock()
	if !seen {
		r.log.Warn("keys ignored: they have no effect on a plain process",
			"server", l.Server, "revision", l.Revision, "keys", strings.Join(keys, " "))
	}
}
