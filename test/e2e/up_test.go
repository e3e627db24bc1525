//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

func TestUpWithProcesses(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	up := u.up("--runtime", "process", "--workers", "2", "--http", "127.0.0.1:0")
	up.tryExamples()
	up.tryCommands()
	up.tryReadme()
	up.checkProcs()

	// Programs that die are restarted at the same addresses.
	nodes, err := up.client.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if err := syscall.Kill(n.PID, syscall.SIGKILL); err != nil {
			t.Fatalf("kill %s: %v", n.Name, err)
		}
	}
	harness.Eventually(t, patience, func() error {
		again, err := up.client.Nodes(t.Context())
		if err != nil {
			return err
		}
		ready := 0
		for _, n := range again {
			if n.State == "READY" && !slices.ContainsFunc(nodes, func(old api.Node) bool { return old.PID == n.PID }) {
				ready++
			}
		}
		if ready != 3 {
			return fmt.Errorf("%d of 3 programs are there again: %+v", ready, again)
		}
		r, err := up.client.Ready(t.Context())
		if err == nil && (!r.Ready || r.Servers[0].Ready != 2) {
			err = fmt.Errorf("servers: %+v", r.Servers)
		}
		return err
	})
	up.tryExamples()

	up.mustGo(syscall.SIGINT)
	if left, err := os.ReadDir(u.temp); err != nil || len(left) > 0 {
		t.Errorf("temporary files: %v, %v", left, err)
	}
	u.up("--runtime", "process", "--workers", "1", "--http", "127.0.0.1:0").mustGo(syscall.SIGKILL)
}

// checkProcs fails the test unless the controller runs on half of the processors, or
// on those that GOMAXPROCS says.
func (up *Up) checkProcs() {
	up.t.Helper()
	resp, err := http.Get(up.Base + "/metrics")
	if err != nil {
		up.t.Fatal(err)
	}
	defer resp.Body.Close()
	metrics, err := io.ReadAll(resp.Body)
	if err != nil {
		up.t.Fatal(err)
	}
	procs := runtime.GOMAXPROCS(0)
	if os.Getenv("GOMAXPROCS") == "" {
		procs = max(1, procs/2)
	}
	want := fmt.Sprintf("\ngo_sched_gomaxprocs_threads %d\n", procs)
	if !strings.Contains(string(metrics), want) {
		up.t.Errorf("the metrics lack %q", want)
	}
}

