package process

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/proctab"
)

var _ fleet.Runtime = (*Runtime)(nil)

// TestMain lets the test binary play a worker.
func TestMain(m *testing.M) {
	for name, play := range workers {
		if dir := os.Getenv(name); dir != "" {
			if err := play(dir); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		}
	}
	os.Exit(m.Run())
}

// workers are the workers to play, by the variable that names their data directory.
var workers = map[string]func(dir string) error{"LOST_WORKER": loseWorker, "GLUTTON": glutton}

// loseWorker starts one replica, prints its pids and waits to be killed.
func loseWorker(dir string) error {
	node := fleet.NodeID(os.Getenv("LOST_NODE"))
	r, err := New(Config{Node: node, DataDir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	l := launch(daemonising...)
	l.Node = node
	p, err := r.Start(context.Background(), l)
	if err != nil {
		return err
	}
	line, err := bufio.NewReader(p.Stdout()).ReadString('\n')
	if err != nil {
		return err
	}
	fmt.Printf("%d %s", p.PID(), line)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// daemonising is a replica with a grandchild in a session of its own, whose pid
// it prints. Both ignore TERM and the end of stdin.
var daemonising = []string{"sh", "-c",
	`trap "" TERM; setsid sh -c 'trap "" TERM; while :; do sleep 1; done' >/dev/null 2>&1 & echo $!; while :; do sleep 1; done`}

func launch(command ...string) fleet.Launch {
	return fleet.Launch{
		Cluster: "c1", Node: "n1", Replica: fleet.NewReplicaID("echo", 1), Server: "echo", Revision: 1,
		Template: &fleet.Template{Command: command},
		Pulling:  func(string) {},
	}
}

func newRuntime(t *testing.T, log io.Writer) *Runtime {
	t.Helper()
	r, err := New(Config{Node: "n1", DataDir: t.TempDir(), Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func start(t *testing.T, r *Runtime, l fleet.Launch) fleet.Process {
	t.Helper()
	p, err := r.Start(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Remove(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		p.Stdin().Close()
		p.Stdout().Close()
		p.Stderr().Close()
	})
	return p
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestPipesAndExit(t *testing.T) {
	p := start(t, newRuntime(t, t.Output()), launch("sh", "-c", "cat; echo bye >&2; exit 7"))
	if p.PID() == 0 || p.ContainerID() != "" {
		t.Errorf("PID = %d, ContainerID = %q", p.PID(), p.ContainerID())
	}
	if _, err := io.WriteString(p.Stdin(), "hello\n"); err != nil {
		t.Fatal(err)
	}
	if err := p.Stdin().Close(); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(p.Stdout())
	if err != nil || string(out) != "hello\n" {
		t.Fatalf("stdout = %q, %v", out, err)
	}
	if got := p.Exit(within(t, 5*time.Second)); got.Code != 7 || got.Signal != "" || got.Requested {
		t.Fatalf("Exit = %+v, want code 7", got)
	}
	<-p.Done()
	if err := p.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The last output can still be read after the removal.
	if errs, err := io.ReadAll(p.Stderr()); err != nil || string(errs) != "bye\n" {
		t.Fatalf("stderr = %q, %v", errs, err)
	}
}

func TestChildPipesBlock(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	// Servers that write to a non-blocking stdout lose output (EAGAIN).
	p := start(t, newRuntime(t, t.Output()), launch("cat"))
	for fd := range 3 {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", p.PID(), fd))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(b), "flags:")
		flags, err := strconv.ParseInt(strings.Fields(rest)[0], 8, 64)
		if err != nil || flags&syscall.O_NONBLOCK != 0 {
			t.Errorf("descriptor %d: flags %o, %v", fd, flags, err)
		}
	}
}

func TestEnvironmentIsThePromisedOne(t *testing.T) {
	r, err := New(Config{Node: "n1", DataDir: t.TempDir(), Log: slog.New(slog.DiscardHandler), Environ: []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/root", "LANG=C", "TMPDIR=/tmp", "USER=u", "LOGNAME=u", "SHELL=/bin/sh", "TERM=() { :; }", "AWS_SECRET=mine", "MCPFLEET_TOKEN=mine"}})
	if err != nil {
		t.Fatal(err)
	}
	l := launch("env", "-0")
	l.Template.Env = map[string]string{"KEY": "a\nb", "HOME": "/elsewhere"}
	p := start(t, r, l)
	out, err := io.ReadAll(p.Stdout())
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	slices.Sort(got)
	want := []string{"HOME=/elsewhere", "KEY=a\nb", "LANG=C", "LOGNAME=u",
		"MCPFLEET_REPLICA=c1/n1/" + string(l.Replica) + "/" + r.owner.String(), "PATH=" + os.Getenv("PATH"), "SHELL=/bin/sh", "TMPDIR=/tmp", "USER=u"}
	if !slices.Equal(got, want) {
		t.Fatalf("environment = %q\nwant %q", got, want)
	}
}

// The C library runs a script that names no interpreter with the shell, and so
// do clients that start programs with it.
func TestScriptWithoutInterpreter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "server")
	if err := os.WriteFile(path, []byte("echo \"$1\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	l := launch(path)
	l.Template.Args = []string{"hello"}
	p := start(t, newRuntime(t, t.Output()), l)
	if out, err := io.ReadAll(p.Stdout()); err != nil || string(out) != "hello\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestStartSaysWhyNot(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	noFormat := filepath.Join(dir, "noformat")
	if err := os.WriteFile(noFormat, []byte("\x00\x01"), 0o700); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o700); err != nil {
		t.Fatal(err)
	}
	script := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	windows, windowsEnv := script("windows", "#!/bin/sh\r\nexit\r\n"), script("windows-env", "#!/usr/bin/env node\r\nx\r\n")
	orphan, locked := script("orphan", "#!/no/such/interpreter -x\n"), script("locked", "#!"+plain+"\n")
	r := newRuntime(t, t.Output())
	for _, c := range []struct {
		name string
		tmpl fleet.Template
		want string
	}{
		{"script with Windows line endings", fleet.Template{Command: []string{windows}}, `windows has Windows line endings (CR LF), so the interpreter in its first line, "/bin/sh\r", is not found: convert the file`},
		{"script of Windows by way of env", fleet.Template{Command: []string{windowsEnv}}, `"/usr/bin/env node\r", is not found: convert the file`},
		{"no interpreter", fleet.Template{Command: []string{orphan}}, "orphan names an interpreter in its first line that cannot be run: /no/such/interpreter not found"},
		{"interpreter that is not executable", fleet.Template{Command: []string{locked}}, "plain is not executable"},
		{"arguments in the command", fleet.Template{Command: []string{"npx -y pkg"}}, `a command is one program; move the words after "npx" to args, as ["-y" "pkg"]`},
		{"arguments behind a path", fleet.Template{Command: []string{"/bin/sh -c true"}}, `move the words after "/bin/sh" to args, as ["-c" "true"]`},
		{"mounts", fleet.Template{Command: []string{"cat"}, Mounts: []fleet.Mount{{Source: "notes", Target: "/data"}}}, "mount notes on /data: a plain process has no mounts"},
		{"image", fleet.Template{Image: "docker.io/mcp/time"}, `image "docker.io/mcp/time" needs podman`},
		{"nothing", fleet.Template{}, "no command"},
		{"unknown command", fleet.Template{Command: []string{"no-such-command"}}, `command "no-such-command" not found in PATH`},
		{"unknown path", fleet.Template{Command: []string{"./nothing"}, Cwd: dir}, filepath.Join(dir, "nothing") + " not found"},
		{"not executable", fleet.Template{Command: []string{plain}}, "is not executable"},
		{"a named pipe", fleet.Template{Command: []string{pipe}}, "is not a regular file"},
		{"a directory", fleet.Template{Command: []string{dir}}, "is a directory"},
		{"no format", fleet.Template{Command: []string{noFormat}}, "exec format error"},
		{"no cwd", fleet.Template{Command: []string{"cat"}, Cwd: dir + "/x"}, "cwd: stat " + dir + "/x: no such file"},
		{"file as cwd", fleet.Template{Command: []string{"cat"}, Cwd: plain}, "is not a directory"},
		{"NUL in value", fleet.Template{Command: []string{"cat"}, Env: map[string]string{"A": "b\x00c"}}, "value of A contains a NUL"},
		{"bad name", fleet.Template{Command: []string{"cat"}, Env: map[string]string{"A=B": "c"}}, `"A=B" is not a name`},
	} {
		l := launch()
		l.Template = &c.tmpl
		if p, err := r.Start(t.Context(), l); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Start = %v, %v; want %q", c.name, p, err, c.want)
		}
	}
	l := launch(windows)
	if _, err := r.Start(t.Context(), l); err == nil || !strings.HasPrefix(err.Error(), windows+" has Windows line endings") {
		t.Errorf("Start = %v; want the path once, and then the cause", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("told to stop")
	cancel(why)
	if _, err := r.Start(ctx, launch("cat")); !errors.Is(err, why) {
		t.Errorf("Start under an ended context = %v", err)
	}
}

func TestCwdAndRelativeCommand(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "here"), []byte("#!/bin/sh\npwd; echo $1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	l := launch("./here")
	l.Template.Cwd, l.Template.Args = dir, []string{"-x"}
	p := start(t, newRuntime(t, t.Output()), l)
	if out, err := io.ReadAll(p.Stdout()); err != nil || string(out) != dir+"\n-x\n" {
		t.Fatalf("stdout = %q, %v", out, err)
	}
}

func TestSignals(t *testing.T) {
	r := newRuntime(t, t.Output())
	for _, c := range []struct {
		script string
		kill   bool
		want   fleet.Exit
	}{
		{"echo up; while :; do sleep 1; done", false, fleet.Exit{Code: -1, Signal: "SIGTERM", Requested: true}},
		{"trap '' TERM; echo up; while :; do sleep 1; done", true, fleet.Exit{Code: -1, Signal: "SIGKILL", Requested: true}},
		{"trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done", false, fleet.Exit{Code: 3, Requested: true}},
	} {
		p := start(t, r, launch("sh", "-c", c.script))
		if _, err := bufio.NewReader(p.Stdout()).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if e := p.Exit(short); e.Err == "" {
			t.Errorf("%q: Exit of a running replica = %+v", c.script, e)
		}
		cancel()
		if err := p.Signal(t.Context(), c.kill); err != nil {
			t.Fatal(err)
		}
		if got := p.Exit(within(t, 5*time.Second)); got != c.want {
			t.Errorf("%q: Exit = %+v, want %+v", c.script, got, c.want)
		}
		if err := p.Signal(t.Context(), true); err != nil {
			t.Errorf("signal to a replica that is gone: %v", err)
		}
	}
}

func TestEndOfTheFirstProcessEndsTheGroup(t *testing.T) {
	p := start(t, newRuntime(t, t.Output()), launch("sh", "-c", "sleep 60 & echo $!; exit 0"))
	// The sleeper holds stdout: without the kill this would last a minute.
	out, err := io.ReadAll(p.Stdout())
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Exit(within(t, 5*time.Second)); got.Code != 0 {
		t.Fatalf("Exit = %+v after %q", got, out)
	}
}

func TestRemoveFindsDaemons(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	r := newRuntime(t, t.Output())
	var wg sync.WaitGroup
	for range 4 {
		p := start(t, r, launch(daemonising...))
		daemon := readPID(t, bufio.NewReader(p.Stdout()))
		wg.Go(func() {
			for range 2 { // idempotent
				if err := p.Remove(within(t, 10*time.Second)); err != nil {
					t.Error(err)
				}
			}
			for _, pid := range []int{p.PID(), daemon} {
				if _, ok := proctab.Find(pid); ok {
					t.Errorf("process %d survived Remove", pid)
				}
			}
		})
	}
	wg.Wait()
}

func TestRemoveFindsChildrenThatClearedTheirEnvironment(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	p := start(t, newRuntime(t, t.Output()), launch("sh", "-c", "setsid env -i sleep 60 >/dev/null 2>&1 & echo $!; sleep 60"))
	pid := readPID(t, bufio.NewReader(p.Stdout()))
	if err := p.Remove(within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, ok := proctab.Find(pid); ok {
		t.Errorf("process %d survived Remove", pid)
	}
}

func TestSweepAfterTheWorkerWasKilled(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	dir := t.TempDir()
	node := fleet.NodeID("sweep-" + string(fleet.NewLifeID())) // other tests run on this host
	lost := exec.Command(os.Args[0])
	lost.Env = append(os.Environ(), "LOST_WORKER="+dir, "LOST_NODE="+string(node))
	lost.Stderr = os.Stderr
	stdin, err := lost.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := lost.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := lost.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var leader, daemon int
	if _, err := fmt.Sscan(line, &leader, &daemon); err != nil {
		t.Fatalf("%q: %v", line, err)
	}

	// While that worker lives, one of the same name but with another
	// directory leaves its replicas alone.
	other, err := New(Config{Node: node, DataDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if removed, err := other.Sweep(within(t, 10*time.Second)); err != nil || len(removed) != 0 {
		t.Fatalf("sweep beside a living worker = %q, %v", removed, err)
	}
	if err := lost.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	lost.Wait()
	for _, pid := range []int{leader, daemon} {
		if _, ok := proctab.Find(pid); !ok {
			t.Fatalf("process %d died with the worker: nothing to sweep", pid)
		}
	}

	stranger, err := New(Config{Node: node + "2", DataDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if removed, err := stranger.Sweep(within(t, 10*time.Second)); err != nil || len(removed) != 0 {
		t.Fatalf("sweep of another node = %q, %v", removed, err)
	}
	r, err := New(Config{Node: node, DataDir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l := launch("sleep", "60")
	l.Node = node
	own := start(t, r, l) // of this life, so it must stay
	removed, err := r.Sweep(within(t, 10*time.Second))
	if err != nil || len(removed) < 2 {
		t.Fatalf("sweep = %q, %v; want both processes", removed, err)
	}
	for _, pid := range []int{leader, daemon} {
		if _, ok := proctab.Find(pid); ok {
			t.Errorf("process %d survived the sweep", pid)
		}
	}
	if _, ok := proctab.Find(own.PID()); !ok {
		t.Error("the sweep killed a replica of its own life")
	}
}

func TestIgnoredKeysAreLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	r := newRuntime(t, &log)
	for range 2 {
		l := launch("true")
		l.Template.Resources.Memory = 1 << 20
		l.Template.User = "nobody"
		start(t, r, l)
	}
	if n := strings.Count(log.String(), `keys="resources.memory user"`); n != 1 {
		t.Errorf("ignored keys logged %d times, want once:\n%s", n, &log)
	}
	if n := strings.Count(log.String(), "without isolation"); n != 1 {
		t.Errorf("missing isolation logged %d times, want once:\n%s", n, &log)
	}
}

func readPID(t *testing.T, r *bufio.Reader) int {
	t.Helper()
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}
