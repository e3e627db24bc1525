//go:build linux

package partition

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

const (
	httpPort   = "8000"
	raftPort   = "7947"
	gossipPort = "7946"
	grpcPort   = "7948"

	// asked is how long a client waits for an answer of the API. It is far longer
	// than the 3 s that a controller waits for a leader.
	asked = 15 * time.Second
)

// Cluster is three controllers, c1 to c3, and workers, w1, w2, ..., each on a
// host of its own.
type Cluster struct {
	*Network
	Controllers []string
	Workers     []string
	Clients     map[string]*api.Client // by controller
	HTTP        *http.Client           // reaches all controllers

	t     testing.TB
	dir   string
	procs map[string]*harness.Process
}

// NewCluster starts a cluster and waits until it has a leader and all workers. It is
// stopped at the end of the test, and must leave nothing behind.
func NewCluster(t testing.TB, workers int) *Cluster {
	t.Helper()
	c := &Cluster{t: t, dir: t.TempDir(), Clients: map[string]*api.Client{}, procs: map[string]*harness.Process{}, Controllers: []string{"c1", "c2", "c3"}}
	for i := range workers {
		c.Workers = append(c.Workers, fmt.Sprintf("w%d", i+1))
	}
	c.Network = NewNetwork(t, slices.Concat(c.Controllers, c.Workers)...)
	transport := &http.Transport{DialContext: dialer(c.hub), MaxIdleConnsPerHost: 32}
	c.HTTP = &http.Client{Transport: transport}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		c.stop()
	})
	for _, name := range c.Controllers {
		client, err := api.NewClient(c.URL(name), c.HTTP)
		if err != nil {
			t.Fatal(err)
		}
		c.Clients[name] = client
		c.StartController(name)
	}
	for _, name := range c.Workers {
		c.startWorker(name)
	}
	c.AwaitLeader(c.Controllers...)
	eventually(t, "every controller sees every worker", func() error {
		for _, name := range c.Controllers {
			if err := c.workersAre(name, api.NodeReady, c.Workers...); err != nil {
				return err
			}
		}
		return nil
	})
	return c
}

// URL returns the base URL of a controller.
func (c *Cluster) URL(controller string) string {
	return "http://" + c.hosts[controller] + ":" + httpPort
}

// StartController starts a controller, or restarts it with its data.
func (c *Cluster) StartController(name string) {
	c.t.Helper()
	c.start(name, "controller", "--http", c.hosts[name]+":"+httpPort, "--raft", c.hosts[name]+":"+raftPort,
		"--bootstrap-expect", fmt.Sprint(len(c.Controllers)), "--shutdown-delay", "0s")
}

func (c *Cluster) startWorker(name string) {
	c.t.Helper()
	c.start(name, "worker", "--grpc", c.hosts[name]+":"+grpcPort, "--runtime", "process")
}

func (c *Cluster) start(name, prog string, flags ...string) {
	c.t.Helper()
	args := append([]string{
		"--name", name, "--gossip", c.hosts[name] + ":" + gossipPort, "--advertise", c.hosts[name],
		"--data-dir", filepath.Join(c.dir, name), "--insecure",
	}, flags...)
	for _, other := range c.Controllers {
		if other != name {
			args = append(args, "--join", c.hosts[other]+":"+gossipPort)
		}
	}
	p := harness.Command(c.t, name, program(c.t, prog), filepath.Join(c.dir, name+".log"), args...)
	p.Thread = func(f func() error) error { return inside(c.ns(name), f) }
	p.Cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL // the test has ended and cannot heal the network
	p.Start()
	c.procs[name] = p
}

// Kill9 kills the program on a host.
func (c *Cluster) Kill9(name string) {
	c.t.Helper()
	c.procs[name].Kill9()
}

// stop stops all programs, and fails the test if a process outlives them.
func (c *Cluster) stop() {
	c.Heal()
	// Stop all at once. While there is a controller, workers would wait for their
	// replicas to be moved.
	harness.StopAll(slices.Collect(maps.Values(c.procs))...)
	for host := range c.hosts {
		if pids, err := inhabitants(c.ns(host)); err != nil || len(pids) > 0 {
			c.t.Errorf("on %s processes %v are left (%v)", host, pids, err)
		}
	}
	if c.t.Failed() {
		harness.ShowLogs(c.t, c.dir, 250)
	}
}

func (c *Cluster) ctx() (context.Context, context.CancelFunc) {
	return context.WithTimeout(c.t.Context(), asked)
}

// Leader returns the one controller that leads according to all these and itself.
func (c *Cluster) Leader(of ...string) (string, error) {
	ctx, cancel := c.ctx()
	defer cancel()
	var said []string
	for _, name := range of {
		nodes, err := c.Clients[name].Nodes(ctx)
		if err != nil {
			return "", err
		}
		i := slices.IndexFunc(nodes, func(n api.Node) bool { return n.Leader })
		if i < 0 {
			return "", fmt.Errorf("%s knows no leader", name)
		}
		said = append(said, string(nodes[i].Name))
	}
	if len(slices.Compact(slices.Clone(said))) != 1 || !slices.Contains(of, said[0]) {
		return "", fmt.Errorf("%v say that %v lead", of, said)
	}
	return said[0], nil
}

