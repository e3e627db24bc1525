//go:build linux

package harness

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Process is a program that is prepared, runs or has ended.
type Process struct {
	Name string
	Addr Address // as printed by the program, once Start has returned
	Log  string  // the file of its stderr
	// Cmd may be changed before the start. After the start its stderr is closed in
	// this process.
	Cmd *exec.Cmd
	// Thread runs f on the thread that starts the program, and returns when f does.
	// Nil means any thread.
	Thread func(f func() error) error

	t      testing.TB
	exited chan struct{}
	err    error // how it ended, once exited is closed
}

// Address is the first line of output of controllers and workers.
type Address struct {
	HTTP   string `json:"http"`
	GRPC   string `json:"grpc"`
	Gossip string `json:"gossip"`
	Raft   string `json:"raft"`
}

// Command prepares a program. Its stderr is appended to the file log. The program
// gets a SIGTERM if the test binary dies.
func Command(t testing.TB, name, path, log string, args ...string) *Process {
	t.Helper()
	stderr, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Stderr, cmd.Env = stderr, os.Environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	return &Process{Name: name, Log: log, Cmd: cmd, Thread: anyThread, t: t, exited: make(chan struct{})}
}

func anyThread(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return f()
}

// Run starts the program. The death signal is sent when the thread that started the
// program ends, so that thread waits for the program.
func (p *Process) Run() error {
	started := make(chan error, 2)
	go func() { // ends with the program
		defer close(p.exited)
		started <- p.Thread(func() error {
			err := p.Cmd.Start()
			p.Cmd.Stderr.(*os.File).Close()
			if err == nil {
				started <- nil
				p.err = p.Cmd.Wait()
			}
			return err
		})
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	return nil
}

// Start starts the program and waits until it has printed its addresses.
func (p *Process) Start() {
	p.t.Helper()
	if err := p.TryStart(); err != nil {
		p.t.Fatal(err)
	}
}

// TryStart is Start for programs that may fail to start.
func (p *Process) TryStart() error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	p.Cmd.Stdout = write
	err = p.Run()
	write.Close()
	if err != nil {
		read.Close()
		return err
	}
	lines := make(chan string, 1)
	go func() { // ends with the program
		defer read.Close()
		r := bufio.NewReader(read)
		if line, err := r.ReadString('\n'); err == nil {
			lines <- line
		}
		_, _ = io.Copy(io.Discard, r)
	}()
	select {
	case line := <-lines:
		if err := json.Unmarshal([]byte(line), &p.Addr); err != nil {
			p.Kill9()
			return fmt.Errorf("%s printed no address, but %q", p.Name, line)
		}
		return nil
	case <-p.exited:
		return fmt.Errorf("%s did not start: %v\n%s", p.Name, p.Cmd.ProcessState, Tail(p.Log, 30))
	case <-time.After(Patience):
		p.Kill9()
		return fmt.Errorf("%s printed no address within %s\n%s", p.Name, Patience, Tail(p.Log, 30))
	}
}

// PID returns the process's id.
func (p *Process) PID() int { return p.Cmd.Process.Pid }

// Signal sends a signal to the process, unless it has ended.
func (p *Process) Signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.Cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("signal %s: %v", p.Name, err)
	}
}

// Kill9 kills the process and waits until it is gone.
func (p *Process) Kill9() {
	p.t.Helper()
	p.Signal(syscall.SIGKILL)
	<-p.exited
}

// Exited returns a channel that is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Err returns how the process ended, once Exited is closed.
func (p *Process) Err() error { return p.err }

// Running reports whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Stop asks the process to stop, and fails the test unless it stops in time and
// without an error. It does nothing if the process has ended already. A process that
// does not stop writes its goroutines to its log.
func (p *Process) Stop() {
	p.t.Helper()
	if !p.Running() {
		return
	}
	p.Signal(syscall.SIGTERM)
	begin := time.Now()
	select {
	case <-p.exited:
		p.t.Logf("%s stopped after %s", p.Name, time.Since(begin).Round(time.Millisecond))
	case <-time.After(Patience):
		p.Signal(syscall.SIGQUIT)
		select {
		case <-p.exited:
		case <-time.After(5 * time.Second):
			p.Kill9()
		}
		p.t.Errorf("%s goes on %s after SIGTERM\n%s", p.Name, Patience, Tail(p.Log, 600))
		return
	}
	if p.err != nil {
		p.t.Errorf("%s ended with %v after SIGTERM\n%s", p.Name, p.err, Tail(p.Log, 30))
	}
}

// StopAll stops processes at once, and waits for them.
func StopAll(processes ...*Process) {
	var stopping sync.WaitGroup
	for _, p := range processes {
		stopping.Go(p.Stop)
	}
	stopping.Wait()
}
