//go:build linux

package partition

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long anything is waited for that the test says nothing else
// about. The machine may be very busy with other tests.
const patience = 60 * time.Second

// Process is one of the programs in a namespace, running or over.
type Process struct {
	t      testing.TB
	name   string // of the host
	log    string // file of its stderr
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // how it ended, once exited is closed
}

// start runs a program until it has told its addresses. Its stderr is added to
// the file log.
func start(t testing.TB, ns, name, log string, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{t: t, name: name, log: log, cmd: cmd, exited: make(chan struct{})}
	stderr, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr, cmd.Stdout = stderr, write
	// Should the test binary die, its children die too. The signal comes with
	// the death of the thread that started them, so that thread waits for them.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	begun := make(chan error, 1)
	go func() { // ends with the process
		var started bool
		err := inside(ns, func() error {
			err := cmd.Start()
			stderr.Close()
			write.Close()
			if err != nil {
				return err
			}
			started = true
			begun <- nil
			p.err = cmd.Wait()
			close(p.exited)
			return nil
		})
		if !started {
			begun <- err
		}
	}()
	if err := <-begun; err != nil {
		read.Close()
		t.Fatalf("start %s: %v", name, err)
	}
	up := make(chan struct{}, 1)
	go func() { // ends with the process
		defer read.Close()
		r := bufio.NewReader(read)
		if line, err := r.ReadString('\n'); err == nil && strings.HasPrefix(line, "{") {
			up <- struct{}{}
		}
		_, _ = io.Copy(io.Discard, r)
	}()
	select {
	case <-up:
	case <-p.exited:
		t.Fatalf("%s did not start: %v\n%s", name, p.err, tail(log, 30))
	case <-time.After(patience):
		p.Kill9()
		t.Fatalf("%s told no address within %s\n%s", name, patience, tail(log, 30))
	}
	return p
}

// Kill9 kills the process and waits until it is gone.
func (p *Process) Kill9() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	<-p.exited
}

// Stop tells the process to stop, and again when it waits for others, and
// wants it to end in time and without an error.
func (p *Process) Stop() {
	p.t.Helper()
	if !p.Running() {
		return
	}
	p.signal(syscall.SIGTERM)
	begin := time.Now()
	select {
	case <-p.exited:
		p.t.Logf("%s stopped after %s", p.name, time.Since(begin).Round(time.Millisecond))
	case <-time.After(patience):
		p.signal(syscall.SIGQUIT) // its goroutines go to the log
		select {
		case <-p.exited:
		case <-time.After(5 * time.Second):
			p.Kill9()
		}
		p.t.Errorf("%s goes on %s after SIGTERM\n%s", p.name, patience, tail(p.log, 600))
		return
	}
	if p.err != nil {
		p.t.Errorf("%s ended with %v after SIGTERM\n%s", p.name, p.err, tail(p.log, 30))
	}
}

func (p *Process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("signal %s: %v", p.name, err)
	}
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

// tail returns the last lines of a file.
func tail(file string, lines int) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return filepath.Base(file) + ":\n  " + strings.Join(all[max(0, len(all)-lines):], "\n  ")
}

// eventually asks until it is told nil, and fails the test with the last
// refusal when patience ends.
func eventually(t testing.TB, what string, ask func() error) {
	t.Helper()
	over := time.NewTimer(patience)
	defer over.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	begin := time.Now()
	for {
		err := ask()
		if err == nil {
			t.Logf("%s after %s", what, time.Since(begin).Round(time.Millisecond))
			return
		}
		select {
		case <-over.C:
			t.Fatalf("%s: not within %s: %v", what, patience, err)
		case <-tick.C:
		}
	}
}

// throughout asks again and again for this long, and wants nil each time.
func throughout(t testing.TB, d time.Duration, what string, ask func() error) {
	t.Helper()
	over := time.NewTimer(d)
	defer over.Stop()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	begin := time.Now()
	for {
		if err := ask(); err != nil {
			t.Fatalf("%s: no more after %s: %v", what, time.Since(begin).Round(time.Millisecond), err)
		}
		select {
		case <-over.C:
			return
		case <-tick.C:
		}
	}
}

// differ is an error unless two things print alike.
func differ(what string, got, want any) error {
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		return fmt.Errorf("%s: got %s, want %s", what, g, w)
	}
	return nil
}
