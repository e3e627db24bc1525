//go:build linux

package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Process is one of the programs, running or over.
type Process struct {
	Name string
	Addr Address
	Log  string // file of its stderr

	t      testing.TB
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // how it ended, once exited is closed
}

// Address is what controllers and workers print first.
type Address struct {
	HTTP   string `json:"http"`
	GRPC   string `json:"grpc"`
	Gossip string `json:"gossip"`
	Raft   string `json:"raft"`
}

// patience is how long anything is waited for that the test says nothing else
// about. The machine may be very busy with other tests.
const patience = 60 * time.Second

// command prepares a program. Its stderr is added to the file log.
func command(t testing.TB, name, log string, args ...string) *Process {
	t.Helper()
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program(name), args...)
	cmd.Stderr = f
	cmd.Env = environ()
	// Should the test binary die, its children are told to stop in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	return &Process{Name: name, Log: log, t: t, cmd: cmd, exited: make(chan struct{})}
}

// run starts the process. The death signal comes with the death of the thread
// that started it, so that thread waits for the process.
func (p *Process) run() error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		p.cmd.Stderr.(*os.File).Close()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
		}
		close(p.exited)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	return nil
}

// start runs a program until it has told its addresses.
func start(t testing.TB, name, log string, args ...string) *Process {
	t.Helper()
	p := command(t, name, log, args...)
	p.start()
	return p
}

func (p *Process) start() {
	p.t.Helper()
	if err := p.tryStart(); err != nil {
		p.t.Fatal(err)
	}
}

// tryStart is start for those that may fail.
func (p *Process) tryStart() error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	p.cmd.Stdout = write
	err = p.run()
	write.Close()
	if err != nil {
		return err
	}
	lines := make(chan string, 1)
	go func() { // ends with the process
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
			return fmt.Errorf("%s told no address, but %q", p.Name, line)
		}
		return nil
	case <-p.exited:
		return fmt.Errorf("%s did not start: %v\n%s", p.Name, p.cmd.ProcessState, tail(p.Log, 30))
	case <-time.After(patience):
		p.Kill9()
		return fmt.Errorf("%s told no address within %s\n%s", p.Name, patience, tail(p.Log, 30))
	}
}

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal to the process.
func (p *Process) Signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("signal %s: %v", p.Name, err)
	}
}

// Kill9 kills the process and waits until it is gone.
func (p *Process) Kill9() {
	p.Signal(syscall.SIGKILL)
	<-p.exited
}

// Running tells whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Stop tells the process to stop, and wants it to do so in time and without
// an error. One that has ended already is left alone.
func (p *Process) Stop() {
	p.t.Helper()
	if !p.Running() {
		return
	}
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
		if p.err != nil {
			p.t.Errorf("%s ended with %v after SIGTERM\n%s", p.Name, p.err, tail(p.Log, 30))
		}
	case <-time.After(patience):
		p.t.Errorf("%s goes on %s after SIGTERM\n%s", p.Name, patience, tail(p.Log, 30))
		p.Kill9()
	}
}

// tail returns the last lines of a file.
func tail(file string, lines int) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return filepath.Base(file) + ":\n  " + strings.Join(all[max(0, len(all)-lines):], "\n  ")
}

// environ is the environment of programs, with the podman settings of this
// repository unless the caller has some.
func environ() []string {
	env := os.Environ()
	if os.Getenv("CONTAINERS_CONF") == "" {
		env = append(env, "CONTAINERS_CONF="+filepath.Join(root, "deploy/images/containers.conf"))
	}
	return env
}

// Eventually asks until it is told nil, and fails the test with the last
// refusal when the time is over.
func Eventually(t testing.TB, within time.Duration, ask func() error) {
	t.Helper()
	if err := eventually(within, ask); err != nil {
		t.Fatal(err)
	}
}

func eventually(within time.Duration, ask func() error) error {
	over := time.NewTimer(within)
	defer over.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-over.C:
			return fmt.Errorf("not within %s: %w", within, err)
		case <-tick.C:
		}
	}
}
