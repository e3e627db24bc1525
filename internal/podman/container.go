package podman

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/proctab"
	"golang.org/x/sys/unix"
)

// container is one replica. It implements fleet.Process.
type container struct {
	r                     *Runtime
	rec                   record
	template              *fleet.Template
	stdin, stdout, stderr *os.File
	client                <-chan struct{} // closed when a relaying client ends; nil with passthrough

	id         string
	pid        int // of the container's PID 1, on this host; 0 if unknown
	monitorPID int
	main       proctab.ID // the process with that pid; zero if it had ended already
	monitor    proctab.ID
	oom        proctab.OOMWatch
	meter      proctab.Meter
	created    time.Time
	broken     bool // podman was killed while it started the container

	requested, killed atomic.Bool // we sent TERM or KILL; we sent KILL

	mu      sync.Mutex
	exit    *fleet.Exit
	removal *removal
}

// started reads the files that podman wrote during the start.
func (c *container) started() {
	c.id = c.rec.id()
	c.rec.cid = c.id
	if fi, err := os.Stat(c.rec.cidFile()); err == nil {
		c.created = fi.ModTime() // podman writes the file between the two steps of run
	}
	if c.pid == 0 {
		c.pid = pidIn(c.rec.pidFile())
		c.monitorPID = pidIn(c.rec.conmonFile())
	}
	os.Remove(c.rec.pidFile())
	os.Remove(c.rec.conmonFile())
	if p, ok := proctab.Find(c.pid); ok && strings.Contains(proctab.Cgroups(c.pid), c.id) {
		c.main = p.ID
	} else if ok && p.Parent == c.monitorPID {
		c.main = p.ID
	}
	if c.main.PID != 0 {
		c.oom = proctab.WatchOOM(c.main.PID)
		c.meter = proctab.NewMeter("/sys/fs/cgroup", proctab.Cgroups(c.main.PID), c.id)
	}
	if p, ok := proctab.Find(c.monitorPID); ok {
		c.monitor = p.ID
	}
}

// Created implements fleet.Creator.
func (c *container) Created() time.Time { return c.created }

// Consumed implements fleet.Metered.
func (c *container) Consumed() (cpu time.Duration, memory int64, ok bool) {
	u, ok := c.meter.Read()
	return u.CPU, u.Memory, ok
}

// PID implements fleet.Process.
func (c *container) PID() int { return c.pid }

// ContainerID implements fleet.Process.
func (c *container) ContainerID() string { return c.id }

// Stdin implements fleet.Process.
func (c *container) Stdin() io.WriteCloser { return c.stdin }

// Stdout implements fleet.Process.
func (c *container) Stdout() io.ReadCloser { return c.stdout }

// Stderr implements fleet.Process.
func (c *container) Stderr() io.ReadCloser { return c.stderr }

// Done implements fleet.Process.
func (c *container) Done() <-chan struct{} { return c.client }

// Ended implements fleet.Process. It checks PID 1 itself, because podman may
// take seconds to notice the end of a container.
func (c *container) Ended() bool {
	if c.main.PID != 0 {
		return !c.main.Alive()
	}
	if c.pid == 0 {
		return false
	}
	_, there := proctab.Find(c.pid) // started did not find it
	return !there
}

// Signal implements fleet.Process. On this host it signals the container's PID 1
// directly, which is much faster than through podman.
func (c *container) Signal(ctx context.Context, kill bool) error {
	c.requested.Store(true)
	sig, name := syscall.SIGTERM, "TERM"
	if kill {
		c.killed.Store(true)
		sig, name = syscall.SIGKILL, "KILL"
	}
	if c.main.PID != 0 {
		if err := proctab.Signal(c.main, sig); err == nil {
			return nil
		}
	}
	_, err := c.r.query(ctx, "kill", "--signal="+name, c.rec.name)
	if err == nil || isGone(err) || isNotRunning(err) {
		return nil
	}
	return fmt.Errorf("signal container %s: %w", c.rec.name, err)
}

// saysOneOf reports whether podman's message has one of these texts. Podman has
// no exit codes for them.
func saysOneOf(err error, words ...string) bool {
	ce := (*clientError)(nil)
	return errors.As(err, &ce) && slices.ContainsFunc(words, func(w string) bool { return strings.Contains(ce.reason, w) })
}

