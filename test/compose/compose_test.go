package compose

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// TestCompose is the life of one cluster, since starting one is slow. Three workers
// pull from a registry, one is killed under load, five workers run, the fleet file
// changes, one worker is stopped in order under load, and nothing is left behind.
func TestCompose(t *testing.T) {
	needDocker(t)
	c := newCluster(t, "docker-compose.yml")

	c.scale(3)
	c.eventually(3*time.Minute, "three workers and three replicas", func(ctx context.Context) error { return c.settled(ctx, 3) })
	c.checkPlacement(3)
	c.checkPulled()
	c.checkCgroups()
	c.checkTools()

	killed := c.killWorkerUnderLoad()

	c.scale(5)
	c.eventually(2*time.Minute, "five workers", func(ctx context.Context) error { return c.settled(ctx, 5) })
	c.checkHosts(killed)
	c.addBrave()

	c.stopWorkerUnderLoad()

	c.checkNothingLeft()
}

// stopAllWorkers stops all workers at once, as down does. None may wait for room
// that cannot come, which would take its --drain-timeout of 25 s. The time is what
// the workers logged, because docker takes seconds for each on a busy machine.
func (c *cluster) stopAllWorkers() {
	c.t.Helper()
	const most = 20 * time.Second
	running := 0
	for _, w := range c.containers("worker") {
		if w.State.Running {
			running++
		}
	}
	start := time.Now() // what was logged before does not count
	c.compose("stop", "worker")
	c.t.Logf("all workers stopped in %v", time.Since(start).Round(time.Millisecond))
	logs := c.compose("logs", "--no-color", "worker")
	stopping, inOrder := map[string]time.Time{}, 0
	for line := range strings.Lines(logs) {
		worker, text, _ := strings.Cut(line, "|")
		m := logged.FindStringSubmatch(text)
		if m == nil {
			continue
		}
		at, err := time.Parse(time.RFC3339, m[1])
		if err != nil {
			c.t.Fatal(err)
		}
		switch {
		case at.Before(start):
		case m[2] == `"worker stopping"`:
			stopping[worker] = at
		case m[2] == `"worker stopped"`:
			inOrder++
			if took := at.Sub(stopping[worker]); took > most {
				c.t.Errorf("%s stopped in %v, want %v at most", strings.TrimSpace(worker), took, most)
			}
		case m[2] == `"stopping replicas that did not move"` && strings.Contains(text, "the drain timeout has passed"):
			c.t.Errorf("%s waited for its drain timeout", strings.TrimSpace(worker))
		}
	}
	if inOrder != running || len(stopping) != running {
		c.t.Errorf("%d of %d workers have stopped in order:\n%s", inOrder, running, logs)
	}
}

// logged matches the time and the message of a line that a worker logged.
var logged = regexp.MustCompile(`time=(\S+) level=\S+ msg=("[^"]*"|\S+)`)

