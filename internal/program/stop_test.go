package program

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// The test binary also serves as the program that gets the signals.
func TestMain(m *testing.M) {
	if how := os.Getenv("PROGRAM_TEST_LIFELINE"); how != "" {
		os.Exit(stopped(how))
	}
	os.Exit(m.Run())
}

// stopped prints each request to stop to stdout. It ends when its stdin does.
func stopped(how string) int {
	lifeline := -1
	if how == "yes" {
		lifeline = 3
	}
	ctx, faster, release := Stops(context.Background(), lifeline)
	defer release()
	fmt.Println("runs")
	<-ctx.Done()
	fmt.Println("stops:", context.Cause(ctx))
	<-faster.Hurry
	fmt.Println("hurries")
	if how == "yes" {
		go func() { // until the process ends
			<-faster.Now
			fmt.Println("waits for nothing")
		}()
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test closes it
	fmt.Println("ends")
	return 0
}

type program struct {
	t        *testing.T
	cmd      *exec.Cmd
	out      *bufio.Scanner
	in       io.Closer
	lifeline *os.File
}

func run(t *testing.T, lifeline bool) *program {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, cmd: exec.CommandContext(t.Context(), exe)}
	p.cmd.Env = append(os.Environ(), "PROGRAM_TEST_LIFELINE=no")
	p.cmd.Stderr = t.Output()
	if lifeline {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer read.Close()
		p.cmd.Env[len(p.cmd.Env)-1] = "PROGRAM_TEST_LIFELINE=yes"
		p.cmd.ExtraFiles, p.lifeline = []*os.File{read}, write
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewScanner(stdout)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(time.Minute, func() { p.cmd.Process.Kill() })
	t.Cleanup(func() { limit.Stop() })
	p.says("runs")
	return p
}

func (p *program) says(want string) {
	p.t.Helper()
	if p.out.Scan(); p.out.Text() != want {
		p.t.Fatalf("it said %q, want %q", p.out.Text(), want)
	}
}

func (p *program) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

func (p *program) ended(want string) {
	p.t.Helper()
	p.in.Close()
	for p.out.Scan() { // to the end, which Wait would cut off
		continue
	}
	_ = p.cmd.Wait()
	if got := p.cmd.ProcessState.String(); got != want {
		p.t.Errorf("it ended with %s, want %s", got, want)
	}
}

func TestSignalsCopy(t *testing.T) {
	var known Signals
	now := time.Unix(0, 0)
	for _, c := range []struct {
		name  string
		s     os.Signal
		after time.Duration // since the signal before
		want  bool
	}{
		{"the first signal", syscall.SIGINT, 0, false},
		{"the copy for the process group", syscall.SIGINT, time.Millisecond, true},
		{"another copy, from the parent", syscall.SIGINT, 40 * time.Millisecond, true},
		{"another signal", syscall.SIGTERM, time.Millisecond, false},
		{"the same signal, later", syscall.SIGTERM, 200 * time.Millisecond, false},
	} {
		now = now.Add(c.after)
		if got := known.Copy(c.s, now); got != c.want {
			t.Errorf("%s: Copy = %v, want %v", c.name, got, c.want)
		}
	}
}

func TestStops(t *testing.T) {
	t.Run("a second signal hurries, a third kills", func(t *testing.T) {
		p := run(t, false)
		p.signal(syscall.SIGTERM)
		p.says("stops: signal: terminated")
		p.signal(syscall.SIGINT)
		p.says("hurries")
		p.signal(syscall.SIGTERM)
		p.ended("signal: terminated")
	})
	t.Run("with a lifeline signals never kill", func(t *testing.T) {
		p := run(t, true)
		defer p.lifeline.Close()
		p.signal(syscall.SIGINT)
		p.says("stops: signal: interrupt")
		p.signal(syscall.SIGTERM)
		p.says("hurries")
		p.signal(syscall.SIGINT)
		p.says("waits for nothing")
		p.in.Close()
		p.says("ends")
		p.ended("exit status 0")
	})
	t.Run("the end of the lifeline hurries", func(t *testing.T) {
		p := run(t, true)
		p.lifeline.Close()
		p.says("stops: the lifeline ended")
		p.says("hurries")
		p.signal(syscall.SIGTERM)
		p.says("waits for nothing")
		p.in.Close()
		p.says("ends")
		p.ended("exit status 0")
	})
	t.Run("also during a stop", func(t *testing.T) {
		p := run(t, true)
		p.signal(syscall.SIGTERM)
		p.says("stops: signal: terminated")
		p.lifeline.Close()
		p.says("hurries")
		p.ended("exit status 0")
	})
	t.Run("nothing of it stays", func(t *testing.T) {
		for range 20 {
			ctx, faster, release := Stops(t.Context(), -1)
			release()
			release()
			if ctx.Err() == nil {
				t.Error("released and not over")
			}
			select {
			case <-faster.Hurry:
				t.Error("released in a hurry")
			default:
			}
		}
	})
}
