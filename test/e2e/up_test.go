//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

// User is a person with the mcpfleet command, and a directory for temporary
// files that is nobody else's.
type User struct {
	t      testing.TB
	dir    string
	temp   string
	traces *traces
}

func newUser(t testing.TB) *User {
	t.Helper()
	token := newToken(t)
	u := &User{t: t, dir: t.TempDir()}
	u.temp = filepath.Join(u.dir, token)
	if err := os.Mkdir(u.temp, 0o700); err != nil {
		t.Fatal(err)
	}
	u.traces = follow(t, token)
	return u
}

// upgone is how long all that up has started may outlive a signal to it.
const upGone = 15 * time.Second

// Up is a running `mcpfleet up`.
type Up struct {
	*Process
	Base   string // the first URL in its output
	client *api.Client
	user   *User
	out    string
}

// up starts the command and waits until it says that all is ready.
func (u *User) up(args ...string) *Up {
	t := u.t
	t.Helper()
	up := u.begin(args...)
	Eventually(t, 2*patience, func() error {
		if !up.Running() {
			t.Fatalf("up ended with %v\n%s\n%s", up.err, tail(up.out, 50), tail(up.Log, 50))
		}
		if !strings.Contains(up.output(), "mcpfleet is ready") {
			return fmt.Errorf("it is not ready\n%s\n%s", tail(up.out, 50), tail(up.Log, 50))
		}
		return nil
	})
	up.Base = regexp.MustCompile(`http://[^\s]+`).FindString(up.output())
	client, err := api.NewClient(up.Base, nil)
	if err != nil {
		t.Fatal(err)
	}
	up.client = client
	replicas, err := client.Replicas(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range replicas {
		if r.ContainerID != nil {
			u.traces.add(*r.ContainerID)
		}
	}
	return up
}

// begin starts the command.
func (u *User) begin(args ...string) *Up {
	t := u.t
	t.Helper()
	n, err := filepath.Glob(filepath.Join(u.dir, "up*.out"))
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(u.dir, fmt.Sprintf("up%d", len(n)))
	up := &Up{Process: command(t, "mcpfleet", base+".log", append([]string{"up"}, args...)...), user: u, out: base + ".out"}
	out, err := os.Create(up.out)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	up.cmd.Stdout = out
	up.cmd.Env = append(up.cmd.Env, "TMPDIR="+u.temp)
	if err := up.run(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		up.Stop()
		u.traces.mustVanish(t, patience)
		if t.Failed() {
			t.Log(tail(up.out, 100), "\n", tail(up.Log, 100))
		}
	})
	return up
}

func (up *Up) output() string {
	b, err := os.ReadFile(up.out)
	if err != nil {
		up.t.Error(err)
	}
	return string(b)
}

// mcpfleet runs a command against the cluster.
func (up *Up) mcpfleet(stdin string, args ...string) (stdout, stderr string, code int) {
	cmd := exec.Command(program("mcpfleet"), append([]string{"--address", up.Base}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, bad bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &bad
	err := cmd.Run()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		up.t.Fatal(err)
	}
	return out.String(), bad.String(), cmd.ProcessState.ExitCode()
}

// mustGo wants all that up started to be gone in time after the signal.
func (up *Up) mustGo(sig syscall.Signal) {
	t := up.t
	t.Helper()
	begin := time.Now()
	up.Signal(sig)
	select {
	case <-up.exited:
	case <-time.After(upGone):
		t.Errorf("up goes on %s after %s", upGone, sig)
		up.Kill9()
	}
	if err := up.err; sig != syscall.SIGKILL && err != nil {
		t.Errorf("up ended with %v after %s", err, sig)
	}
	up.user.traces.mustVanish(t, upGone-time.Since(begin))
	t.Logf("all was gone %s after %s", since(begin), sig)
}

func TestUpWithProcesses(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	up := u.up("--runtime", "process", "--workers", "2", "--http", "127.0.0.1:0")
	up.tryExamples()
	up.tryCommands()
	up.tryReadme()

	// What dies is started again, at the address that everyone knows.
	nodes, err := up.client.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if err := syscall.Kill(n.PID, syscall.SIGKILL); err != nil {
			t.Fatalf("kill %s: %v", n.Name, err)
		}
	}
	Eventually(t, patience, func() error {
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
	// It stays for the next time, but here each test has a build of its own.
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

// Even before all is up nothing outlives the signal.
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
		Eventually(t, patience, func() error {
			if !strings.Contains(up.output(), try.word) {
				return fmt.Errorf("no %q in the output %q", try.word, up.output())
			}
			return nil
		})
		up.mustGo(syscall.SIGINT)
	}
}

// tryExamples does what the output says.
func (up *Up) tryExamples() {
	t := up.t
	t.Helper()
	resp, err := http.Get(up.Base + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("/readyz of the first URL, %s: %s", up.Base, resp.Status)
	}
	tried := 0
	for line := range strings.Lines(up.output()) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "curl ") {
			continue
		}
		tried++
		out, err := exec.Command("sh", "-c", line).Output()
		var answer map[string]json.RawMessage
		if err == nil {
			err = json.Unmarshal(out, &answer)
		}
		if err != nil || len(answer["tools"])+len(answer["result"]) == 0 {
			t.Errorf("%s\nanswers %s (%v)", line, out, err)
		}
	}
	if tried < 2 {
		t.Errorf("%d examples in the output\n%s", tried, up.output())
	}
}

