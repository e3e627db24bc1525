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

	startPatience = 60 * time.Second // from a child's start to its address
	maxAddress    = 64 << 10         // bytes of the line with the address
	quotedLines   = 8                // of a dead child's log
)

// launcher starts programs as children that cannot outlive this process
// unnoticed.
type launcher struct {
	dir      *dataDir
	env      []string
	lifeline *os.File // what children inherit
	cut      func()   // ends the lifeline: closes its write end, which is closed on exec
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

// child is one life of a program.
type child struct {
	name     string
	cmd      *exec.Cmd
	log      *logFile
	lifeline bool // as its program has it
	started  time.Time
	addr     address
	exited   chan struct{} // closed once it is reaped
	err      error         // how it ended, once exited is closed
}

// spawn starts a command in a process group of its own. The function after, if
// any, is called once the process is over, before exited is closed.
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
	go func() { // ends with the process, which whoever has the child waits for
		c.err = cmd.Wait()
		if after != nil {
			after()
		}
		close(c.exited)
	}()
	if err := l.dir.started(name, cmd.Process.Pid); err != nil {
		c.kill()
		<-c.exited
		log.close()
		return nil, fmt.Errorf("note the pid of %s: %w", name, err)
	}
	return c, nil
}

// start starts a program and waits for its address. When it has none to tell,
// or ctx ends first, nothing of it is left when start returns.
func (l *launcher) start(ctx context.Context, p program, had address) (*child, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	line := make(chan []byte, 1)
	var reader sync.WaitGroup
	reader.Go(func() {
		r := bufio.NewReaderSize(read, maxAddress)
		if first, err := r.ReadSlice('\n'); err == nil {
			line <- bytes.TrimSpace(bytes.Clone(first))
		}
		_, _ = io.Copy(io.Discard, r) // until it is closed
	})
	closeReader := func() {
		read.Close()
		reader.Wait()
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
	if c.addr, err = c.listens(ctx, p, line); err != nil {
		l.stop(ctx, c)
		if ctx.Err() == nil {
			err = fmt.Errorf("%s did not start: %w", p.name, err)
			if errors.Is(err, errExited) {
				err = fmt.Errorf("%s did not start: %s", p.name, c.obituary())
			}
		}
		c.log.close()
		return nil, err
	}
	return c, nil
}

// errExited is met when a child is over before it listened.
var errExited = errors.New("exited")

// listens waits for the line with the child's address.
func (c *child) listens(ctx context.Context, p program, line <-chan []byte) (address, error) {
	patience := time.NewTimer(startPatience)
	defer patience.Stop()
	select {
	case first := <-line:
		var addr address
		if err := json.Unmarshal(first, &addr); err != nil {
			return address{}, fmt.Errorf("it told no address, but %q", first)
		}
		if missing := p.complete(addr); missing != "" {
			return address{}, fmt.Errorf("it told no address of %s, but %q", missing, first)
		}
		return addr, nil
	case <-c.exited:
		return address{}, errExited
	case <-patience.C:
		return address{}, fmt.Errorf("it told no address within %s", startPatience)
	case <-ctx.Done():
		return address{}, context.Cause(ctx)
	}
}

// stop stops a child: in the way of its program when ctx is over, which ends
// for all of its kind at once, and by a signal otherwise.
func (l *launcher) stop(ctx context.Context, c *child) {
	if c.lifeline && ctx.Err() != nil {
		l.cut()
		c.end(workerPatience, l.force)
		return
	}
	c.tell()
	c.end(controllerPatience, l.force)
}

// tell asks the child to stop. The program alone is told: what it has started
// is its own to end.
func (c *child) tell() {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		c.kill()
	}
}

// end waits for the end of a child that was told, and kills its group when it
// does not come, or when force says so. The child is reaped when end returns.
func (c *child) end(patience time.Duration, force <-chan struct{}) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-c.exited:
		return
	case <-timer.C:
	case <-force:
		if c.lifeline {
			c.hasten()
		}
	}
	c.kill()
	<-c.exited
}

// hasten tells a child whose lifeline has ended to wait for nothing, and waits
// shortly for its end: a worker that is killed leaves its replicas behind.
func (c *child) hasten() {
	timer := time.NewTimer(forcePatience)
	defer timer.Stop()
	again := time.NewTicker(100 * time.Millisecond) // it may not have seen the end of its lifeline before
	defer again.Stop()
	for {
		c.tell()
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
	// It is not reaped yet, or just now: the id is still its group's own. No
	// such group is what was wanted.
	_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
}

// obituary tells how the child ended and quotes its last words, which say
// nothing when somebody killed it.
func (c *child) obituary() string {
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

// output runs a program to its end and returns what it printed.
func (l *launcher) output(ctx context.Context, name, path string, args ...string) ([]byte, error) {
	var stdout bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Stdout = &stdout
	cmd.WaitDelay = time.Second // should something of it keep stdout
	c, err := l.spawn(name, cmd, nil)
	if err != nil {
		return nil, err
	}
	defer c.log.close()
	select {
	case <-c.exited:
	case <-ctx.Done():
		c.tell()
		c.end(stopPatience, l.force) // it may be in the midst of starting a container
		return nil, context.Cause(ctx)
	}
	if c.err != nil {
		return nil, errors.New(c.obituary())
	}
	return bytes.TrimSpace(stdout.Bytes()), nil
}
