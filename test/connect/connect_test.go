//go:build linux

package connect

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/test/harness"
	"github.com/mcpfleet/mcpfleet/test/tsclient"
)

// install installs the clients, and returns their node, the directory of their
// packages, and that of their scripts.
func install(t *testing.T) (node, dir, scripts string) {
	t.Helper()
	dir = tsclient.InstallVersion(t, "connect", os.DirFS("packages"))
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	node = filepath.Join(dir, "node_modules", "node-linux-"+arch, "bin", "node")
	if _, err := os.Stat(node); err != nil {
		t.Skipf("npm has no node for this machine: %v", err)
	}
	return node, dir, tsclient.Scripts(t, dir, os.DirFS("clients"))
}

func TestClients(t *testing.T) {
	node, dir, scripts := install(t)
	f := startFleet(t)
	if err := harness.DependOn("cmd", "internal", "test/connect"); err != nil {
		t.Fatal(err)
	}
	const lost = -31015.0 // a modern call ends with its connection
	for _, tt := range []struct {
		name   string
		script []string
		server string
		during any // the outcome of the call during which the controller is lost
	}{
		{"SDK 1", []string{"ts1.mjs"}, "demo", "took 3 seconds"},
		{"SDK 1 with all servers", []string{"ts1.mjs"}, "", "took 3 seconds"},
		{"SDK 2, legacy", []string{"ts2.mjs", "legacy"}, "demo", "took 3 seconds"},
		{"SDK 2, modern", []string{"ts2.mjs", "2026-07-28"}, "demo", lost},
		{"SDK 2, modern with all servers", []string{"ts2.mjs", "2026-07-28"}, "", lost},
	} {
		t.Run(tt.name, func(t *testing.T) {
			first, second := newProxy(t, f.addresses[0]), newProxy(t, f.addresses[1])
			args := append([]string{filepath.Join(scripts, tt.script[0])}, tt.script[1:]...)
			args = append(args, "", f.program, "connect", "--address", first.Addr().String()+","+second.Addr().String())
			if tt.server != "" {
				args = append(args, tt.server)
			}
			cmd := exec.CommandContext(t.Context(), node, args...)
			cmd.Dir = dir
			seen := follow(t, cmd, first.cut)
			want := map[string]any{
				"tools": []any{"echo", "flaky", "slow", "time"}, "echo": "grüße\u2028\n", "large": true, "unknown": -32602.0, "together": true,
				"cancelled": true, "during": tt.during, "after": "after", "toolsAfter": true,
			}
			for key, value := range want {
				if !reflect.DeepEqual(seen[key], value) {
					t.Errorf("%s: got %v, want %v", key, seen[key], value)
				}
			}
			if server, _ := seen["server"].(string); !strings.HasPrefix(server, "mcpfleet") {
				t.Errorf("server %q", server)
			}
			if progress, _ := seen["progress"].(float64); tt.during != lost && progress < 7 {
				t.Errorf("progress ended at %v: some was lost with the controller", progress)
			}
		})
	}
}

// follow runs a client, calls cut when it says so, and returns what it has seen.
func follow(t *testing.T, cmd *exec.Cmd, cut func()) (seen map[string]any) {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == "cut" {
			cut()
			_, _ = io.WriteString(in, "\n")
		} else if err := json.Unmarshal(lines.Bytes(), &seen); err != nil {
			t.Errorf("the client says %q", lines.Text())
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("the client ended with %v\n%s", err, stderr.Bytes())
	}
	if t.Failed() || testing.Verbose() {
		t.Logf("%s", stderr.Bytes())
	}
	return seen
}

func TestInspector(t *testing.T) {
	node, dir, _ := install(t)
	f := startFleet(t)
	all := strings.Join(f.addresses, ",")
	for name, target := range map[string][]string{
		"all servers":                {"http://" + f.addresses[0] + "/mcp", "--transport", "http"},
		"a server":                   {"http://" + f.addresses[1] + "/demo/mcp", "--transport", "http"},
		"connect":                    {f.program, "connect", "--address", all},
		"connect to a server":        {f.program, "connect", "demo", "--address", all},
		"connect to lost controller": {f.program, "connect", "demo", "--address", "127.0.0.1:1," + all},
	} {
		t.Run(name, func(t *testing.T) {
			ask := func(args ...string) (answer struct {
				Tools   []struct{ Name string }
				Content []struct{ Text string }
			}) {
				args = append(append([]string{filepath.Join(dir, "node_modules", ".bin", "mcp-inspector"), "--cli"}, target...), args...)
				cmd := exec.CommandContext(t.Context(), node, args...)
				cmd.Dir = dir
				out, err := cmd.Output()
				if err == nil {
					err = json.Unmarshal(out, &answer)
				}
				if failed, ok := errors.AsType[*exec.ExitError](err); ok {
					t.Fatalf("%v: %v\n%s", args, err, failed.Stderr)
				}
				if err != nil {
					t.Fatalf("%v: %v\n%s", args, err, out)
				}
				return answer
			}
			if list := ask("--method", "tools/list"); len(list.Tools) != 4 {
				t.Errorf("got %v", list)
			}
			if said := ask("--method", "tools/call", "--tool-name", "echo", "--tool-arg", "text=hi"); len(said.Content) != 1 || said.Content[0].Text != "hi" {
				t.Errorf("got %v", said)
			}
		})
	}
}