// AwaitLeader waits until these controllers agree on a leader that is one of them.
func (c *Cluster) AwaitLeader(of ...string) (leader string) {
	c.t.Helper()
	eventually(c.t, fmt.Sprintf("%v have a leader", of), func() (err error) {
		leader, err = c.Leader(of...)
		return err
	})
	return leader
}

// workersAre returns an error unless a controller sees exactly these workers in a
// state.
func (c *Cluster) workersAre(controller, state string, want ...string) error {
	ctx, cancel := c.ctx()
	defer cancel()
	nodes, err := c.Clients[controller].Nodes(ctx)
	if err != nil {
		return err
	}
	var got []string
	for _, n := range nodes {
		if n.Role == fleet.RoleWorker && n.State == state {
			got = append(got, string(n.Name))
		}
	}
	slices.Sort(got)
	return differ(controller+" sees workers "+state, got, want)
}

// spec returns the spec of the demo server. queue distinguishes specs, since it
// changes in place and starts nothing.
func (c *Cluster) spec(replicas, queue int) []byte {
	b, err := json.Marshal(map[string]any{"command": []string{program(c.t, "demo-server")}, "replicas": replicas, "max_queued_requests": queue})
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

// queueOf returns the queue that spec got.
func queueOf(s api.Server) (int, error) {
	var spec struct {
		Queue *int `json:"max_queued_requests"`
	}
	if err := json.Unmarshal(s.Spec, &spec); err != nil {
		return 0, err
	}
	if spec.Queue == nil {
		return 0, fmt.Errorf("no max_queued_requests in %s", s.Spec)
	}
	return *spec.Queue, nil
}

// Deploy deploys this many replicas of the demo server through a controller, and
// waits until all controllers see all of them ready.
func (c *Cluster) Deploy(via string, replicas int) map[fleet.ReplicaID]int {
	c.t.Helper()
	eventually(c.t, "the demo server is deployed", func() error { return c.Put(via, "demo", c.spec(replicas, 1000)) })
	c.AwaitReplicas(replicas, c.Controllers...)
	pids, err := c.Replicas(via)
	if err != nil {
		c.t.Fatal(err)
	}
	return pids
}

// AwaitReplicas waits until these controllers see exactly this many replicas of the
// demo server, all ready, and this many run.
func (c *Cluster) AwaitReplicas(number int, of ...string) {
	c.t.Helper()
	eventually(c.t, fmt.Sprintf("%v see %d replicas", of, number), func() error {
		for _, name := range of {
			pids, err := c.Replicas(name)
			if err != nil {
				return err
			}
			if len(pids) != number {
				return fmt.Errorf("%s sees %d replicas, want %d", name, len(pids), number)
			}
		}
		return differ("replicas that run", len(c.running()), number)
	})
}

// Put writes one server through a controller.
func (c *Cluster) Put(via, server string, spec []byte) error {
	ctx, cancel := c.ctx()
	defer cancel()
	_, err := c.Clients[via].PutServer(ctx, fleet.ServerName(server), spec, api.WriteOptions{})
	return err
}

// Queue reads the queue that was last written for a server.
func (c *Cluster) Queue(via, server string, o api.ReadOptions) (int, error) {
	ctx, cancel := c.ctx()
	defer cancel()
	s, err := c.Clients[via].GetServer(ctx, fleet.ServerName(server), o)
	if err != nil {
		return 0, err
	}
	return queueOf(s)
}

// Replicas returns the demo server's replicas with their processes, in the view of a
// controller. It returns an error if one is not ready.
func (c *Cluster) Replicas(via string) (map[fleet.ReplicaID]int, error) {
	ctx, cancel := c.ctx()
	defer cancel()
	all, err := c.Clients[via].Replicas(ctx)
	if err != nil {
		return nil, err
	}
	pids := map[fleet.ReplicaID]int{}
	for _, r := range all {
		if r.Server != "demo" {
			continue
		}
		if r.Phase != "READY" || r.PID == nil {
			return nil, fmt.Errorf("%s sees replica %s on %s as %s: %s", via, r.ID, r.Node, r.Phase, r.Reason)
		}
		pids[r.ID] = *r.PID
	}
	return pids, nil
}

// running returns the actual processes of the demo server's replicas.
func (c *Cluster) running(workers ...string) []int {
	c.t.Helper()
	if len(workers) == 0 {
		workers = c.Workers
	}
	var demos []int
	for _, w := range workers {
		pids, err := inhabitants(c.ns(w))
		if err != nil {
			c.t.Fatal(err)
		}
		for _, pid := range pids {
			if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil && string(comm) == "demo-server\n" {
				demos = append(demos, pid)
			}
		}
	}
	slices.Sort(demos)
	return demos
}

// same returns an error unless a controller sees exactly these replicas, and no
// other process runs.
func (c *Cluster) same(via string, want map[fleet.ReplicaID]int) error {
	got, err := c.Replicas(via)
	if err != nil {
		return err
	}
	return errors.Join(differ(via+" sees replicas", got, want), c.untouched(want))
}

// untouched returns an error unless exactly the processes of these replicas run.
func (c *Cluster) untouched(want map[fleet.ReplicaID]int) error {
	return differ("processes of replicas", c.running(), slices.Sorted(maps.Values(want)))
}
