//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

// The tasks of operators, with the mcpfleet command and a controller that does
// not lead.
func TestCommandsThroughAFollower(t *testing.T) {
	t.Parallel()
	p := NewPlane(t, 3)
	p.Fleet("servers: {}")
	p.Start(2)
	address := p.Follower().Addr.HTTP
	try := func(code int, stdin string, args ...string) said {
		t.Helper()
		got := cli(t, "mcpfleet", stdin, append([]string{"--address", address}, args...)...)
		if got.code != code {
			t.Errorf("mcpfleet %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got.code, code, got.out, got.err)
		}
		return got
	}
	journal := filepath.Join(p.dir, "journal")
	fleetOf := func(extra string, more string) {
		p.Fleet(`servers:
  demo: { command: [%q, -journal, %q], replicas: 2, env: { TOKEN: %s, SECRET: s3cr3t }%s }
%s`, program("testserver"), journal, p.token, extra, more)
	}
	words := func(got said, words ...string) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(got.out+got.err, w) {
				t.Errorf("no %q in\n%s%s", w, got.out, got.err)
			}
		}
	}

	// Deploy, and deploy again: nothing to change.
	fleetOf("", "  idle: { command: [none], replicas: 0 }")
	words(try(0, "", "apply", "-f", p.file, "--dry-run"), "create", "demo", "start")
	if servers, err := p.Servers(t.Context()); err != nil || len(servers) != 0 {
		t.Fatalf("a dry run left %+v, %v", servers, err)
	}
	words(try(0, "", "apply", "-f", p.file, "--wait"), "create", "demo", "applied")
	words(try(0, "", "apply", "-f", p.file), "nothing to change")
	first := p.alive("demo")
	if len(first) != 2 {
		t.Fatalf("apply --wait ended with %v", first)
	}

	// Secrets are masked, and kept when the mask is sent back.
	shown := try(0, "", "get", "-o", "yaml").out
	if strings.Contains(shown, "s3cr3t") || !strings.Contains(shown, fleet.Masked) {
		t.Errorf("get shows %s", shown)
	}
	words(try(0, shown, "apply", "-f", "-"), "nothing to change")
	words(try(0, strings.Replace(shown, "replicas: 2", "replicas: 3", 1), "apply", "-f", "-", "--wait"), "tune")
	three := p.alive("demo")
	if len(three) != 3 || !contains(three, first) {
		t.Errorf("replicas were %v and are %v", first, three)
	}
	for id, pid := range three {
		if env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err != nil || !bytes.Contains(env, []byte("SECRET=s3cr3t\x00")) {
			t.Errorf("%s has the environment %q (%v)", id, env, err)
		}
	}

	// Scale, stop, start.
	try(0, "", "scale", "demo", "1", "--wait")
	p.awaitCount("demo", 1, 1)
	one := p.alive("demo")
	if len(one) != 1 || !contains(three, one) {
		t.Errorf("replicas were %v and are %v", three, one)
	}
	try(0, "", "scale", "demo", "0", "--wait")
	_, err := p.Text("demo", "echo", `{"text":""}`)
	wantError(t, err, 503, api.CodeStopped)
	if tools, err := p.Tools(t.Context(), ""); err != nil || len(tools.Tools) != 0 {
		t.Errorf("a stopped server offers %+v, %v", tools, err)
	}
	p.AwaitReady(2) // a stop is not a failure
	try(0, "", "scale", "demo", "2", "--wait")

	// Restart; then deploy a new revision, and roll back.
	p.awaitCount("demo", 2, 1)
	before := p.alive("demo")
	try(0, "", "restart", "demo", "--wait")
	p.awaitCount("demo", 2, 1)
	after := p.alive("demo")
	if len(after) != 2 || overlap(before, after) || p.Server("demo").Revision != 1 {
		t.Errorf("restarted, the replicas were %v and are %v: %+v", before, after, p.Server("demo"))
	}
	fleetOf(`, args: ["-exit", "-1"]`, "")
	words(try(0, "", "apply", "-f", p.file, "--wait"), "update", "args")
	words(try(0, "", "revisions", "demo"), "current", "args")
	if s := p.Server("demo"); s.Revision != 2 || s.Desired != 2 {
		t.Errorf("the server is %+v", s)
	}
	try(0, "", "rollback", "demo", "--wait")
	p.awaitCount("demo", 2, 1)
	if s := p.Server("demo"); s.Revision != 1 || s.Ready != 2 || s.Restarts != 0 {
		t.Errorf("rolled back, the server is %+v", s)
	}

	// Drain a node without a failed call, and use it again.
	calls := p.steadyCalls(200)
	w1 := p.Node("w1")
	try(0, "", "drain", w1, "--wait")
	for _, r := range p.ReplicasOf("demo", "") {
		if string(r.Node) == w1 {
			t.Errorf("on the drained node there is %+v", r)
		}
	}
	calls.awaitGood(10)
	calls.stop()
	if len(calls.failed) > 0 {
		t.Errorf("while the node was drained: %s: %v", calls, errors.Join(calls.failed...))
	}
	calls.check(t, journal)
	words(try(0, "", "nodes"), "drain", w1)
	try(0, "", "scale", "demo", "4", "--wait")
	if n := len(p.ReplicasOf("demo", "READY")); n != 4 || p.onNode("demo", "w1") != 0 {
		t.Errorf("%d replicas, on the drained node %d", n, p.onNode("demo", "w1"))
	}
	try(0, "", "uncordon", w1)
	try(0, "", "cordon", p.Node("w2"))
	try(0, "", "scale", "demo", "6", "--wait")
	if n := p.onNode("demo", "w1"); n != 2 {
		t.Errorf("%d of the new replicas are on the node that takes any, want 2", n)
	}
	try(0, "", "uncordon", p.Node("w2"))

	// The events report all of that.
	events := try(0, "", "events")
	words(events, "leader_elected", "server_created", "server_updated", "server_rolled_back", "server_restarted", "replica_ready", "node_")
	if strings.Contains(events.out, "s3cr3t") {
		t.Errorf("events show the secret: %s", events.out)
	}
	var list api.Events
	if err := json.Unmarshal([]byte(try(0, "", "events", "--server", "idle", "-o", "json").out), &list); err != nil || len(list.Events) == 0 {
		t.Errorf("events of idle: %+v, %v", list, err)
	}
	for _, e := range list.Events {
		if e.Server != "idle" {
			t.Errorf("events of idle have %+v", e)
		}
	}

	// Servers that are not in the file stay, unless they are pruned.
	fleetOf("", "")
	plan := try(0, "", "apply", "-f", p.file, "--prune", "--dry-run")
	words(plan, "delete", "idle")
	if p.Server("idle").Revision != 1 {
		t.Error("a dry run did something")
	}
	words(try(0, "", "apply", "-f", p.file, "--prune", "--wait"), "delete", "idle")
	backup := filepath.Join(p.dir, "fleet.backup")
	try(0, "", "backup", "-o", backup)
	try(1, "", "backup", "-o", backup) // overwrites nothing
	words(try(0, "", "backup", "inspect", backup), "demo")

	// A failed command changes nothing, and its exit code says so.
	etag := p.Server("demo").ETag
	for _, bad := range []struct {
		code  int
		stdin string
		args  []string
		words []string
	}{
		{1, "", []string{"scale", "dmeo", "1"}, []string{"dmeo"}},
		{1, "", []string{"get", "dmeo"}, []string{"dmeo"}},
		{1, "", []string{"delete", "dmeo", "demo"}, []string{"dmeo", "nothing was deleted"}},
		{1, "", []string{"rollback", "demo", "--to", "77"}, []string{"77"}},
		{1, "", []string{"drain", "nowhere"}, []string{"nowhere"}},
		{1, "servers: { demo: { comand: [x] } }", []string{"apply", "-f", "-"}, []string{"comand", "command"}},
		{1, "servers: { new: { command: [x], env: { A: '***' } } }", []string{"apply", "-f", "-"}, []string{"env.A"}},
		{2, "", []string{"scale", "demo", "-3"}, nil},
		{2, "", []string{"scale", "demo"}, nil},
		{2, "", []string{"apply"}, []string{"--file"}},
		{2, "", []string{"frobnicate"}, []string{"frobnicate"}},
	} {
		words(try(bad.code, bad.stdin, bad.args...), bad.words...)
	}
	if now := p.Server("demo"); now.ETag != etag {
		t.Errorf("the server became %+v", now)
	}
	hopeless := fmt.Sprintf(`servers: { hopeless: { command: [%q, "-exit", "7"] } }`, program("testserver"))
	words(try(3, hopeless, "apply", "-f", "-", "--wait", "--timeout", "2s"), "hopeless", "exit code 7")
	try(0, "", "delete", "hopeless", "demo", "--wait")
	if n := p.running("testserver"); n != 0 {
		t.Errorf("%d replicas outlived their deletion", n)
	}
}

