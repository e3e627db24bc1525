package podman

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// slots bounds how many clients of one sort run at once.
type slots chan struct{}

func (s slots) take(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s slots) free() { <-s }

// clientError is returned when a podman client failed.
type clientError struct {
	verb   string // "run", "rm", ...
	code   int    // exit code, -1 when a signal ended it
	signal string
	reason string // podman's message, shortened
}

func (e *clientError) Error() string {
	switch {
	case e.signal != "":
		return fmt.Sprintf("podman %s was itself killed (%s)", e.verb, e.signal)
	case e.reason == "":
		return fmt.Sprintf("podman %s: exit code %d", e.verb, e.code)
	default:
		return fmt.Sprintf("podman %s: %s", e.verb, e.reason)
	}
}

// newClientError returns the error of a client that ended with err and wrote
// stderr; nil if err is nil.
func newClientError(verb string, err error, stderr []byte) error {
	if err == nil {
		return nil
	}
	ee := (*exec.ExitError)(nil)
	if !errors.As(err, &ee) {
		return fmt.Errorf("podman %s: %w", verb, err)
	}
	ce := &clientError{verb: verb, code: ee.ExitCode(), reason: reason(stderr)}
	if ws, ok := ee.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		ce.signal = ws.Signal().String()
	}
	return ce
}

// command returns a podman client that will run in its own process group, so
// that Ctrl-C in a terminal does not reach a podman that starts a container.
func (r *Runtime) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, r.bin, args...)
	cmd.Env = append([]string(nil), r.environ...)
	if r.mode.conf != "" {
		cmd.Env = append(cmd.Env, "CONTAINERS_CONF="+r.mode.conf)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 3 * time.Second // then KILL
	return cmd
}

// query runs a short podman client and returns its standard output. The
// client is stopped when ctx ends.
func (r *Runtime) query(ctx context.Context, verb string, args ...string) ([]byte, error) {
	if err := r.queries.take(ctx); err != nil {
		return nil, fmt.Errorf("podman %s: %w", verb, err)
	}
	defer r.queries.free()
	var stdout, stderr bytes.Buffer
	cmd := r.command(ctx, append([]string{verb}, args...)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil && err != nil {
		return nil, fmt.Errorf("podman %s: %w", verb, context.Cause(ctx))
	}
	return stdout.Bytes(), newClientError(verb, err, stderr.Bytes())
}

// reason returns the part of podman's stderr that an operator needs: the lines
// that begin with "Error:", or else the last three.
func reason(stderr []byte) string {
	const most = 600
	var all, errs []string
	for line := range strings.Lines(string(stderr)) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		all = append(all, line)
		if s, ok := strings.CutPrefix(line, "Error: "); ok {
			errs = append(errs, s)
		}
	}
	if len(errs) == 0 {
		errs = all[max(0, len(all)-3):]
	}
	s := strings.ToValidUTF8(strings.Join(errs, "; "), "?")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}
