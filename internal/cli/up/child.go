package up

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	lifelineFlag = "--lifeline-fd"
	lifelineFD   = "3" // the first of ExtraFiles

	startTimeout = 60 * time.Second // until a child has printed its address
	drainTimeout = time.Second      // until the output of a dead child is read
	maxAddress   = 64 << 10         // bytes of the line with the address
	quotedLines  = 8                // lines of a dead child's log to quote
)

// launcher starts programs as child processes. Each child inherits the lifeline,
// and so notices the end of this process.
type launcher struct {
	dir      *dataDir
	env      []string
	lifeline *os.File // the read end, which children inherit
	cut      func()   // closes the write end, which ends the lifeline
	force    <-chan struct{}
}

func newLauncher(dir *dataDir, env []string, force <-chan struct{}) (*launcher, error) {
	if err := os.MkdirAll(filepath.Join(dir.path, "logs"), 0o700); err != nil {
		return nil, fmt.Errorf("directory for logs: %w", err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("lifeline: %w", err)
	}
	cut := sync.OnceFunc(func() { write.Close() })
	return &launcher{dir: dir, env: childEnv(env), lifeline: read, cut: cut, force: force}, nil
}

func (l *launcher) close() {
	l.cut()
	l.lifeline.Close()
}

// child is one process of a program.
type child struct {
	name     string
	cmd      *exec.Cmd
	log      *logFile
	lifeline bool // program.lifeline
	started  time.Time
	addr     address
	exited   chan struct{} // closed once the process is reaped
	err      error         // result of Wait, once exited is closed
}

// spawn starts a command in a process group of its own. When the process has
// ended it calls after, if that is not nil, and then closes exited.
func (l *launcher) spawn(name string, cmd *exec.Cmd, after func()) (*child, error) {
	log, err := openLog(filepath.Join(l.dir.path, "logs", name+".log"))
	if err != nil {
		return nil, err
	}
	cmd.Env = l.env
	cmd.Stderr = log.file
	cmd.ExtraFiles = []*os.File{l.lifeline}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		log.close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	c := &child{name: name, cmd: cmd, log: log, started: time.Now(), exited: make(chan struct{})}
	go func() { // ends with the process, which the owner of the child waits for
		c.err = cmd.Wait()
		if after != nil {
			after()
		}
		close(c.exited)
	}()
	if err := l.dir.recordChild(name, cmd.Process.Pid); err != nil {
		c.kill()
		<-c.exited
		log.close()
		return nil, fmt.Errorf("record the pid of %s: %w", name, err)
	}
	return c, nil
}

// start starts a program and waits for its address. If it fails, or ctx ends
// first, the process is gone when start returns.
func (l *launcher) start(ctx context.Context, p program, had address) (*child, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	line, drained := make(chan []byte, 1), make(chan struct{})
	go func() { // ends with closeReader, which waits for it
		defer close(drained)
		r := bufio.NewReaderSize(read, maxAddress)
		if first, err := r.ReadSlice('\n'); err == nil {
			line <- bytes.TrimSpace(bytes.Clone(first))
		}
		_, _ = io.Copy(io.Discard, r)
	}()
	closeReader := func() {
		// The last output may still be in the pipe. A child of the process may keep the
		// pipe open.
		patience := time.NewTimer(drainTimeout)
		defer patience.Stop()
		select {
		case <-drained:
		case <-patience.C:
		}
		read.Close()
		<-drained
	}
	cmd := exec.Command(p.path, p.args(had)...)
	cmd.Stdout = write
	c, err := l.spawn(p.name, cmd, closeReader)
	write.Close()
	if err != nil {
		closeReader()
		return nil, err
	}
	c.lifeline = p.lifeline
	if c.addr, err = c.waitForAddress(ctx, p, line); err != nil {
		l.stop(ctx, c)
		if ctx.Err() == nil {
			err = fmt.Errorf("%s did not start: %w", p.name, err)
			if errors.Is(err, errExited) {
				err = fmt.Errorf("%s did not start: %s", p.name, c.exitText())
			}
		}
		c.log.close()
		return nil, err
	}
	return c, nil
}

// errExited means that a child ended before it printed its address.
var errExited = errors.New("exited")

// waitForAddress waits for the line with the child's address.
func (c *child) waitForAddress(ctx context.Context, p program, line <-chan []byte) (address, error) {
	patience := time.NewTimer(startTimeout)
	defer patience.Stop()
	select {
	case first := <-line:
		return parseAddress(first, p)
	case <-c.exited:
		select {
		case first := <-line: // the last thing that it did
			return parseAddress(first, p)
		default:
			return address{}, errExited
		}
	case <-patience.C:
		return address{}, fmt.Errorf("it printed no address within %s", startTimeout)
	case <-ctx.Done():
		return address{}, context.Cause(ctx)
	}
}

func parseAddress(line []byte, p program) (address, error) {
	var addr address
	if err := json.Unmarshal(line, &addr); err != nil {
		return address{}, fmt.Errorf("it printed %q instead of its address", line)
	}
	if missing := p.complete(addr); missing != "" {
		return address{}, fmt.Errorf("it printed no address of %s, but %q", missing, line)
	}
	return addr, nil
}

// stop stops a child. If ctx has ended, all children of its kind stop, and those
// with a lifeline stop by its end. Otherwise the child gets a signal.
func (l *launcher) stop(ctx context.Context, c *child) {
	if c.lifeline && ctx.Err() != nil {
		l.cut()
		c.waitOrKill(workerStopTimeout, l.force)
		return
	}
	c.terminate()
	c.waitOrKill(controllerStopTimeout, l.force)
}

// terminate sends TERM to the child. It does not signal the process group: the
// child must stop its own children itself.
func (c *child) terminate() {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		c.kill()
	}
}