func TestUpWithContainers(t *testing.T) {
	needPodman(t)
	t.Parallel()
	u := newUser(t)
	up := u.up("--runtime", "podman", "--workers", "2", "--http", "127.0.0.1:0")
	servers, err := up.client.Servers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var spec struct{ Image string }
	if err := json.Unmarshal(servers[0].Spec, &spec); err != nil || spec.Image == "" {
		t.Fatalf("the demo has no image: %s (%v)", servers[0].Spec, err)
	}
	// The image stays for later runs, but here each test has its own build.
	t.Cleanup(func() { _, _ = podman("rmi", spec.Image) })
	up.tryExamples()
	up.mustGo(syscall.SIGINT)
	if left, err := os.ReadDir(u.temp); err != nil || len(left) > 0 {
		t.Errorf("temporary files: %v, %v", left, err)
	}

	config := filepath.Join(u.dir, "fleet.yaml")
	if err := os.WriteFile(config, []byte("servers: { everything: { image: docker.io/mcp/everything, network: none, replicas: 2 } }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	up = u.up("--runtime", "auto", "--workers", "2", "--http", "127.0.0.1:0", "--config", config)
	up.tryExamples()
	up.mustGo(syscall.SIGKILL)
}

// Nothing outlives the signal, even before everything has started.
func TestUpStoppedWhileItStarts(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	config := filepath.Join(u.dir, "fleet.yaml")
	if err := os.WriteFile(config, []byte("servers: { everything: { image: docker.io/mcp/everything, network: none, replicas: 3 } }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	processes := []string{"--runtime", "process", "--workers", "3", "--http", "127.0.0.1:0"}
	containers := []string{"--runtime", "podman", "--workers", "1", "--http", "127.0.0.1:0", "--config", config}
	tries := []struct {
		args []string
		word string // in the output
	}{
		{processes, "runtime process"},
		{processes, "workers"},
	}
	if os.Geteuid() == 0 {
		tries = append(tries, []struct {
			args []string
			word string
		}{{containers, "runtime podman"}, {containers, "starting"}}...)
	}
	for _, try := range tries {
		up := u.begin(try.args...)
		harness.Eventually(t, patience, func() error {
			if !strings.Contains(up.output(), try.word) {
				return fmt.Errorf("no %q in the output %q", try.word, up.output())
			}
			return nil
		})
		up.mustGo(syscall.SIGINT)
	}
}

// If nothing listens at the address, a command says so and names the address.
func TestCommandsWithoutCluster(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	for _, args := range []string{"status", "nodes", "tools", "call a b {}", "logs a"} {
		cmd := exec.Command(program("mcpfleet"), append([]string{"--address", addr}, strings.Fields(args)...)...)
		out, err := cmd.CombinedOutput()
		if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != 1 || !strings.Contains(string(out), addr) {
			t.Errorf("mcpfleet %s: %v\n%s", args, err, out)
		}
	}
}

// A program that cannot start says why, exits with a code, and leaves nothing.
func TestUpThatCannotStart(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, try := range []struct {
		name, file string
		args       []string
		words      []string
	}{
		{name: "port in use", args: []string{"--http", taken.Addr().String()}, words: []string{taken.Addr().String(), "address already in use"}},
		{name: "no workers", args: []string{"--workers", "0"}, words: []string{"--workers"}},
		{name: "unknown runtime", args: []string{"--runtime", "docker"}, words: []string{"--runtime", "docker"}},
		{name: "no such file", args: []string{"--config", "/no/such/fleet.yaml"}, words: []string{"/no/such/fleet.yaml"}},
		{name: "unknown key", file: "servers:\n  a:\n    comand: [x]\n", words: []string{"fleet.yaml:3", "comand", "command"}},
		{name: "missing variable", file: "servers:\n  a:\n    command: [x]\n    env: { K: \"${E2E_NOT_SET}\" }\n", words: []string{"fleet.yaml:4", "E2E_NOT_SET"}},
		{name: "reserved name", file: "servers:\n  tools: { command: [x] }\n", words: []string{"fleet.yaml:2", "tools"}},
		{name: "image without podman", file: "servers: { a: { image: docker.io/mcp/everything } }", words: []string{"a", "podman"}},
	} {
		t.Run(try.name, func(t *testing.T) {
			u := newUser(t)
			args := []string{"up", "--runtime", "process", "--workers", "1", "--http", "127.0.0.1:0"}
			if try.file != "" {
				file := filepath.Join(u.dir, "fleet.yaml")
				if err := os.WriteFile(file, []byte(try.file), 0o600); err != nil {
					t.Fatal(err)
				}
				args = append(args, "--config", file)
			}
			cmd := exec.Command(program("mcpfleet"), append(args, try.args...)...)
			cmd.Env = append(environ(), "TMPDIR="+u.temp)
			var out, bad bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &bad
			cmd.WaitDelay = time.Second
			err := cmd.Run()
			if _, ok := errors.AsType[*exec.ExitError](err); !ok {
				t.Errorf("it ended with %v", err)
			}
			for _, w := range try.words {
				if !strings.Contains(bad.String(), w) {
					t.Errorf("no %q in what it said: %s", w, &bad)
				}
			}
			u.traces.mustVanish(t, upGone)
			if left, err := os.ReadDir(u.temp); err != nil || len(left) > 0 {
				t.Errorf("temporary files: %v, %v", left, err)
			}
		})
	}
}
