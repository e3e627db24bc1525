//go:build linux

package e2e

import (
	"context"
	"crypto/rand"
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
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

// Cluster is one controller and its workers.
type Cluster struct {
	*api.Client // of the controller
	Controller  *harness.Process
	Workers     map[string]*harness.Process // by short name

	t       testing.TB
	token   string
	dir     string
	file    string
	runtime string
	join    func() []string        // gossip addresses that workers join
	plain   bool                   // no CONTAINERS_CONF for workers
	prepare func(*harness.Process) // changes each program before it starts; nil: none
	traces  *traces
}

// NewCluster prepares a cluster whose workers have the runtime. It is stopped at
// the end of the test, and must leave nothing behind.
func NewCluster(t testing.TB, runtime string) *Cluster {
	t.Helper()
	c := &Cluster{t: t, token: newToken(t), dir: t.TempDir(), runtime: runtime, Workers: map[string]*harness.Process{}}
	c.file = filepath.Join(c.dir, "fleet.yaml")
	c.join = func() []string { return []string{c.Controller.Addr.Gossip} }
	c.traces = follow(t, c.token)
	t.Cleanup(func() {
		c.stop()
		c.traces.mustVanish(t, patience)
		if t.Failed() {
			harness.ShowLogs(t, c.dir, 150)
		}
	})
	return c
}

// newToken returns a unique word, which is part of every name of the test.
func newToken(t testing.TB) string {
	t.Helper()
	if err := sources(); err != nil {
		t.Fatal(err)
	}
	return "e2e" + strings.ToLower(rand.Text()[:8])
}

// Fleet writes the fleet file. The variable TOKEN in each server's env marks
// its processes.
func (c *Cluster) Fleet(format string, args ...any) {
	c.t.Helper()
	if err := os.WriteFile(c.file, fmt.Appendf(nil, format, args...), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// StartController starts the controller: the first time at a free address, and
// later at the same address with the same data.
func (c *Cluster) StartController(flags ...string) {
	c.t.Helper()
	httpAddr, gossip := "127.0.0.1:0", "127.0.0.1:0"
	if c.Controller != nil {
		httpAddr, gossip = c.Controller.Addr.HTTP, c.Controller.Addr.Gossip
	}
	args := append([]string{
		"--name", "c-" + c.token, "--http", httpAddr, "--gossip", gossip,
		"--data-dir", filepath.Join(c.dir, "controller"), "--config", c.file, "--shutdown-delay", "0s",
	}, flags...)
	c.Controller = start(c.t, "controller", filepath.Join(c.dir, "controller.log"), args...)
	client, err := api.NewClient(c.Controller.Addr.HTTP, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	c.Client = client
}

// StartWorker starts a worker, or restarts one that has ended.
func (c *Cluster) StartWorker(name string, flags ...string) *harness.Process {
	c.t.Helper()
	args := append([]string{
		"--name", c.Node(name), "--join", strings.Join(c.join(), ","), "--runtime", c.runtime,
		"--data-dir", filepath.Join(c.dir, name),
	}, flags...)
	w := command(c.t, "worker", filepath.Join(c.dir, name+".log"), args...)
	if c.plain {
		w.Cmd.Env = slices.DeleteFunc(w.Cmd.Env, func(kv string) bool { return strings.HasPrefix(kv, "CONTAINERS_CONF=") })
	}
	c.prepared(w)
	w.Start()
	c.Workers[name] = w
	return w
}

func (c *Cluster) prepared(p *harness.Process) {
	if c.prepare != nil {
		c.prepare(p)
	}
}

// Start starts a controller, and workers named w1, w2, ... It deploys the servers
// when all workers have joined, so that each gets replicas.
func (c *Cluster) Start(workers int) {
	c.t.Helper()
	wanted, err := os.ReadFile(c.file)
	if err != nil {
		c.t.Fatal(err)
	}
	c.Fleet("servers: {}")
	c.StartController()
	for i := range workers {
		c.StartWorker(fmt.Sprintf("w%d", i+1))
	}
	c.AwaitReady(workers)
	c.Fleet("%s", wanted)
	c.Reload()
	harness.Eventually(c.t, patience, func() error {
		ready, err := c.Ready(c.t.Context())
		if err == nil && len(ready.Servers) == 0 {
			err = errors.New("the controller has not read the fleet file")
		}
		return err
	})
	c.AwaitReady(workers)
}

// Node returns the full name of a worker.
func (c *Cluster) Node(name string) string { return name + "-" + c.token }

// Reload makes the controller apply the fleet file again. Without that it applies
// the file once, to an empty state.
func (c *Cluster) Reload() { c.Controller.Signal(syscall.SIGHUP) }

// AwaitReady waits until this many workers are READY and every server has all its
// replicas.
func (c *Cluster) AwaitReady(workers int) {
	c.t.Helper()
	harness.Eventually(c.t, 2*patience, func() error {
		ctx := c.t.Context()
		nodes, err := c.Nodes(ctx)
		if err != nil {
			return err
		}
		n := 0
		for _, node := range nodes {
			if node.Role == fleet.RoleWorker && node.State == "READY" {
				n++
			}
		}
		if n != workers {
			return fmt.Errorf("%d workers are READY, want %d", n, workers)
		}
		ready, err := c.Ready(ctx)
		if err != nil {
			return err
		}
		for _, s := range ready.Servers {
			if s.Ready != s.Desired {
				return fmt.Errorf("%s has %d of %d replicas and is %s: %s", s.Name, s.Ready, s.Desired, s.State, s.Reason)
			}
		}
		if !ready.Ready {
			return fmt.Errorf("not ready: %+v", ready.Servers)
		}
		return nil
	})
}

// Server returns one server from the controller's API.
func (c *Cluster) Server(name string) api.Server {
	c.t.Helper()
	servers, err := c.Servers(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	for _, s := range servers {
		if string(s.Name) == name {
			return s
		}
	}
	c.t.Fatalf("no server %s among %+v", name, servers)
	return api.Server{}
}

// ReplicasOf returns the replicas of a server in a phase, or in any.
func (c *Cluster) ReplicasOf(server, phase string) []api.Replica {
	c.t.Helper()
	all, err := c.Replicas(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(r api.Replica) bool {
		return string(r.Server) != server || phase != "" && r.Phase != phase
	})
}

// Text calls a tool and returns the text of its answer.
func (c *Cluster) Text(server, tool, args string) (string, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	raw, err := c.Call(ctx, fleet.Scope(server), api.CallRequest{ToolName: tool, ToolArgs: json.RawMessage(args)})
	if err != nil {
		return "", err
	}
	return textOf(raw)
}

// MustText calls a tool and fails the test if the call fails.
func (c *Cluster) MustText(server, tool, args string) string {
	c.t.Helper()
	text, err := c.Text(server, tool, args)
	if err != nil {
		c.t.Fatalf("call %s of %s: %v", tool, server, err)
	}
	return text
}

// textOf returns the text of a CallToolResult.
func textOf(raw json.RawMessage) (string, error) {
	var result struct {
		Content []struct{ Text string }
		IsError bool
	}
	if err := json.Unmarshal(raw, &result); err != nil {
		return "", err
	}
	if len(result.Content) == 0 || result.IsError {
		return "", fmt.Errorf("result %s", raw)
	}
	return result.Content[0].Text, nil
}

// wantError fails the test unless err is an HTTP error with this status and code.
func wantError(t testing.TB, err error, status int, code string) *api.Error {
	t.Helper()
	e, ok := errors.AsType[*api.Error](err)
	if !ok || e.Status != status || e.Code != code {
		t.Fatalf("got %v (%#v), want HTTP status %d %s", err, err, status, code)
	}
	return e
}

// stop stops the workers last. While a controller watches them, they wait until
// their replicas have moved elsewhere.
func (c *Cluster) stop() {
	if c.Controller != nil {
		c.Controller.Stop()
	}
	harness.StopAll(slices.Collect(maps.Values(c.Workers))...)
}

// since returns how long ago t was, for messages.
func since(t time.Time) time.Duration { return time.Since(t).Round(time.Millisecond) }
