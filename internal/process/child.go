package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/proctab"
	"golang.org/x/sys/unix"
)

// child is one replica. It implements fleet.Process.
type child struct {
	marker                marker
	cmd                   *exec.Cmd
	stdin, stdout, stderr *os.File
	done                  chan struct{} // closed when the first process has been waited for
	oom                   proctab.OOMWatch
	table                 *tableCache

	mu        sync.Mutex
	reaped    bool // the kernel may have given the pid, and the group's number, to another
	requested bool
	exit      fleet.Exit // set before done is closed
}

// spawn starts cmd with three pipes and the goroutine that waits for it.
func spawn(cmd *exec.Cmd, m marker, table *tableCache) (*child, error) {
	var ours, theirs [3]*os.File
	for i := range ours {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll(ours[:])
			closeAll(theirs[:])
			return nil, fmt.Errorf("make pipe: %w", err)
		}
		if ours[i], theirs[i] = r, w; i == 0 {
			ours[i], theirs[i] = w, r
		}
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs[0], theirs[1], theirs[2]
	err := cmd.Start()
	closeAll(theirs[:])
	if err != nil {
		closeAll(ours[:])
		// The caller's message has the path.
		if pe := (*os.PathError)(nil); errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, err
	}
	c := &child{
		marker: m,
		cmd:    cmd,
		stdin:  ours[0], stdout: ours[1], stderr: ours[2],
		done: make(chan struct{}),
		oom:  proctab.WatchOOM(cmd.Process.Pid), table: table,
	}
	go c.wait()
	return c, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

func (c *child) wait() {
	defer close(c.done)
	awaitExit(c.cmd)

	c.mu.Lock()
	defer c.mu.Unlock()
	// The first process is a zombie (see awaitExit), so the group's number is
	// still ours. The rest of the group must not outlive it.
	_ = unix.Kill(-c.cmd.Process.Pid, unix.SIGKILL)
	_ = c.cmd.Wait() // exitOf reads the state instead of the error
	c.reaped = true
	c.exit = exitOf(c.cmd.ProcessState)
	c.exit.Requested = c.requested
	c.exit.OOM = c.exit.Signal == "SIGKILL" && !c.requested && c.oom.Killed()
}

func exitOf(state *os.ProcessState) fleet.Exit {
	if state == nil {
		return fleet.Exit{Code: -1, Err: "the state of the process could not be read"}
	}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return fleet.Exit{Code: -1, Signal: unix.SignalName(ws.Signal())}
	}
	return fleet.Exit{Code: state.ExitCode()}
}

// PID implements fleet.Process.
func (c *child) PID() int { return c.cmd.Process.Pid }

// ContainerID implements fleet.Process.
func (c *child) ContainerID() string { return "" }

// Stdin implements fleet.Process.
func (c *child) Stdin() io.WriteCloser { return c.stdin }

// Stdout implements fleet.Process.
func (c *child) Stdout() io.ReadCloser { return c.stdout }

// Stderr implements fleet.Process.
func (c *child) Stderr() io.ReadCloser { return c.stderr }

// Done implements fleet.Process.
func (c *child) Done() <-chan struct{} { return c.done }

// Ended implements fleet.Process.
func (c *child) Ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// Signal implements fleet.Process.
func (c *child) Signal(_ context.Context, kill bool) error {
	sig := unix.SIGTERM
	if kill {
		sig = unix.SIGKILL
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return nil
	}
	c.requested = true
	if err := unix.Kill(-c.cmd.Process.Pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process group %d: %w", c.cmd.Process.Pid, err)
	}
	return nil
}

// Exit implements fleet.Process.
func (c *child) Exit(ctx context.Context) fleet.Exit {
	select {
	case <-c.done:
		return c.exit
	default:
	}
	select {
	case <-c.done:
		return c.exit
	case <-ctx.Done():
		return fleet.Exit{Code: -1, Err: "the process is still running: " + context.Cause(ctx).Error()}
	}
}

// Remove implements fleet.Process.
func (c *child) Remove(ctx context.Context) error {
	// The family is read before the kill. Afterwards, orphans can be found only
	// by their markers, and a process may have cleared its environment.
	known := proctab.Family(proctab.Table(), c.root())
	if err := c.Signal(ctx, true); err != nil {
		return err
	}
	_, err := proctab.KillAll(ctx, func() []proctab.ID {
		return leftovers(known, func(m marker) bool { return m == c.marker })
	})
	if err != nil {
		return fmt.Errorf("remove replica %s: %w", c.marker.replica, err)
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("remove replica %s: process %d does not die: %w", c.marker.replica, c.cmd.Process.Pid, context.Cause(ctx))
	}
}

func (c *child) root() map[int]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return nil
	}
	return map[int]bool{c.cmd.Process.Pid: true}
}
