package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/advertise"
	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/gossip"
	"github.com/mcpfleet/mcpfleet/internal/rpc"
)

// patience bounds every wait of these tests, which use real sockets.
const patience = 20 * time.Second

func config(t *testing.T, rt fleet.Runtime) Config {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	out := io.Discard
	if testing.Verbose() {
		out = t.Output()
	}
	return Config{
		Node: "n1", Zone: "z1", Labels: map[string]string{"disk": "ssd"}, Capacity: fleet.Resources{CPUs: 2},
		DataDir: t.TempDir(), GRPC: l, Gossip: "127.0.0.1:0",
		Runtimes: func(context.Context) ([]fleet.Runtime, error) { return []fleet.Runtime{rt}, nil },
		Log:      slog.New(slog.NewTextHandler(out, nil)),
	}
}

// start runs a worker and returns its addresses and what stops it in a hurry.
func start(t *testing.T, cfg Config) (grpc, ring string, stop func() error) {
	t.Helper()
	type pair struct{ grpc, ring string }
	bound := make(chan pair, 1)
	cfg.Bound = func(grpc, ring string) error {
		bound <- pair{grpc, ring}
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	hurry := make(chan struct{})
	cfg.Hurry = hurry
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, cfg) }()
	stop = sync.OnceValue(func() error {
		close(hurry)
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(patience):
			return errors.New("Run did not return")
		}
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	select {
	case p := <-bound:
		return p.grpc, p.ring, stop
	case err := <-ended:
		ended <- nil
		t.Fatalf("Run ended: %v", err)
	case <-time.After(patience):
		t.Fatal("nothing was bound")
	}
	return "", "", nil
}