// tryReadme runs the first example of calls in README.md as it is printed, but
// for the port, which others may have.
func (up *Up) tryReadme() {
	t := up.t
	t.Helper()
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	const printed = "http://127.0.0.1:8000"
	var script string
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllSubmatch(readme, -1) {
		if bytes.Contains(block[1], []byte(printed)) {
			script = strings.ReplaceAll(string(block[1]), printed, up.Base)
			break
		}
	}
	home := t.TempDir()
	if err := os.Symlink(bin, filepath.Join(home, "bin")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-e", "-c", script)
	cmd.Dir, cmd.Env = home, append(environ(), "MCPFLEET_ADDRESS="+up.Base)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("README.md: %v\n%s\n%s", err, script, out)
	}
	for _, w := range []string{`"input_schema"`, `"text":"hello"`, "READY", "from process"} {
		if !bytes.Contains(out, []byte(w)) {
			t.Errorf("README.md: no %s in what the example prints\n%s\n%s", w, script, out)
		}
	}
}

// tryCommands runs the commands that a user has.
func (up *Up) tryCommands() {
	t := up.t
	t.Helper()
	for _, try := range []struct {
		args  string
		stdin string
		code  int
		words []string // of stdout, or of stderr when the code is not 0
	}{
		{args: "status", words: []string{"demo", "READY", "2/2", "worker-1", "worker-2"}},
		{args: "status demo", words: []string{"demo", "2/2"}},
		{args: "status none", code: 1, words: []string{"none"}},
		{args: "nodes", words: []string{"controller", "worker-1", "worker-2", "READY", "process"}},
		{args: "tools", words: []string{"echo", "flaky", "slow", "time"}},
		{args: "tools demo", words: []string{"echo"}},
		{args: "tools none", code: 1, words: []string{"none"}},
		{args: `call demo echo {"text":"hello<>&"}`, words: []string{"hello<>&"}},
		{args: "call demo echo -", stdin: `{"text":"from stdin"}`, words: []string{"from stdin"}},
		{args: "call demo ecko {}", code: 1, words: []string{"echo"}},
		{args: "call demo echo [1]", code: 2, words: []string{"object"}},
		{args: "logs demo", words: []string{"serving MCP"}},
		{args: "logs none", code: 1, words: []string{"none"}},
		{args: "version", words: []string{"mcpfleet"}},
		{args: "frobnicate", code: 2, words: []string{"frobnicate"}},
	} {
		args := strings.Fields(try.args)
		out, bad, code := up.mcpfleet(try.stdin, args...)
		said := out
		if try.code != 0 {
			said = bad
		}
		for _, w := range try.words {
			if !strings.Contains(said, w) {
				t.Errorf("mcpfleet %s: no %q in what it said\n%s%s", try.args, w, out, bad)
			}
		}
		if code != try.code {
			t.Errorf("mcpfleet %s: exit code %d, want %d\n%s", try.args, code, try.code, bad)
		}
		if code != 0 || args[0] == "logs" {
			continue
		}
		out, bad, code = up.mcpfleet(try.stdin, append(args, "-o", "json")...)
		if code != 0 || !json.Valid([]byte(out)) {
			t.Errorf("mcpfleet %s -o json: exit code %d\n%s%s", try.args, code, out, bad)
		}
	}
	out, _, code := up.mcpfleet("", "status", "-o", "json")
	var status struct {
		Servers  []api.Server
		Replicas []api.Replica
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil || code != 0 || len(status.Servers) != 1 || len(status.Replicas) != 2 {
		t.Errorf("status -o json: %v in %s", err, out)
	}
}

// Without a server at the address a command says so and how it looked.
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

// What cannot start says why, ends with a code, and leaves nothing.
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