// waitOrKill waits for the end of a child that is stopping. It kills the process
// group after the timeout, or when force is closed. The child is reaped when
// waitOrKill returns.
func (c *child) waitOrKill(patience time.Duration, force <-chan struct{}) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-c.exited:
		return
	case <-timer.C:
	case <-force:
		if c.lifeline {
			c.hurry()
		}
	}
	c.kill()
	<-c.exited
}

// hurry sends TERM to a child whose lifeline has ended, so that it stops without
// waiting, and waits a moment for its end. A killed worker would leave its
// replicas behind.
func (c *child) hurry() {
	timer := time.NewTimer(forceTimeout)
	defer timer.Stop()
	again := time.NewTicker(100 * time.Millisecond) // a TERM before it noticed the end of its lifeline does not count
	defer again.Stop()
	for {
		c.terminate()
		select {
		case <-c.exited:
			return
		case <-timer.C:
			return
		case <-again.C:
		}
	}
}

func (c *child) kill() {
	// The process is not reaped, or was just now, so the id still belongs to its
	// group. An error means that the group is gone already.
	_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
}

// exitText says how the child ended and quotes the end of its log. After a KILL
// the log is left out, since it cannot explain that.
func (c *child) exitText() string {
	how := "exit code 0"
	if c.err != nil {
		how = c.err.Error()
		if exit, ok := errors.AsType[*exec.ExitError](c.err); ok {
			how = fmt.Sprintf("exit code %d", exit.ExitCode())
			if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
				how = "killed by " + unix.SignalName(status.Signal())
				if status.Signal() == syscall.SIGKILL {
					return how
				}
			}
		}
	}
	if last := c.log.tail(quotedLines); len(last) > 0 {
		return how + "\n  " + strings.Join(last, "\n  ")
	}
	return how
}

// run runs a program to its end and returns its output.
func (l *launcher) run(ctx context.Context, name, path string, args ...string) ([]byte, error) {
	var stdout bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Stdout = &stdout
	cmd.WaitDelay = time.Second // in case a process that it started keeps stdout open
	c, err := l.spawn(name, cmd, nil)
	if err != nil {
		return nil, err
	}
	defer c.log.close()
	select {
	case <-c.exited:
	case <-ctx.Done():
		c.terminate()
		c.waitOrKill(stopTimeout, l.force) // it may be starting a container
		return nil, context.Cause(ctx)
	}
	if c.err != nil {
		return nil, errors.New(c.exitText())
	}
	return bytes.TrimSpace(stdout.Bytes()), nil
}