func TestOneWorker(t *testing.T) {
	rt := agenttest.New()
	grpc, ringAddr, stop := start(t, config(t, rt))

	// A controller joins the ring, and finds the worker there.
	ring, err := gossip.New(gossip.Config{
		Member: fleet.Member{Node: "c", Life: "l", Role: fleet.RoleController},
		Bind:   "127.0.0.1:0", Join: []string{ringAddr}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var owned sync.WaitGroup
	defer owned.Wait()
	ringCtx, leave := context.WithCancel(ctx)
	defer leave()
	owned.Go(func() { _ = ring.Run(ringCtx) })
	present := func() (found fleet.Member) {
		for _, m := range ring.Members() {
			if m.Node == "n1" {
				found = m
			}
		}
		return found
	}
	await := func(what string, cond func() bool) {
		t.Helper()
		for !cond() {
			select {
			case <-ring.Changed():
			case <-ctx.Done():
				t.Fatalf("never saw that %s; members: %+v", what, ring.Members())
			}
		}
	}
	await("the worker is in the ring", func() bool { return present().Node != "" })
	if m := present(); m.GRPC != grpc || m.Role != fleet.RoleWorker || m.PID != os.Getpid() || m.Life == "" {
		t.Errorf("member %+v", m)
	}

	// It orders a replica, watches it become ready, and calls it.
	client, err := rpc.Dial(grpc, rpc.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	order := fleet.Order{Cluster: "c", Epoch: 1}
	ready, stopped := make(chan fleet.NodeInfo, 1), make(chan fleet.Replica, 1)
	watched := make(chan error, 1)
	go func() {
		var node fleet.NodeInfo
		watched <- client.Watch(ctx, order, func(r fleet.Report) {
			if r.Node != nil {
				node = *r.Node
			}
			for _, rep := range r.Replicas {
				switch rep.Phase {
				case fleet.PhaseReady:
					select {
					case ready <- node:
					default:
					}
				case fleet.PhaseStopped:
					stopped <- rep
				}
			}
		})
	}()
	_, err = client.StartReplica(ctx, order, fleet.Assignment{
		ID: "r1", Server: "s", Revision: 1, Template: &fleet.Template{Command: []string{"x"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case n := <-ready:
		if n.Node != "n1" || n.Zone != "z1" || n.Labels["disk"] != "ssd" || n.Capacity.CPUs != 2 || !slices.Equal(n.Runtimes, []string{"test"}) || n.PID != os.Getpid() {
			t.Errorf("node %+v", n)
		}
	case <-ctx.Done():
		t.Fatal("the replica did not become ready")
	}
	res, err := client.Call(ctx, fleet.CallRequest{
		Replica: "r1", Method: "tools/call", Params: []byte(`{"name":"echo","arguments":{"text":"through"}}`),
	}, fleet.CallHooks{})
	if err != nil || !strings.Contains(string(res.Result), "through") {
		t.Fatalf("call: %s, %v", res.Result, err)
	}

	// The end: the replica's is reported, nothing is left, the ring knows.
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	select {
	case rep := <-stopped:
		if rep.Reason != "the node is stopping" {
			t.Errorf("reason %q", rep.Reason)
		}
	case <-ctx.Done():
		t.Error("the end of the replica was not reported")
	}
	<-watched
	if left := rt.Alive(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	await("the worker left the ring", func() bool { return present().Node == "" })
}

func TestDataDirIsLocked(t *testing.T) {
	cfg := config(t, agenttest.New())
	_, _, stop := start(t, cfg)
	second := config(t, agenttest.New())
	second.DataDir = cfg.DataDir
	second.Runtimes = func(context.Context) ([]fleet.Runtime, error) {
		t.Error("the runtime was opened without the lock")
		return nil, errors.New("no")
	}
	err := Run(t.Context(), second)
	if want := fmt.Sprintf("in use by pid %d", os.Getpid()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want it to name %s", err, want)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	third := config(t, agenttest.New())
	third.DataDir = cfg.DataDir
	start(t, third) // the lock is free again
}

func TestFailuresOfAStart(t *testing.T) {
	broken := errors.New("broken")
	for _, tc := range []struct {
		name string
		edit func(*testing.T, *Config, *agenttest.Runtime)
	}{
		{"runtime", func(_ *testing.T, c *Config, _ *agenttest.Runtime) {
			c.Runtimes = func(context.Context) ([]fleet.Runtime, error) { return nil, broken }
		}},
		{"sweep", func(_ *testing.T, _ *Config, rt *agenttest.Runtime) {
			rt.Inject(agenttest.Fault{Step: agenttest.StepSweep, Err: broken})
		}},
		{"stdout", func(_ *testing.T, c *Config, _ *agenttest.Runtime) {
			c.Bound = func(string, string) error { return broken }
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rt := agenttest.New()
			cfg := config(t, rt)
			tc.edit(t, &cfg, rt)
			if err := Run(t.Context(), cfg); !errors.Is(err, broken) {
				t.Errorf("got %v", err)
			}
			if _, err := net.DialTimeout("tcp", cfg.GRPC.Addr().String(), time.Second); err == nil {
				t.Error("the listener is still open")
			}
		})
	}
}

// A stop that comes while the sweep still runs is an orderly one.
func TestStopDuringTheSweep(t *testing.T) {
	rt := agenttest.New()
	rt.Inject(agenttest.Fault{Step: agenttest.StepSweep, Delay: time.Hour})
	_, _, stop := start(t, config(t, rt))
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		flag string
		edit func(*Config)
	}{
		{"", func(*Config) {}},
		{"", func(c *Config) { c.Node = "A.b_c-9" }},
		{"--name", func(c *Config) { c.Node = "" }},
		{"--name", func(c *Config) { c.Node = "a/b" }},
		{"--name", func(c *Config) { c.Node = "-a" }},
		{"--name", func(c *Config) { c.Node = fleet.NodeID(strings.Repeat("a", 64)) }},
		{"--data-dir", func(c *Config) { c.DataDir = "" }},
		{"--gossip", func(c *Config) { c.Gossip = "localhost" }},
		{"--join", func(c *Config) { c.Join = []string{"a:1", "b"} }},
		{"--join", func(c *Config) { c.Join = []string{"a:0"} }},
		{"--cpus", func(c *Config) { c.Capacity.CPUs = -1 }},
		{"--memory", func(c *Config) { c.Capacity.Memory = -1 }},
		{"--drain-timeout", func(c *Config) { c.DrainTimeout = -1 }},
	} {
		cfg := config(t, agenttest.New())
		tc.edit(&cfg)
		err := cfg.Validate()
		if (err == nil) != (tc.flag == "") || err != nil && !strings.HasPrefix(err.Error(), tc.flag+":") {
			t.Errorf("got %v, want one of %q", err, tc.flag)
		}
	}
}

func TestAddresses(t *testing.T) {
	own, err := advertise.Host("0.0.0.0", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		listen, gossip, advertise string
		grpc, ring                string
	}{
		{"127.0.0.1:0", "127.0.0.1:0", "", "127.0.0.1", ""},
		{"0.0.0.0:0", "0.0.0.0:7946", "", own, own},
		{"127.0.0.1:0", "0.0.0.0:7946", "", "127.0.0.1", own},
		{"0.0.0.0:0", "0.0.0.0:7946", "worker-1", "worker-1", "worker-1"},
	} {
		l, err := net.Listen("tcp", tc.listen)
		if err != nil {
			t.Fatal(err)
		}
		grpc, ring, err := addresses(&Config{GRPC: l, Gossip: tc.gossip, Advertise: tc.advertise})
		_, port, _ := net.SplitHostPort(l.Addr().String())
		if want := net.JoinHostPort(tc.grpc, port); err != nil || grpc != want || ring != tc.ring {
			t.Errorf("%+v: got %s, %s, %v", tc, grpc, ring, err)
		}
		l.Close()
	}
}

func TestCapacity(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	meminfo := file("MemTotal:        8388608 kB\nMemFree: 1 kB\n")
	for _, tc := range []struct {
		name   string
		root   fstest.MapFS
		cpus   float64 // 0: the machine's
		memory int64
	}{
		{"nothing known", fstest.MapFS{}, 0, 0},
		{"no limits", fstest.MapFS{
			"proc/meminfo": meminfo, "proc/self/cgroup": file("0::/\n"),
			"sys/fs/cgroup/cpu.max": file("max 100000\n"), "sys/fs/cgroup/memory.max": file("max\n"),
		}, 0, 8 << 30},
		{"a parent's limit, version 2", fstest.MapFS{
			"proc/meminfo": meminfo, "proc/self/cgroup": file("0::/a/b\n"),
			"sys/fs/cgroup/a/cpu.max": file("50000 100000\n"), "sys/fs/cgroup/a/b/memory.max": file("max\n"),
			"sys/fs/cgroup/a/memory.max": file("1073741824\n"),
		}, 0.5, 1 << 30},
		{"version 1", fstest.MapFS{
			"proc/meminfo": meminfo, "proc/self/cgroup": file("4:memory:/x\n2:cpu,cpuacct:/x\n"),
			"sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us": file("25000\n"), "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us": file("100000\n"),
			"sys/fs/cgroup/memory/x/memory.limit_in_bytes": file("2147483648\n"),
		}, 0.25, 2 << 30},
		{"version 1 without limits", fstest.MapFS{
			"proc/meminfo": meminfo, "proc/self/cgroup": file("4:memory:/\n2:cpu:/\n"),
			"sys/fs/cgroup/cpu/cpu.cfs_quota_us": file("-1\n"), "sys/fs/cgroup/cpu/cpu.cfs_period_us": file("100000\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712\n"),
		}, 0, 8 << 30},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := Capacity(tc.root)
			want := tc.cpus
			if want == 0 {
				want = Capacity(fstest.MapFS{}).CPUs
			}
			if got.CPUs != want || got.Memory != tc.memory {
				t.Errorf("got %+v, want %v CPUs, %d bytes", got, want, tc.memory)
			}
		})
	}
}
