//go:build linux

package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/test/tsclient"
)

// The MCP Inspector lists and calls tools through one server's endpoint, through that of
// all servers, and over stdio through mcpfleet connect.
func TestInspector(t *testing.T) {
	s := install(t)
	dir := tsclient.InstallVersion(t, "inspector", sub(t, packages, "packages/inspector"))
	launcher := filepath.Join(dir, "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js")
	f := startFleet(t)
	for name := range fixtures {
		f.deploy(t, name, s.spec(name))
	}
	connect := func(args ...string) []string {
		return append([]string{filepath.Join(f.bin, "mcpfleet"), "connect", "--address", f.addresses()}, args...)
	}
	tests := []struct {
		name   string
		target []string
		tool   string
	}{
		{"legacy server", []string{f.front + "/legacy/mcp"}, "echo"},
		{"modern server", []string{f.front + "/modern/mcp"}, "echo"},
		{"all servers", []string{f.front + "/mcp"}, "modern__echo"},
		{"connect to a server", connect("modern"), "echo"},
		{"connect to all servers", connect(), "legacy__echo"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inspect := func(args ...string) []byte {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				cmd := exec.CommandContext(ctx, s.node, append([]string{launcher, "--cli"}, append(tt.target, args...)...)...)
				home := t.TempDir()
				cmd.Dir, cmd.Env, cmd.WaitDelay = home, append(cmd.Environ(), "HOME="+home), time.Second
				out, err := cmd.Output()
				if err != nil {
					t.Fatalf("%v: %v\n%s", args, err, tail(out))
				}
				return out
			}
			var list struct{ Tools []struct{ Name string } }
			if out := inspect("--method", "tools/list"); json.Unmarshal(out, &list) != nil || !strings.Contains(fmt.Sprint(list.Tools), "{"+tt.tool+"}") {
				t.Errorf("there is no tool %s in %s", tt.tool, tail(out))
			}
			var result struct{ Content []struct{ Text string } }
			out := inspect("--method", "tools/call", "--tool-name", tt.tool, "--tool-arg", "text=hello")
			if json.Unmarshal(out, &result) != nil || len(result.Content) != 1 || result.Content[0].Text != "hello" {
				t.Errorf("the call's result is %s", out)
			}
		})
	}
}

// addresses returns the addresses of all controllers, as mcpfleet takes them.
func (f *testFleet) addresses() string {
	var all []string
	for _, c := range f.controllers {
		all = append(all, "http://"+c.Addr.HTTP)
	}
	return strings.Join(all, ",")
}
