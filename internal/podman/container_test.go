package podman

import (
	"bufio"
	"context"
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

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
	"github.com/mcpfleet/mcpfleet/internal/proctab"
)

func TestContainers(t *testing.T) {
	r := open(t, nil)

	t.Run("exit code and stderr", func(t *testing.T) {
		c := startOf(t, r, launchOf(t, r, "exit", "7", "no key given"))
		if got := readAll(t, c.stderr); got != "no key given\n" {
			t.Errorf("stderr = %q", got)
		}
		if e := c.Exit(within(t, 10*time.Second)); e != (fleet.Exit{Code: 7}) {
			t.Errorf("Exit = %+v", e)
		}
	})

	t.Run("TERM ends a server without a handler", func(t *testing.T) {
		c := startOf(t, r, launchOf(t, r, "plain"))
		waitUp(t, c)
		if err := c.Signal(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		if e := c.Exit(within(t, 10*time.Second)); e != (fleet.Exit{Code: -1, Signal: "SIGTERM", Requested: true}) {
			t.Errorf("Exit = %+v", e)
		}
		if err := c.Signal(t.Context(), true); err != nil {
			t.Errorf("signal to a container that is gone: %v", err)
		}
	})

	t.Run("KILL by us is not want of memory", func(t *testing.T) {
		l := launchOf(t, r, "deaf")
		l.Template.Resources.Memory = 64 << 20
		c := startOf(t, r, l)
		waitUp(t, c)
		short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if e := c.Exit(short); e.Err == "" {
			t.Errorf("Exit of a running container = %+v", e)
		}
		if err := c.Signal(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		if e := c.Exit(within(t, 10*time.Second)); e != (fleet.Exit{Code: -1, Signal: "SIGKILL", Requested: true}) {
			t.Errorf("Exit = %+v", e)
		}
	})

	t.Run("nor is KILL by somebody else", func(t *testing.T) {
		l := launchOf(t, r, "deaf")
		l.Template.Resources.Memory = 64 << 20
		c := startOf(t, r, l)
		waitUp(t, c)
		if err := syscall.Kill(c.PID(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if e := c.Exit(within(t, 10*time.Second)); e != (fleet.Exit{Code: -1, Signal: "SIGKILL"}) {
			t.Errorf("Exit = %+v", e)
		}
	})

	t.Run("want of memory", func(t *testing.T) {
		l := launchOf(t, r, "eat")
		l.Template.Resources = fleet.Resources{Memory: 32 << 20, CPUs: 1.5, PIDs: 50}
		c := startOf(t, r, l)
		waitUp(t, c)
		if _, err := io.WriteString(c.stdin, "go\n"); err != nil {
			t.Fatal(err)
		}
		if e := c.Exit(within(t, 20*time.Second)); !e.OOM || e.Requested {
			t.Errorf("Exit = %+v, want OOM", e)
		}
		if exists("oom") {
			t.Error("conmon has left a file in the directory of its worker")
		}
	})

	t.Run("secrets reach the server and no command line", func(t *testing.T) {
		secret := "s3cret-" + string(fleet.NewLifeID())
		want := map[string]string{
			"API_KEY": secret + " with\nline break ", "PATH": "/" + secret, "XDG_RUNTIME_DIR": "/nowhere",
			"CONTAINERS_CONF": "/nowhere", "HTTPS_PROXY": "http://proxy=x", "EMPTY": "", "LC_ALL": "C",
		}
		names := []string{"env", "FROM_IMAGE", markerName, "HTTP_PROXY", "API_KEY", "PATH", "XDG_RUNTIME_DIR", "CONTAINERS_CONF", "HTTPS_PROXY", "EMPTY", "LC_ALL"}
		l := launchOf(t, r, names...)
		l.Template.Env = want
		rec := r.record(containerName(l))
		create, err := r.create(l, rec, "")
		if err != nil || strings.Contains(strings.Join(create.args, " "), secret) {
			t.Fatalf("arguments %q, %v", create.args, err)
		}
		c := startOf(t, r, l)
		if exists(rec.envFile()) {
			t.Error("the file with env is still there")
		}
		got := readAll(t, c.stdout)
		for _, line := range []string{
			`FROM_IMAGE="yes" true`, markerName + `="" false`, `HTTP_PROXY="" false`, `API_KEY="` + secret + ` with\nline break " true`,
			`PATH="/` + secret + `" true`, `XDG_RUNTIME_DIR="/nowhere" true`, `CONTAINERS_CONF="/nowhere" true`,
			`HTTPS_PROXY="http://proxy=x" true`, `EMPTY="" true`, `LC_ALL="C" true`,
		} {
			if !strings.Contains(got, line+"\n") {
				t.Errorf("no %s in\n%s", line, got)
			}
		}
	})

	t.Run("confined", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "file"), []byte("seen"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		l := launchOf(t, r, "about", "-v", "--help", "a b")
		l.Template.ReadOnly, l.Template.Cwd = true, "/proc"
		l.Template.Mounts = []fleet.Mount{{Source: dir, Target: "/mounted", ReadOnly: true}}
		c := startOf(t, r, l)
		got := readAll(t, c.stdout)
		for _, want := range []string{"uid=0 cwd=/proc writable=false args=[\"-v\" \"--help\" \"a b\"]", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", `mounted="seen" true`} {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in\n%s", want, got)
			}
		}
	})

	t.Run("a directory of another user", func(t *testing.T) {
		dir := t.TempDir()
		for _, step := range []error{
			os.WriteFile(filepath.Join(dir, "file"), []byte("secret"), 0o600), os.Chown(filepath.Join(dir, "file"), 1234, 1234),
			os.Chown(dir, 1234, 1234), os.Chmod(dir, 0o700),
		} {
			if step != nil {
				t.Fatal(step)
			}
		}
		imported, err := fleetfile.Parse(fmt.Appendf(nil, `{"mcpServers": {"x": {"command": "docker", "args": ["run", "-i", "--rm", "-v", "%s:/data:ro", "img"]}}}`, dir),
			fleetfile.Options{Filename: "f.json"})
		if err != nil {
			t.Fatal(err)
		}
		spec := imported.Servers["x"]
		l := launchOf(t, r, "read", "/data/file")
		l.Template.Mounts, l.Template.CapAdd, l.Template.NewPrivileges = spec.Mounts, spec.CapAdd, spec.NewPrivileges
		if got := readAll(t, startOf(t, r, l).stdout); got != "secret" {
			t.Errorf("imported from docker run: read %q", got)
		}
		l = launchOf(t, r, "read", "/data/file")
		l.Template.Mounts = spec.Mounts
		c := startOf(t, r, l)
		said := readAll(t, c.stderr)
		if hint := c.Hint(c.Exit(within(t, 10*time.Second)), strings.Split(said, "\n")); !strings.Contains(said, "permission denied") || !strings.Contains(hint, "cap_add: [DAC_OVERRIDE]") {
			t.Errorf("with no capabilities: said %q, hint %q", said, hint)
		}
	})

	t.Run("a volume outlives its replicas", func(t *testing.T) {
		volume := "mcpfleet-test-" + strings.ToLower(string(fleet.NewLifeID()))
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			if _, err := r.query(ctx, "volume", "rm", volume); err != nil {
				t.Error(err)
			}
		})
		for _, want := range []string{`"one\n" <nil>`, `"one\ntwo\n" <nil>`} {
			l := launchOf(t, r, "append", "/data/file", map[bool]string{true: "one", false: "two"}[!strings.Contains(want, "two")])
			l.Template.Mounts = []fleet.Mount{{Source: volume, Target: "/data", SELinux: "z"}}
			c := startOf(t, r, l)
			if got := readAll(t, c.stdout); got != want+"\n" {
				t.Errorf("got %q, want %s", got, want)
			}
			if err := c.Remove(within(t, 30*time.Second)); err != nil {
				t.Fatal(err)
			}
		}
	})

	t.Run("run options", func(t *testing.T) {
		l := launchOf(t, r, "append", "/tmp/x", "y")
		l.Template.ReadOnly = true
		l.Template.RunOptions = []string{"--tmpfs=/tmp", "--shm-size=8m", "--add-host=db:10.0.0.7", "--ipc=private", "--hostname=box", "--security-opt=seccomp=unconfined"}
		if got := readAll(t, startOf(t, r, l).stdout); got != `"y\n" <nil>`+"\n" {
			t.Errorf("got %q", got)
		}
	})

	t.Run("as the spec loosens it", func(t *testing.T) {
		l := launchOf(t, r, "no", "words")
		l.Template.User, l.Template.NewPrivileges, l.Template.CapAdd = "1234", true, []string{"CHOWN"}
		l.Template.Entrypoint = []string{"/server", "about", "<&>"}
		c := startOf(t, r, l)
		got := readAll(t, c.stdout)
		for _, want := range []string{"uid=1234", `args=["<&>" "no" "words"]`, "CapBnd:\t0000000000000001", "NoNewPrivs:\t0"} {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in\n%s", want, got)
			}
		}
	})

	t.Run("a start that fails says why", func(t *testing.T) {
		for _, c := range []struct {
			change func(*fleet.Template)
			want   string
		}{
			{func(t *fleet.Template) { t.Image = "localhost/no-such-image:1" }, `localhost/no-such-image:1 is not on this node, and its pull policy is "never"`},
			{func(t *fleet.Template) { t.Image = "-v" }, `image "-v": must be the name of an image`},
			{func(t *fleet.Template) { t.Image, t.Command = "", []string{"npx"} }, `command "npx" needs the process runtime`},
			{func(t *fleet.Template) { t.Mounts = []fleet.Mount{{Source: "/no/such", Target: "/x"}} }, "/no/such: no such file or directory (the source of a mount does not exist on this node"},
			{func(t *fleet.Template) { t.Mounts = []fleet.Mount{{Source: "a/b", Target: "/x"}} }, "absolute path, or the name of a volume"},
			{func(t *fleet.Template) { t.Env = map[string]string{"PATH": "a\nb"} }, "\"PATH\": the value must not contain line breaks"},
			{func(t *fleet.Template) { t.Env = map[string]string{"A*": "b"} }, `"A*": not a name`},
			{func(t *fleet.Template) { t.CapAdd = []string{"NO_SUCH"} }, "NO_SUCH"},
			{func(t *fleet.Template) { t.Cwd, t.Network = "/", "no-such-network" }, "no-such-network"},
		} {
			l := launchOf(t, r)
			c.change(l.Template)
			p, err := fleet.Process(nil), r.Prepare(within(t, 20*time.Second), l)
			if err == nil {
				p, err = r.Start(within(t, 20*time.Second), l)
			}
			if err == nil {
				release(t, p.(*container))
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		}
	})

	t.Run("a missing command is named", func(t *testing.T) {
		l := launchOf(t, r)
		l.Template.Entrypoint = []string{"/no/such/command"}
		c, err := r.start(within(t, 20*time.Second), l, "")
		if err == nil { // with an init, the container finds out by itself
			defer release(t, c)
			said := readAll(t, c.stderr)
			e := c.Exit(within(t, 10*time.Second))
			if e.Code == 0 || !strings.Contains(said, "No such file") && !strings.Contains(said, "/no/such/command") {
				t.Errorf("exit %+v, stderr %q", e, said)
			}
			return
		}
		if !strings.Contains(err.Error(), "the image has no such command") {
			t.Errorf("Start = %v", err)
		}
	})

	t.Run("killed monitor", func(t *testing.T) {
		c := startOf(t, r, launchOf(t, r))
		if err := proctab.Signal(c.monitor, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c.stdin, "still here\n"); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(c.stdout).ReadString('\n'); err != nil || line != "still here\n" {
			t.Errorf("the container did not survive its monitor: %q, %v", line, err)
		}
		c.stdin.Close()
		if e := c.Exit(within(t, 20*time.Second)); !strings.Contains(e.Err, "conmon") && e.Code != 0 {
			t.Errorf("Exit = %+v", e)
		}
	})

	t.Run("removed by somebody else", func(t *testing.T) {
		c := startOf(t, r, launchOf(t, r, "deaf"))
		waitUp(t, c)
		if err := r.podmanRemove(t.Context(), c.rec.name); err != nil {
			t.Fatal(err)
		}
		if e := c.Exit(within(t, 20*time.Second)); !strings.Contains(e.Err, "removed") {
			t.Errorf("Exit = %+v", e)
		}
	})

	t.Run("given up starts leave nothing", func(t *testing.T) {
		for _, after := range []time.Duration{0, 30 * time.Millisecond, 90 * time.Millisecond, 150 * time.Millisecond} {
			why := errors.New("no longer wanted")
			ctx, cancel := context.WithTimeoutCause(t.Context(), after, why)
			l := launchOf(t, r, "deaf")
			begin := time.Now()
			p, err := r.Start(ctx, l)
			cancel()
			if err == nil {
				release(t, p.(*container))
				continue
			}
			if took := time.Since(begin); !errors.Is(err, why) || took > after+time.Second {
				t.Errorf("after %v: Start = %v in %v", after, err, took)
			}
		}
		if err := r.Close(within(t, 30*time.Second)); err != nil { // the runtime stays usable
			t.Fatal(err)
		}
		if names := r.recorded(); len(names) != 0 {
			t.Errorf("left: %q", names)
		}
	})
}

