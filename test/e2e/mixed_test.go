//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// mixedFile writes a typical client's file: a server from npm, two that docker
// runs (one with a volume, and one with a directory that only its owner can
// read), and a broken one.
func mixedFile(t *testing.T, dir, volume string) string {
	t.Helper()
	everything := npmPackage(t, "everything")
	private := filepath.Join(dir, "private")
	if err := os.Mkdir(private, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(private, "hello.txt"), []byte("nobody else may read this\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		for _, path := range []string{private, filepath.Join(private, "hello.txt")} {
			if err := os.Chown(path, 1000, 1000); err != nil {
				t.Fatal(err)
			}
		}
	}
	path := filepath.Join(dir, "claude_desktop_config.json")
	text := fmt.Sprintf(`{
  "globalShortcut": "Ctrl+Space",
  "mcpServers": {
    "everything": {"command": "npx", "args": ["-y", "%s"], "cwd": %q, "disabledTools": ["get-env"]},
    "Memory_Notes": {"command": "docker", "env": {"MEMORY_FILE_PATH": "/data/memory.json"},
      "args": ["run", "-i", "--rm", "-v", "%s:/data", "-e", "MEMORY_FILE_PATH", "docker.io/mcp/memory"]},
    "files": {"command": "docker", "args": ["run", "-i", "--rm", "-v", "%s:/data", "docker.io/mcp/filesystem", "/data"]},
    "broken": {"command": 7}
  }
}
`, everything.spec, everything.dir, volume, private)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

type npmInstalled struct {
	spec string // name@version
	dir  string // directory where npx finds it
}

// npmPackage installs a server from the lock file that its image is made from.
func npmPackage(t *testing.T, name string) npmInstalled {
	t.Helper()
	for _, tool := range []string{"node", "npm", "npx"} {
		if _, err := exec.LookPath(tool); err != nil && os.Geteuid() == 0 {
			t.Fatalf("%s is not installed: make host", tool)
		} else if err != nil {
			t.Skipf("needs %s", tool)
		}
	}
	p := npmInstalled{dir: t.TempDir()}
	var locked struct{ Dependencies map[string]string }
	for _, file := range []string{"package.json", "package-lock.json"} {
		b, err := os.ReadFile(filepath.Join(root, "deploy/images/servers", name, file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(p.dir, file), b, 0o644); err != nil {
			t.Fatal(err)
		}
		if file == "package.json" {
			if err := json.Unmarshal(b, &locked); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, version := range locked.Dependencies {
		p.spec = name + "@" + version
	}
	cmd := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error")
	cmd.Dir = p.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	return p
}

// call calls a tool and returns the text of its answer.
func (up *Up) call(server fleet.ServerName, tool, args string) string {
	up.t.Helper()
	ctx, cancel := context.WithTimeout(up.t.Context(), patience)
	defer cancel()
	answer, err := up.client.Call(ctx, fleet.Scope(server), api.CallRequest{ToolName: tool, ToolArgs: json.RawMessage(args)})
	if err != nil {
		up.t.Fatalf("call %s of %s: %v", tool, server, err)
	}
	var result struct {
		Content []struct{ Text string }
		IsError bool
	}
	if err := json.Unmarshal(answer, &result); err != nil || len(result.Content) == 0 || result.IsError {
		up.t.Fatalf("%s of %s answers %s (%v)", tool, server, answer, err)
	}
	return result.Content[0].Text
}

// printedOnce fails the test unless up has printed a text exactly once.
func (up *Up) printedOnce(text string) {
	up.t.Helper()
	if n := strings.Count(up.output(), text); n != 1 {
		up.t.Errorf("%q is there %d times in what it printed:\n%s", text, n, up.output())
	}
}

// tryEverything calls the server from npm.
func (up *Up) tryEverything() {
	up.t.Helper()
	if got := up.call("everything", "echo", `{"message":"grüße"}`); got != "Echo: grüße" {
		up.t.Errorf("echo answers %q", got)
	}
	tools, err := up.client.Tools(up.t.Context(), "everything")
	if err != nil || len(tools.Tools) < 5 || slices.ContainsFunc(tools.Tools, func(t api.Tool) bool { return t.Name == "get-env" }) {
		up.t.Errorf("the tools of everything, without the one that is switched off: %v, %v", tools.Tools, err)
	}
	_, err = up.client.Call(up.t.Context(), "everything", api.CallRequest{ToolName: "get-env", ToolArgs: json.RawMessage(`{}`)})
	wantError(up.t, err, http.StatusNotFound, api.CodeUnknownTool)
}

// Where podman works, a client's file with all kinds of servers is served
// unchanged: each server by the runtime that it needs.
func TestUpServesAMixedFile(t *testing.T) {
	needPodman(t, "docker.io/mcp/memory", "docker.io/mcp/filesystem")
	t.Parallel()
	u := newUser(t)
	volume := newToken(t)
	t.Cleanup(func() {
		if out, err := podman("volume", "rm", volume); err != nil {
			t.Errorf("the volume was not kept: %v %s", err, out)
		}
	})
	up := u.up(mixedFile(t, u.dir, volume), "--workers", "2", "--http", "127.0.0.1:0")
	up.printedOnce("mcpServers.broken: this server is left out: command: must be a string")
	up.printedOnce("runtime podman,process: ")

	nodes, err := up.client.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if n.Role == fleet.RoleWorker && (!slices.Equal(n.Runtimes, []string{"podman", "process"}) || n.Runtime != "podman,process") {
			t.Errorf("%s offers %v (%q)", n.Name, n.Runtimes, n.Runtime)
		}
	}
	replicas, err := up.client.Replicas(t.Context())
	if err != nil || len(replicas) != 3 {
		t.Errorf("replicas: %+v, %v", replicas, err)
	}
	for _, r := range replicas {
		if contained := r.ContainerID != nil; contained == (r.Server == "everything") {
			t.Errorf("%s runs in a container: %v", r.Server, contained)
		}
	}

	up.tryEverything()
	if got := up.call("files", "read_text_file", `{"path":"/data/hello.txt"}`); got != "nobody else may read this\n" {
		t.Errorf("the file reads %q", got)
	}
	up.call("memory-notes", "create_entities", `{"entities":[{"name":"mcpfleet","entityType":"program","observations":["keeps volumes"]}]}`)
	if _, bad, code := up.mcpfleet("", "restart", "memory-notes", "--wait"); code != 0 {
		t.Errorf("restart: %s", bad)
	}
	if got := up.call("memory-notes", "read_graph", `{}`); !strings.Contains(got, "keeps volumes") {
		t.Errorf("after a restart the volume has %s", got)
	}
	up.mustGo(syscall.SIGINT)
}

// If podman is missing or not wanted, up names the servers that it cannot run, and
// serves the rest of the file.
func TestUpServesAMixedFileWithoutPodman(t *testing.T) {
	t.Parallel()
	for name, try := range map[string]struct {
		args   []string
		reason string
	}{
		"missing":    {nil, "podman does not work here: podman is not installed"},
		"not wanted": {[]string{"--runtime", "process"}, "--runtime process leaves it out"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUser(t)
			u.path = pathWith(t, "node", "npm", "npx", "sh", "env")
			up := u.up(append([]string{"--config", mixedFile(t, u.dir, "unused"), "--workers", "2", "--http", "127.0.0.1:0"}, try.args...)...)
			up.printedOnce("2 of 3 servers cannot run here: files, memory-notes: an image needs podman (" + try.reason)
			up.tryEverything()
			up.tryExamples()

			servers, err := up.client.Servers(t.Context())
			if err != nil || len(servers) != 3 {
				t.Fatalf("servers: %+v, %v", servers, err)
			}
			const why = "no node fits: 2 nodes do not offer the podman runtime, which an image needs"
			for _, s := range servers {
				if s.Name != "everything" && (s.State != fleet.StateUnavailable || !strings.HasPrefix(s.Reason, why)) {
					t.Errorf("%s is %s: %s; want %s", s.Name, s.State, s.Reason, why)
				}
			}
			_, err = up.client.Call(t.Context(), "files", api.CallRequest{ToolName: "read_text_file", ToolArgs: json.RawMessage(`{"path":"/data"}`)})
			if e := wantError(t, err, http.StatusServiceUnavailable, api.CodeNoReplica); !strings.Contains(e.Detail, "podman runtime") {
				t.Errorf("a call of a server that cannot run: %s", e.Detail)
			}
			up.mustGo(syscall.SIGINT)
		})
	}
}

// pathWith returns a PATH with only these programs.
func pathWith(t *testing.T, programs ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range programs {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Skipf("needs %s", name)
		}
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
