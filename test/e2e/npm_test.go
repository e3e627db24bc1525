//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/test/tsclient"
)

// npmServers are the images, and how to start each one by hand.
var npmServers = []struct {
	name      string
	run, args []string // of podman run: the options, and the arguments after the image
}{
	{name: "everything"},
	{name: "filesystem", run: []string{"-v", "DIR:/data:ro"}, args: []string{"/data"}},
	{name: "memory"},
	{name: "sequentialthinking"},
	{name: "brave-search", run: []string{"-e", "BRAVE_API_KEY=x"}},
}

// The unmodified npm servers in containers. Three workers serve all of them, with
// the same tools that the official client gets from the image itself.
func TestNPMServersInContainers(t *testing.T) {
	var images []string
	for _, s := range npmServers {
		images = append(images, "docker.io/mcp/"+s.name)
	}
	needPodman(t, images...)
	t.Parallel()
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "hello.txt"), []byte("hello from the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(data, 0o755); err != nil {
		t.Fatal(err)
	}

	c := NewCluster(t, "podman")
	c.Fleet(`default_server: everything
servers:
  everything: { image: docker.io/mcp/everything, replicas: 3 }
  filesystem: { image: docker.io/mcp/filesystem, args: [/data], mounts: ["%s:/data:ro"], network: none, read_only: true }
  memory: { image: docker.io/mcp/memory, network: none, default_tool: read_graph, resources: { cpus: 0.5, memory: 256m, pids: 64 } }
  sequentialthinking: { image: docker.io/mcp/sequentialthinking, network: none }
  brave-search: { image: docker.io/mcp/brave-search, network: none, env: { BRAVE_API_KEY: x } }
`, data)
	c.Start(3)
	nodes := map[fleet.NodeID]bool{}
	for _, r := range c.ReplicasOf("everything", "READY") {
		nodes[r.Node] = true
		if r.ContainerID == nil || r.PID == nil {
			t.Errorf("replica without container: %+v", r)
		}
	}
	if len(nodes) != 3 {
		t.Errorf("three replicas run on %v", nodes)
	}

	for _, s := range npmServers {
		want := listOverStdio(t, s.name, s.run, s.args, data)
		got, err := c.Tools(t.Context(), fleet.Scope(s.name))
		if err != nil {
			t.Errorf("tools of %s: %v", s.name, err)
			continue
		}
		if len(got.Tools) != len(want) || len(want) == 0 {
			t.Errorf("%s has %d tools, the official client sees %d", s.name, len(got.Tools), len(want))
			continue
		}
		for i, w := range want {
			g := got.Tools[i]
			if g.Name != w.Name || !reflect.DeepEqual(g.Description, w.Description) || !reflect.DeepEqual(decode(t, g.InputSchema), decode(t, w.InputSchema)) {
				t.Errorf("%s, tool %d is\n%s %v %s, the official client sees\n%s %v %s",
					s.name, i, g.Name, text(g.Description), g.InputSchema, w.Name, text(w.Description), w.InputSchema)
			}
		}
	}

	if got := c.MustText("everything", "echo", `{"message":"grüße"}`); got != "Echo: grüße" {
		t.Errorf("echo returned %q", got)
	}
	if got := c.MustText("", "get-sum", `{"a":40,"b":2}`); !strings.Contains(got, "42") {
		t.Errorf("get-sum returned %q", got)
	}
	c.MustText("memory", "create_entities", `{"entities":[{"name":"mcpfleet","entityType":"program","observations":["scales stdio"]}]}`)
	if got := c.MustText("memory", "", `{}`); !strings.Contains(got, "scales stdio") {
		t.Errorf("read_graph, by default, returned %q", got)
	}
	if got := c.MustText("filesystem", "list_directory", `{"path":"/data"}`); got != "[FILE] hello.txt" {
		t.Errorf("list_directory returned %q", got)
	}
	if got := c.MustText("", "filesystem__read_text_file", `{"path":"/data/hello.txt"}`); got != "hello from the host\n" {
		t.Errorf("read_text_file returned %q", got)
	}
	if got := c.MustText("sequentialthinking", "sequentialthinking", `{"thought":"one","nextThoughtNeeded":false,"thoughtNumber":1,"totalThoughts":1}`); !strings.Contains(got, `"thoughtNumber": 1`) {
		t.Errorf("sequentialthinking returned %q", got)
	}
	// The key is a secret, and is shown nowhere.
	servers, err := c.Servers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range servers {
		if s.Name == "brave-search" && (!bytes.Contains(s.Spec, []byte("BRAVE_API_KEY")) || bytes.Contains(s.Spec, []byte(`"x"`))) {
			t.Errorf("spec of brave-search: %s", s.Spec)
		}
	}
	for _, pid := range processesWith("mcp/brave-search") {
		if strings.Contains(cmdline(pid), "BRAVE_API_KEY=x") {
			t.Errorf("ps shows the key: %s", cmdline(pid))
		}
	}
}

// A worker finds settings with which podman works by itself.
func TestWorkerFindsPodmanSettings(t *testing.T) {
	needPodman(t)
	t.Parallel()
	c := NewCluster(t, "podman")
	c.plain = true
	c.Fleet(`servers: { everything: { image: docker.io/mcp/everything, network: none } }`)
	c.Start(1)
	if got := c.MustText("everything", "echo", `{"message":"hi"}`); got != "Echo: hi" {
		t.Errorf("echo returned %q", got)
	}
}

// decode makes JSON comparable, with numbers as written.
func decode(t *testing.T, raw json.RawMessage) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	return v
}

func text(s *string) string {
	if s == nil {
		return "(none)"
	}
	return *s
}

// tsTool is a tool from the official client.
type tsTool struct {
	Name        string
	Description *string
	InputSchema json.RawMessage
}

// list gets the tools from the image itself. DIR in options stands for the
// directory.
func listOverStdio(t *testing.T, server string, run, args []string, data string) []tsTool {
	t.Helper()
	name := newToken(t)
	line := []string{"podman", "run", "-i", "--rm", "--pull=never", "--network=none", "--name", name}
	for _, o := range run {
		line = append(line, strings.ReplaceAll(o, "DIR", data))
	}
	line = append(append(line, "docker.io/mcp/"+server), args...)
	cmd := tsclient.Command(t, tsclient.List, line...)
	cmd.Env = environ()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	t.Cleanup(func() { _, _ = podman("rm", "-f", "-i", name) }) // usually --rm has removed it already
	if err != nil {
		t.Fatalf("the official client with %s: %v\n%s", server, err, &stderr)
	}
	var tools []tsTool
	if err := json.Unmarshal(out, &tools); err != nil {
		t.Fatalf("the official client with %s: %v in %s", server, err, out)
	}
	return tools
}
