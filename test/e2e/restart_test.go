//go:build linux

package e2e

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

// alive maps the READY replicas of a server to their processes.
func (c *Cluster) alive(server string) map[fleet.ReplicaID]int {
	pids := map[fleet.ReplicaID]int{}
	for _, r := range c.ReplicasOf(server, "READY") {
		if r.PID != nil {
			pids[r.ID] = *r.PID
		}
	}
	return pids
}

// A controller that dies and returns finds its replicas unchanged.
func TestControllerRestartKeepsReplicas(t *testing.T) {
	c := NewCluster(t, "process")
	c.Fleet(`servers: { demo: { command: [%q], replicas: 4, env: { TOKEN: %s } } }`, program("testserver"), c.token)
	c.Start(2)
	before := c.alive("demo")
	if len(before) != 4 {
		t.Fatalf("replicas: %v", before)
	}
	for range 2 { // twice, since the second life's knowledge must also suffice
		c.Controller.Kill9()
		c.StartController()
		c.AwaitReady(2)
		c.MustText("demo", "echo", `{"text":"again"}`)
		if after := c.alive("demo"); !maps.Equal(before, after) {
			t.Errorf("replicas and pids were %v and are %v", before, after)
		}
		if s := c.Server("demo"); s.Restarts != 0 || s.Revision != 1 || len(s.LastEnded) != 0 {
			t.Errorf("server after the restart: %+v", s)
		}
	}
}

// SIGHUP applies the file, and a bad file changes nothing.
func TestReload(t *testing.T) {
	c := NewCluster(t, "process")
	fleetOf := func(replicas int, extra string) {
		c.Fleet(`servers:
  demo:
    command: [%q]
    replicas: %d
    env: { TOKEN: %s }
%s`, program("testserver"), replicas, c.token, extra)
	}
	fleetOf(2, "")
	c.Start(2)
	before := c.alive("demo")

	fleetOf(4, "")
	c.Reload()
	c.awaitCount("demo", 4, 1)
	if after := c.alive("demo"); !contains(after, before) {
		t.Errorf("scaled up from %v to %v", before, after)
	}
	four := c.alive("demo")
	fleetOf(3, "")
	c.Reload()
	c.awaitCount("demo", 3, 1)
	three := c.alive("demo")
	if !contains(four, three) {
		t.Errorf("scaled down from %v to %v", four, three)
	}

	for name, bad := range map[string]string{
		"unknown key":      "    replica: 7",
		"not YAML":         "    }}",
		"wrong type":       "    max_ongoing_requests: many",
		"missing variable": "    cwd: ${E2E_NO_SUCH_VARIABLE}",
		"not supported":    "    autoscaling: { min: 1, max: 2 }",
	} {
		logged := logSize(t, c.Controller.Log)
		fleetOf(1, bad)
		c.Reload()
		harness.Eventually(t, patience, func() error {
			b, err := os.ReadFile(c.Controller.Log)
			if err != nil {
				return err
			}
			if said := string(b[logged:]); !strings.Contains(said, "level=ERROR") || !strings.Contains(said, "fleet.yaml:") {
				return fmt.Errorf("%s: the log names no line: %s", name, said)
			}
			return nil
		})
		if !c.Controller.Running() {
			t.Fatalf("%s: the controller ended", name)
		}
		if after := c.alive("demo"); !maps.Equal(three, after) {
			t.Errorf("%s: replicas were %v and are %v", name, three, after)
		}
	}

	// A changed template makes a new revision, whose replicas replace the old
	// ones. No call may fail meanwhile.
	calls := call(t, c, 4, "demo", "echo")
	fleetOf(3, "    args: [-exit, \"-1\"]\n    default_tool: echo")
	c.Reload()
	c.awaitCount("demo", 3, 2)
	calls.Stop()
	if n, bad := calls.result(); bad != nil {
		t.Errorf("of %d calls during the update one ended with %v", n, bad)
	}
	for id := range c.alive("demo") {
		if _, old := three[id]; old {
			t.Errorf("replica %s outlived its revision", id)
		}
	}

	// A server that is removed from the file ends.
	c.Fleet(`servers: { other: { command: [%q], env: { TOKEN: %s } } }`, program("testserver"), c.token)
	c.Reload()
	harness.Eventually(t, patience, func() error {
		servers, err := c.Servers(t.Context())
		if err != nil {
			return err
		}
		if len(servers) != 1 || servers[0].Name != "other" || servers[0].Ready != 1 {
			return fmt.Errorf("servers: %+v", servers)
		}
		return nil
	})
	_, err := c.Text("demo", "echo", `{"text":""}`)
	wantError(t, err, 404, api.CodeUnknownServer)
}

// awaitCount waits until a server has this many replicas, all READY and of one
// revision.
func (c *Cluster) awaitCount(server string, count int, revision fleet.Revision) {
	c.t.Helper()
	harness.Eventually(c.t, patience, func() error {
		all := c.ReplicasOf(server, "")
		bad := slices.ContainsFunc(all, func(r api.Replica) bool { return r.Phase != "READY" || r.Revision != revision })
		if len(all) != count || bad {
			return fmt.Errorf("replicas: %+v, want %d READY of revision %d", all, count, revision)
		}
		return nil
	})
	c.AwaitReady(len(c.Workers))
}

// contains reports whether every replica of part is in whole with the same pid.
func contains(whole, part map[fleet.ReplicaID]int) bool {
	for id, pid := range part {
		if whole[id] != pid {
			return false
		}
	}
	return true
}

func logSize(t testing.TB, file string) int64 {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