func waitUp(t *testing.T, c *container) {
	t.Helper()
	c.stdout.SetReadDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 3)
	if _, err := io.ReadFull(c.stdout, b); err != nil || string(b) != "up\n" {
		t.Fatalf("server said %q, %v", b, err)
	}
}

func TestRelayed(t *testing.T) {
	r := open(t, func(cfg *Config) { cfg.Relayed = true })
	c := startOf(t, r, launchOf(t, r))
	if _, err := io.WriteString(c.stdin, "hello\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(c.stdout).ReadString('\n'); err != nil || line != "hello\n" {
		t.Fatalf("answer %q, %v", line, err)
	}
	if c.PID() == 0 || !isID(c.ContainerID()) {
		t.Errorf("pid %d, id %q", c.PID(), c.ContainerID())
	}
	c.stdin.Close()
	select {
	case <-c.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the client did not end with its container")
	}
	if e := c.Exit(within(t, 10*time.Second)); e != (fleet.Exit{}) {
		t.Errorf("Exit = %+v", e)
	}
}

// On a busy machine podman answers late. Ended is right all the same, and Exit
// returns what podman reports in the end.
func TestExitWithASlowPodman(t *testing.T) {
	needPodman(t)
	podman, err := exec.LookPath("podman")
	if err != nil {
		t.Fatal(err)
	}
	r := open(t, nil)
	slow := filepath.Join(t.TempDir(), "podman")
	script := fmt.Sprintf("#!/bin/sh\ncase \"$1 $2\" in 'container inspect') sleep 2;; esac\nexec %s \"$@\"\n", podman)
	if err := os.WriteFile(slow, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	r.bin = slow
	c := startOf(t, r, launchOf(t, r, "plain"))
	waitUp(t, c)
	if c.Ended() {
		t.Error("a container that runs has ended")
	}
	ended := startOf(t, r, launchOf(t, r, "exit", "3", "no key given"))
	if got := readAll(t, ended.stderr); got != "no key given\n" {
		t.Errorf("stderr = %q", got)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if e := ended.Exit(short); e.Err == "" {
		t.Errorf("Exit = %+v within a second of a podman that takes two", e)
	}
	if !ended.Ended() {
		t.Error("a container that has ended runs")
	}
	if e := ended.Exit(within(t, 30*time.Second)); e != (fleet.Exit{Code: 3}) {
		t.Errorf("Exit = %+v", e)
	}
}
