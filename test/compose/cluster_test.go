package compose

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// needDocker fails the test if a Docker engine is missing where it should be
// installed, and skips it on other machines.
func needDocker(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skipf("workers with podman inside need Linux and root: this is %s, uid %d", runtime.GOOS, os.Geteuid())
	}
	for _, args := range [][]string{{"docker", "info"}, {"docker-compose", "version"}, {"podman", "version"}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v (deploy/images/setup-host.sh installs and starts it)\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// cluster is one Compose project.
type cluster struct {
	t       *testing.T
	dir     string // deploy/compose
	project string
	file    string // docker-compose.yml, or a file that replaces it
	env     []string
	client  *api.Client
}

// newCluster builds the images and prepares a project, without starting it. When the
// test ends it removes what is left of the project.
func newCluster(t *testing.T, file string) *cluster {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, dir: filepath.Join(root, "deploy/compose"), file: file, project: "mcpfleet-test-" + strconv.Itoa(os.Getpid())}

	// The directory of a registry that serves docker.io/mcp/*.
	data := strings.TrimSpace(c.run(filepath.Join(root, "deploy/images/build.sh"), "registry", "fill"))
	port := freePort(t)
	c.env = []string{
		"MCPFLEET_REGISTRY_DATA=" + data,
		"MCPFLEET_PORT=" + strconv.Itoa(port),
		"MCPFLEET_TAG=test",
		"BRAVE_API_KEY=", // the environment of the test may have one
		// docker-compose waits 60 s for each answer. Removing the images of five workers
		// can take longer on a busy disk.
		"COMPOSE_HTTP_TIMEOUT=600",
	}
	c.client, err = api.NewClient(net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), nil)
	if err != nil {
		t.Fatal(err)
	}
	c.compose("build")
	t.Cleanup(func() {
		// A successful test has done this already.
		if t.Failed() {
			if out, err := c.try("docker-compose", c.composeArgs("logs", "--no-color", "--tail=200")...); err == nil {
				t.Logf("logs of the cluster:\n%s", out)
			}
		}
		if out, err := c.try("docker-compose", c.composeArgs("down", "-v", "--remove-orphans")...); err != nil {
			t.Errorf("docker-compose down: %v\n%s", err, out)
		}
	})
	return c
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// try runs a command in deploy/compose and returns its stdout. The error has its
// stderr. try also works during cleanup, when the test's context has ended.
func (c *cluster) try(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), c.env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), nil
}

func (c *cluster) run(name string, args ...string) string {
	c.t.Helper()
	out, err := c.try(name, args...)
	if err != nil {
		c.t.Fatalf("%v\n%s", err, out)
	}
	return out
}

func (c *cluster) composeArgs(args ...string) []string {
	return append([]string{"-p", c.project, "-f", c.file, "-f", "docker-compose.registry.yml"}, args...)
}

func (c *cluster) compose(args ...string) string {
	c.t.Helper()
	return c.run("docker-compose", c.composeArgs(args...)...)
}

func (c *cluster) scale(workers int) {
	c.t.Helper()
	c.compose("up", "-d", "--scale", "worker="+strconv.Itoa(workers))
}

// container is docker's description of a container.
type container struct {
	ID    string `json:"Id"`
	Name  string
	State struct {
		Running  bool
		ExitCode int
	}
	Config struct{ Hostname string }
	Mounts []struct{ Type, Name string }
}

// containers returns the containers of the project, or of one of its services,
// running or not.
func (c *cluster) containers(service string) []container {
	c.t.Helper()
	args := []string{"ps", "-aq", "--filter", "label=com.docker.compose.project=" + c.project}
	if service != "" {
		args = append(args, "--filter", "label=com.docker.compose.service="+service)
	}
	ids := strings.Fields(c.run("docker", args...))
	if len(ids) == 0 {
		return nil
	}
	var out []container
	if err := json.Unmarshal([]byte(c.run("docker", append([]string{"inspect"}, ids...)...)), &out); err != nil {
		c.t.Fatalf("docker inspect: %v", err)
	}
	return out
}

// pids returns the machine's pids of all processes in the project's containers,
// and in the containers inside those.
func (c *cluster) pids() map[int]string {
	c.t.Helper()
	out := map[int]string{}
	for _, ct := range c.containers("") {
		if !ct.State.Running {
			continue
		}
		for _, line := range strings.Split(c.run("docker", "top", ct.ID, "-eo", "pid,args"), "\n")[1:] {
			number, command, _ := strings.Cut(strings.TrimSpace(line), " ")
			if pid, err := strconv.Atoi(number); err == nil {
				out[pid] = strings.TrimSpace(command)
			}
		}
	}
	return out
}

// workers returns the workers that are alive according to the controller.
func (c *cluster) workers(ctx context.Context) ([]api.Node, error) {
	nodes, err := c.client.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(nodes, func(n api.Node) bool { return n.Role != fleet.RoleWorker || n.State != api.NodeReady }), nil
}

// settled returns an error until this many workers have joined, every wanted
// replica serves, and no other replica exists.
func (c *cluster) settled(ctx context.Context, workers int) error {
	alive, err := c.workers(ctx)
	if err != nil {
		return err
	}
	if len(alive) != workers {
		return fmt.Errorf("%d workers, want %d: %+v", len(alive), workers, alive)
	}
	ready, err := c.client.Ready(ctx)
	if err != nil {
		return err
	}
	if !ready.Ready {
		return fmt.Errorf("not ready: %+v", ready.Servers)
	}
	replicas, err := c.client.Replicas(ctx)
	if err != nil {
		return err
	}
	for _, r := range replicas {
		if r.Phase != "READY" {
			return fmt.Errorf("replica %s on %s is %s: %s", r.ID, r.Node, r.Phase, r.Reason)
		}
	}
	want := 0
	for _, s := range ready.Servers {
		want += s.Desired
	}
	if len(replicas) != want {
		return fmt.Errorf("%d replicas, want %d", len(replicas), want)
	}
	return nil
}

// eventually waits until check returns nil, and fails the test with the last error
// otherwise.
func (c *cluster) eventually(timeout time.Duration, what string, check func(context.Context) error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), timeout)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	last := fmt.Errorf("never asked")
	for {
		if err := check(ctx); err == nil {
			return
		} else if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			c.t.Fatalf("%s: not within %v: %v", what, timeout, last)
		case <-tick.C:
		}
	}
}