// overlap reports whether any replica is in both lists.
func overlap(one, other map[fleet.ReplicaID]int) bool {
	return slices.ContainsFunc(slices.Collect(maps.Keys(one)), func(id fleet.ReplicaID) bool { _, ok := other[id]; return ok })
}

// onNode counts the replicas of a server on a worker.
func (p *Plane) onNode(server, worker string) int {
	p.t.Helper()
	n := 0
	for _, r := range p.ReplicasOf(server, "") {
		if string(r.Node) == p.Node(worker) {
			n++
		}
	}
	return n
}

// A whole cluster on one machine. Programs that die are restarted, the children
// of a killed up stop, and the next up resumes the deployed servers.
func TestUpWithThreeControllers(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	data := filepath.Join(u.temp, "data")
	config := filepath.Join(u.dir, "fleet.yaml")
	file := fmt.Sprintf("servers: { one: { command: [%q], replicas: 2 } }\n", program("testserver"))
	if err := os.WriteFile(config, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	up := u.up("--runtime", "process", "--controllers", "3", "--workers", "2", "--http", "127.0.0.1:0", "--data-dir", data, "--config", config)
	controllers := func() map[fleet.NodeID]api.Node {
		t.Helper()
		nodes, err := up.client.Nodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		found := map[fleet.NodeID]api.Node{}
		for _, n := range nodes {
			if n.Role == fleet.RoleController {
				found[n.Name] = n
			}
		}
		return found
	}
	first := controllers()
	if len(first) != 3 {
		t.Fatalf("controllers: %+v", first)
	}
	var addresses []string
	for _, n := range first {
		addresses = append(addresses, n.HTTP)
	}
	mcpfleet := func(args ...string) said {
		return cli(t, "mcpfleet", "", append([]string{"--address", strings.Join(addresses, ",")}, args...)...)
	}

	// Each controller is killed in turn, and all replicas stay.
	replicas := func() map[fleet.ReplicaID]int {
		t.Helper()
		all, err := up.client.Replicas(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		pids := map[fleet.ReplicaID]int{}
		for _, r := range all {
			if r.PID != nil {
				pids[r.ID] = *r.PID
			}
		}
		return pids
	}
	before := replicas()
	for name, n := range first {
		if err := syscall.Kill(n.PID, syscall.SIGKILL); err != nil {
			t.Fatalf("kill %s: %v", name, err)
		}
		harness.Eventually(t, patience, func() error {
			nodes, err := up.client.Nodes(t.Context())
			if err != nil {
				return err
			}
			led := false
			var back bool
			for _, now := range nodes {
				led = led || now.Leader
				back = back || now.Name == name && now.PID != n.PID && now.State == api.NodeReady
			}
			ready, err := up.client.Ready(t.Context())
			if err != nil || !back || !led || !ready.Ready {
				return fmt.Errorf("after %s was killed: %+v, %+v, %w", name, nodes, ready, err)
			}
			return nil
		})
	}
	if now := replicas(); len(before) != 2 || !maps.Equal(before, now) {
		t.Errorf("replicas were %v and are %v", before, now)
	}
	mcpfleet("scale", "one", "3", "--wait").must(t, "scale")
	up.mustGo(syscall.SIGKILL)

	// A file would be compared with the state. Without one everything is resumed.
	up = u.up("--runtime", "process", "--workers", "2", "--http", "127.0.0.1:0", "--data-dir", data)
	servers, err := up.client.Servers(t.Context())
	if err != nil || len(servers) != 1 || servers[0].Name != "one" || servers[0].Ready != 3 || servers[0].Revision != 1 {
		t.Errorf("resumed with %+v, %v", servers, err)
	}
	if again := controllers(); len(again) != 3 || !maps.EqualFunc(first, again, func(a, b api.Node) bool { return a.Name == b.Name }) {
		t.Errorf("controllers were %v and are %v", first, again)
	}
	up.mustGo(syscall.SIGTERM)
}