// checkPlacement fails the test unless every replica is in a container on a node of
// its own.
func (c *cluster) checkPlacement(nodes int) {
	c.t.Helper()
	replicas, err := c.client.Replicas(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	on := map[fleet.NodeID]int{}
	for _, r := range replicas {
		on[r.Node]++
		if r.ContainerID == nil {
			c.t.Errorf("replica %s on %s has no container", r.ID, r.Node)
		}
	}
	if len(on) != nodes {
		c.t.Errorf("replicas are on %v, want them on %d nodes", on, nodes)
	}
}

// checkPulled fails the test unless every worker with a replica has the registry's
// image. Its store was empty, so it must have pulled the image.
func (c *cluster) checkPulled() {
	c.t.Helper()
	const image = "docker.io/mcp/everything:latest"
	want := strings.TrimSpace(c.run("podman", "image", "inspect", "--format", "{{.Id}}", image))
	for _, w := range c.containers("worker") {
		if got := strings.TrimSpace(c.run("docker", "exec", w.ID, "podman", "image", "inspect", "--format", "{{.Id}}", image)); got != want {
			c.t.Errorf("%s has image %s, want %s", w.Name, got, want)
		}
	}
}

// checkCgroups fails the test unless replicas are below their worker's own cgroup,
// where they are removed with it even if it is killed. With cgroup v2 the engine
// gives workers a namespace in which that is neither visible nor possible.
func (c *cluster) checkCgroups() {
	c.t.Helper()
	if _, err := os.Stat("/sys/fs/cgroup/memory"); err != nil {
		c.t.Log("cgroup v2: replicas are where podman puts them")
		return
	}
	replicas, err := c.client.Replicas(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	for _, r := range replicas {
		w := c.worker(r.Node)
		if got := c.run("docker", "exec", w.ID, "cat", fmt.Sprintf("/proc/%d/cgroup", *r.PID)); !strings.Contains(got, w.ID+"/mcpfleet/libpod-"+*r.ContainerID) {
			c.t.Errorf("replica %s is not below the cgroup of %s:\n%s", r.ID, w.Name, got)
		}
	}
}

// checkTools fails the test unless the tools of the load exist, with the hints that
// decide whether they may be repeated.
func (c *cluster) checkTools() {
	c.t.Helper()
	list, err := c.client.Tools(c.t.Context(), "")
	if err != nil {
		c.t.Fatal(err)
	}
	tools := map[string]api.Tool{}
	for _, tool := range list.Tools {
		tools[tool.Name] = tool
	}
	for name, repeatable := range map[string]bool{"echo": true, "trigger-long-running-operation": true, "toggle-subscriber-updates": false} {
		tool, ok := tools[name]
		if !ok {
			c.t.Fatalf("no tool %s in %d tools", name, len(list.Tools))
		}
		if got := strings.Contains(string(tool.Annotations), `"readOnlyHint":true`); got != repeatable {
			c.t.Errorf("%s: readOnlyHint is %v in %s, want %v", name, got, tool.Annotations, repeatable)
		}
	}
}

// killWorkerUnderLoad kills the container of a worker with a replica and returns its
// host name. No read-only call may fail because of that.
func (c *cluster) killWorkerUnderLoad() (host string) {
	c.t.Helper()
	l := startLoad(c.t, c.client, 16)
	c.eventually(30*time.Second, "load", l.more(200))

	victim := c.busyWorker()
	start := time.Now()
	c.run("docker", "kill", victim.ID)
	c.eventually(60*time.Second, "two workers and three replicas", func(ctx context.Context) error { return c.settled(ctx, 2) })
	c.t.Logf("three replicas on two workers %v after the kill", time.Since(start).Round(time.Millisecond))
	c.eventually(30*time.Second, "load after the kill", l.more(200))
	c.report("kill", l)
	if got, most := l.lost.Load(), int64(1); got > most {
		c.t.Errorf("kill: %d calls of one caller lost, want at most the %d in flight", got, most)
	}
	return victim.Config.Hostname
}

// stopWorkerUnderLoad stops the container of a worker with a replica in order. The
// worker drains, so no call may fail or be lost.
func (c *cluster) stopWorkerUnderLoad() {
	c.t.Helper()
	l := startLoad(c.t, c.client, 16)
	c.eventually(30*time.Second, "load", l.more(200))
	start := time.Now()
	victim := c.busyWorker()
	c.run("docker", "stop", "--time", "40", victim.ID)
	c.t.Logf("the worker stopped in %v", time.Since(start).Round(time.Millisecond))
	for _, w := range c.containers("worker") {
		if w.ID == victim.ID && w.State.ExitCode != 0 {
			c.t.Errorf("stop: exit status %d, want 0", w.State.ExitCode)
		}
	}
	c.eventually(60*time.Second, "four workers and three replicas", func(ctx context.Context) error { return c.settled(ctx, 4) })
	c.eventually(30*time.Second, "load after the stop", l.more(200))
	c.report("stop", l)
	if got := l.lost.Load(); got != 0 {
		c.t.Errorf("stop: %d calls lost, want none", got)
	}
}

func (c *cluster) report(what string, l *load) {
	c.t.Helper()
	failed := l.end()
	c.t.Logf("%s: %d calls, %d failed, %d of the unrepeatable tool lost", what, l.calls.Load(), len(failed), l.lost.Load())
	for i, err := range failed {
		if i == 10 {
			break
		}
		c.t.Errorf("%s: %v", what, err)
	}
}

// busyWorker returns the container of a worker with a replica of the server under
// load.
func (c *cluster) busyWorker() container {
	c.t.Helper()
	replicas, err := c.client.Replicas(c.t.Context())
	i := slices.IndexFunc(replicas, func(r api.Replica) bool { return r.Server == "everything" })
	if err != nil || i < 0 {
		c.t.Fatalf("no replica of everything: %+v, %v", replicas, err)
	}
	return c.worker(replicas[i].Node)
}

// worker returns the container of a node's worker.
func (c *cluster) worker(node fleet.NodeID) container {
	c.t.Helper()
	for _, w := range c.containers("worker") {
		if fleet.NodeID(w.Config.Hostname) == node {
			return w
		}
	}
	c.t.Fatalf("no worker container has the host name %s", node)
	return container{}
}

// addBrave sets the key that adds Brave Search to the fleet. Compose then replaces
// the controller, which must not affect running replicas.
func (c *cluster) addBrave() {
	c.t.Helper()
	before, err := c.client.Replicas(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	c.env = append(c.env, "BRAVE_API_KEY=no-real-one") // the last value takes precedence
	c.scale(5)
	// The new container resumes the stored state. SIGHUP applies its file.
	c.eventually(2*time.Minute, "the controller again", func(ctx context.Context) error { return c.settled(ctx, 5) })
	c.compose("kill", "-s", "HUP", "controller")
	c.eventually(2*time.Minute, "brave-search", func(ctx context.Context) error {
		if err := c.settled(ctx, 5); err != nil {
			return err
		}
		tools, err := c.client.Tools(ctx, "brave-search")
		if err != nil {
			return err
		}
		for _, tool := range tools.Tools {
			if tool.Name == "brave_web_search" {
				return nil
			}
		}
		return fmt.Errorf("no brave_web_search in %+v", tools)
	})

	after, err := c.client.Replicas(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	still := map[fleet.ReplicaID]bool{}
	for _, r := range after {
		still[r.ID] = true
	}
	for _, r := range before {
		if !still[r.ID] {
			c.t.Errorf("replica %s did not survive its controller's replacement", r.ID)
		}
	}
	// Use the command in the controller's image, as in the README.
	if out := c.compose("exec", "-T", "controller", "mcpfleet", "status"); !strings.Contains(out, "brave-search") {
		c.t.Errorf("mcpfleet status does not list brave-search:\n%s", out)
	}
}

// checkHosts fails the test unless every worker is known by its container's host
// name, including the one that was killed and restarted.
func (c *cluster) checkHosts(again string) {
	c.t.Helper()
	alive, err := c.workers(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	known := map[string]bool{}
	for _, n := range alive {
		known[string(n.Name)] = true
	}
	for _, w := range c.containers("worker") {
		if !known[w.Config.Hostname] {
			c.t.Errorf("%s is not a node; nodes are %v", w.Config.Hostname, known)
		}
	}
	if !known[again] {
		c.t.Errorf("%s did not come back; nodes are %v", again, known)
	}
}

// checkNothingLeft takes the cluster down, and fails the test unless its containers,
// networks, volumes, processes and cgroups are gone.
func (c *cluster) checkNothingLeft() {
	c.t.Helper()
	before, processes := c.containers(""), c.pids()
	if len(before) != 7 || len(processes) < len(before) {
		c.t.Errorf("before the end: %d containers and %d processes, want 7 containers", len(before), len(processes))
	}
	c.stopAllWorkers()
	start := time.Now()
	c.compose("down", "-v")
	c.t.Logf("down took %v after that", time.Since(start).Round(time.Millisecond))

	for _, kind := range []string{"container", "network", "volume"} {
		args := []string{kind, "ls", "-q", "--filter", "label=com.docker.compose.project=" + c.project}
		if kind == "container" {
			args = append(args, "--all")
		}
		if left := c.run("docker", args...); left != "" {
			c.t.Errorf("%ss left: %s", kind, left)
		}
	}
	volumes := strings.Fields(c.run("docker", "volume", "ls", "-q"))
	for _, ct := range before {
		for _, m := range ct.Mounts {
			for _, v := range volumes {
				if m.Type == "volume" && m.Name == v {
					c.t.Errorf("volume %s of %s is left", v, ct.Name)
				}
			}
		}
		// The depth differs between cgroup v1 (one directory per controller) and v2.
		for _, pattern := range []string{"/sys/fs/cgroup/docker/", "/sys/fs/cgroup/*/docker/", "/sys/fs/cgroup/system.slice/docker-"} {
			if left, _ := filepath.Glob(pattern + ct.ID + "*"); len(left) > 0 {
				c.t.Errorf("cgroups of %s are left: %v", ct.Name, left)
			}
		}
	}
	for pid, command := range processes {
		// The pid may belong to another process by now, so compare the name.
		if now, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && strings.ReplaceAll(strings.TrimRight(string(now), "\x00"), "\x00", " ") == command {
			c.t.Errorf("process %d is left: %s", pid, command)
		}
	}
}
