//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

// User is a person with the mcpfleet command and a directory of their own for
// temporary files.
type User struct {
	t      testing.TB
	dir    string
	temp   string
	path   string // PATH of up, "" for the test's own
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

// upGone is how long the programs of up may outlive a signal to it.
const upGone = 15 * time.Second

// Up is a running `mcpfleet up`.
type Up struct {
	*harness.Process
	t      testing.TB
	Base   string // the first URL in its output
	client *api.Client
	user   *User
	out    string
}

// up starts the command and waits until it prints that the cluster is ready.
func (u *User) up(args ...string) *Up {
	t := u.t
	t.Helper()
	up := u.begin(args...)
	harness.Eventually(t, 2*patience, func() error {
		if !up.Running() {
			t.Fatalf("up ended with %v\n%s\n%s", up.Err(), harness.Tail(up.out, 50), harness.Tail(up.Log, 50))
		}
		if !strings.Contains(up.output(), "mcpfleet is ready") {
			return fmt.Errorf("it is not ready\n%s\n%s", harness.Tail(up.out, 50), harness.Tail(up.Log, 50))
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
	up := &Up{t: t, Process: command(t, "mcpfleet", base+".log", append([]string{"up"}, args...)...), user: u, out: base + ".out"}
	out, err := os.Create(up.out)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	up.Cmd.Stdout = out
	up.Cmd.Env = append(up.Cmd.Env, "TMPDIR="+u.temp)
	if u.path != "" {
		up.Cmd.Env = append(up.Cmd.Env, "PATH="+u.path)
	}
	if err := up.Run(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		up.Stop()
		u.traces.mustVanish(t, patience)
		if t.Failed() {
			t.Log(harness.Tail(up.out, 100), "\n", harness.Tail(up.Log, 100))
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

// mustGo fails the test unless everything that up started is gone in time after
// the signal.
func (up *Up) mustGo(sig syscall.Signal) {
	t := up.t
	t.Helper()
	begin := time.Now()
	up.Signal(sig)
	select {
	case <-up.Exited():
	case <-time.After(upGone):
		t.Errorf("up goes on %s after %s", upGone, sig)
		up.Kill9()
	}
	if err := up.Err(); sig != syscall.SIGKILL && err != nil {
		t.Errorf("up ended with %v after %s", err, sig)
	}
	up.user.traces.mustVanish(t, upGone-time.Since(begin))
	t.Logf("all was gone %s after %s", since(begin), sig)
}

// tryExamples runs the examples in the output.
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

// tryReadme runs the first example of calls in README.md as printed, but with the
// cluster's own port.
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

// tryCommands runs the user's commands.
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