func isGone(err error) bool {
	return saysOneOf(err, "no such container", "no container with name or ID")
}

func isNotRunning(err error) bool {
	return saysOneOf(err, "is not running", "can only kill running containers", "container state improper")
}

// state is podman's state of a container.
type state struct {
	Status    string
	ExitCode  int
	OOMKilled bool
	PID       int `json:"Pid"`
	ConmonPID int `json:"ConmonPid"`
}

func (s state) ended() bool { return s.Status == "exited" || s.Status == "stopped" }

func (r *Runtime) inspect(ctx context.Context, name string) (state, error) {
	out, err := r.query(ctx, "container", "inspect", "--format={{json .State}}", name)
	if err != nil {
		return state{}, err
	}
	var s state
	if err := json.Unmarshal(out, &s); err != nil {
		return state{}, fmt.Errorf("podman inspect: %w", err)
	}
	return s, nil
}

// Exit implements fleet.Process.
func (c *container) Exit(ctx context.Context) fleet.Exit {
	c.mu.Lock()
	known := c.exit
	c.mu.Unlock()
	if known != nil {
		return *known
	}
	e, final := c.askExit(ctx)
	e.Requested = c.requested.Load()
	if final {
		c.mu.Lock()
		c.exit = &e
		c.mu.Unlock()
	}
	return e
}

// askExit waits until PID 1 has ended and then asks podman for its exit. final
// is false if ctx ended first.
func (c *container) askExit(ctx context.Context) (e fleet.Exit, final bool) {
	unknown := func(format string, args ...any) fleet.Exit {
		return fleet.Exit{Code: -1, Err: fmt.Sprintf(format, args...)}
	}
	if c.main.PID != 0 {
		if err := proctab.WaitGone(ctx, c.main); err != nil {
			return unknown("its first process is still running: %v", context.Cause(ctx)), false
		}
	}
	oom := c.oom.Killed() // podman will remove the cgroup
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		// Checked before podman is asked: a monitor that ends in between has
		// written the exit already.
		monitored := c.monitor.PID == 0 || c.monitor.Alive()
		s, err := c.r.inspect(ctx, c.rec.name)
		switch {
		case err == nil && s.ended():
			return c.exitOf(s, oom), true
		case err != nil && ctx.Err() == nil && isGone(err):
			return unknown("somebody else removed the container"), true
		case err == nil && !monitored:
			// Podman would report "running" for ever.
			return unknown("conmon, the container's monitor, is gone"), true
		}
		if proctab.Sleep(ctx, wait) != nil {
			if err == nil {
				err = fmt.Errorf("podman says %q", s.Status)
			}
			return unknown("%v", err), false
		}
	}
}

// exitOf converts podman's exit code, which is 128 + n for signal n.
func (c *container) exitOf(s state, oom bool) fleet.Exit {
	e := fleet.Exit{Code: s.ExitCode, OOM: s.OOMKilled}
	if sig := syscall.Signal(s.ExitCode - 128); s.ExitCode > 128 && fatal[sig] {
		e.Code, e.Signal = -1, unix.SignalName(sig)
		// Podman rarely notices, and leaves OOMKilled false.
		e.OOM = e.OOM || oom && sig == syscall.SIGKILL && !c.killed.Load()
	}
	return e
}

// fatal holds the signals that end a process by default. Other codes above 128
// are a program's own.
var fatal = map[syscall.Signal]bool{
	syscall.SIGHUP: true, syscall.SIGINT: true, syscall.SIGQUIT: true, syscall.SIGILL: true, syscall.SIGTRAP: true,
	syscall.SIGABRT: true, syscall.SIGBUS: true, syscall.SIGFPE: true, syscall.SIGKILL: true, syscall.SIGSEGV: true,
	syscall.SIGPIPE: true, syscall.SIGALRM: true, syscall.SIGTERM: true, syscall.SIGXCPU: true, syscall.SIGSYS: true,
}

// Hint implements fleet.Hinter.
func (c *container) Hint(e fleet.Exit, stderr []string) string {
	return hint(c.template, strings.Join(stderr, "\n"), e.Code)
}
