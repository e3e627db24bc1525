//go:build linux

package e2e

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"
	"testing"
)

// said is the output of a command, and its exit code.
type said struct {
	out, err string
	code     int
}

// cli runs the mcpfleet command, or another program, to its end.
func cli(t testing.TB, name, stdin string, args ...string) said {
	t.Helper()
	cmd := exec.Command(program(name), args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = environ()
	var out, bad bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &bad
	err := cmd.Run()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		t.Fatal(err)
	}
	return said{out.String(), bad.String(), cmd.ProcessState.ExitCode()}
}

// cli runs a command with the addresses of all living controllers.
func (p *Plane) cli(stdin string, args ...string) said {
	p.t.Helper()
	var addresses []string
	for _, l := range p.living() {
		addresses = append(addresses, l.Addr.HTTP)
	}
	return cli(p.t, "mcpfleet", stdin, append([]string{"--address", strings.Join(addresses, ",")}, args...)...)
}

func (p *Plane) mustCLI(stdin string, args ...string) string {
	p.t.Helper()
	return p.cli(stdin, args...).must(p.t, args...)
}

// must fails the test if the command has failed, and returns its stdout.
func (s said) must(t testing.TB, args ...string) string {
	t.Helper()
	if s.code != 0 {
		t.Fatalf("mcpfleet %s: exit code %d\n%s%s", strings.Join(args, " "), s.code, s.out, s.err)
	}
	return s.out
}
