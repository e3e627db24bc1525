package worker

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/rpc"
)

// leader is a controller at a worker's gRPC, with a view of what runs there.
type leader struct {
	*rpc.Client
	addr     string
	t        *testing.T
	order    fleet.Order
	changed  chan struct{}
	mu       sync.Mutex
	phases   map[fleet.ReplicaID]fleet.Phase
	reasons  map[fleet.ReplicaID]string
	version  uint64
	draining bool
	runtimes []string // of the node
}

func lead(t *testing.T, grpc string, o fleet.Order) *leader {
	t.Helper()
	c, err := rpc.Dial(grpc, rpc.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	l := &leader{Client: c, addr: grpc, t: t, order: o, changed: make(chan struct{}, 1), phases: map[fleet.ReplicaID]fleet.Phase{}, reasons: map[fleet.ReplicaID]string{}}
	ctx, cancel := context.WithCancel(context.Background())
	var owned sync.WaitGroup
	owned.Go(func() { _ = c.Watch(ctx, o, l.report) })
	t.Cleanup(func() {
		cancel()
		owned.Wait()
		c.Close()
	})
	return l
}

func (l *leader) report(r fleet.Report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, rep := range r.Replicas {
		l.phases[rep.ID], l.reasons[rep.ID] = rep.Phase, rep.Reason
	}
	l.version, l.draining = r.Version, r.Draining
	if r.Node != nil {
		l.runtimes = r.Node.Runtimes
	}
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

func (l *leader) until(what string, cond func() bool) {
	l.t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		l.mu.Lock()
		ok := cond()
		l.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-l.changed:
		case <-limit.C:
			l.t.Fatalf("never saw that %s; phases: %v, draining: %v", what, l.phases, l.draining)
		}
	}
}

func (l *leader) start(id fleet.ReplicaID) error {
	_, err := l.StartReplica(l.t.Context(), l.order, fleet.Assignment{
		ID: id, Server: "s", Revision: 1, Template: &fleet.Template{Command: []string{"x"}, DrainTimeout: 10 * time.Second},
	})
	return err
}

func (l *leader) ready(id fleet.ReplicaID) {
	l.t.Helper()
	if err := l.start(id); err != nil {
		l.t.Fatal(err)
	}
	l.until(string(id)+" is ready", func() bool { return l.phases[id] == fleet.PhaseReady })
}

func (l *leader) echo(id fleet.ReplicaID) {
	l.t.Helper()
	_, err := l.Call(l.t.Context(), fleet.CallRequest{
		Replica: id, Method: "tools/call", Params: []byte(`{"name":"echo","arguments":{"text":"hi"}}`),
	}, fleet.CallHooks{})
	if err != nil {
		l.t.Errorf("call %s: %v", id, err)
	}
}

// Orders of a deposed leader undo nothing that its successor ordered, even if the
// worker was restarted meanwhile. The deposed leader may still watch.
func TestOldLeadersOrdersAreRefused(t *testing.T) {
	rt := agenttest.New()
	cfg := config(t, rt)
	grpc, _, stop := start(t, cfg)
	old := lead(t, grpc, fleet.Order{Cluster: "c", Incarnation: 1, Epoch: 3})
	old.ready("r1")

	next := lead(t, grpc, fleet.Order{Cluster: "c", Incarnation: 1, Epoch: 4})
	version, err := next.Fence(t.Context(), next.order)
	if err != nil {
		t.Fatal(err)
	}
	next.until("it knows what the old leader did", func() bool {
		return next.version >= version && next.phases["r1"] == fleet.PhaseReady
	})
	if _, err := next.StopReplica(t.Context(), next.order, "r2", "not wanted"); err != nil {
		t.Fatal(err)
	}
	replay := func(grpc string) {
		t.Helper()
		c, err := rpc.Dial(grpc, rpc.ClientConfig{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		late := &leader{Client: c, t: t, order: old.order}
		if err := late.start("r1"); !errors.Is(err, fleet.ErrStaleEpoch) {
			t.Errorf("the start of r1: %v", err)
		}
		if err := late.start("r2"); !errors.Is(err, fleet.ErrStaleEpoch) {
			t.Errorf("the start of r2: %v", err)
		}
		if _, err := c.StopReplica(t.Context(), late.order, "r1", "no"); !errors.Is(err, fleet.ErrStaleEpoch) {
			t.Errorf("the stop of r1: %v", err)
		}
		if _, err := c.Fence(t.Context(), late.order); !errors.Is(err, fleet.ErrStaleEpoch) {
			t.Errorf("the fence: %v", err)
		}
		late.order.Incarnation, late.order.Epoch = 0, 99 // before the state was put back
		if err := late.start("r1"); !errors.Is(err, fleet.ErrStaleEpoch) {
			t.Errorf("an order of an older incarnation: %v", err)
		}
		late.order = fleet.Order{Cluster: "other", Incarnation: 9, Epoch: 99}
		if err := late.start("r1"); !errors.Is(err, fleet.ErrForeignCluster) {
			t.Errorf("another cluster's order: %v", err)
		}
		if err := c.Watch(t.Context(), late.order, func(fleet.Report) {}); !errors.Is(err, fleet.ErrForeignCluster) {
			t.Errorf("another cluster's watch: %v", err)
		}
	}
	replay(grpc)
	next.echo("r1")
	old.until("it sees what its successor does", func() bool { return old.phases["r2"] == fleet.PhaseStopped })
	if n := rt.Starts("s"); n != 1 {
		t.Errorf("%d replicas were started", n)
	}

	// The same node again.
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	second := config(t, agenttest.New())
	second.DataDir = cfg.DataDir
	grpc, _, _ = start(t, second)
	again := lead(t, grpc, next.order)
	again.ready("r3")
	replay(grpc)
	again.echo("r3")
}

// A stopping worker serves until its replicas were moved, and then
// ends by itself.
func TestDrainOverTheWire(t *testing.T) {
	cfg := config(t, agenttest.New())
	cfg.DrainTimeout = time.Hour
	bound := make(chan string, 1)
	cfg.Bound = func(grpc, _ string) error { bound <- grpc; return nil }
	ctx, tell := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, cfg) }()
	var l *leader
	select {
	case grpc := <-bound:
		l = lead(t, grpc, fleet.Order{Cluster: "c", Epoch: 1})
	case err := <-ended:
		t.Fatal(err)
	}
	l.ready("r1")
	l.ready("r2")
	tell()
	l.until("it drains", func() bool { return l.draining })
	if err := l.start("r3"); !errors.Is(err, fleet.ErrDraining) {
		t.Errorf("a new replica: %v", err)
	}
	for _, id := range []fleet.ReplicaID{"r1", "r2"} {
		l.echo(id)
		select {
		case err := <-ended:
			t.Fatalf("it ended before %s was moved: %v", id, err)
		default:
		}
		if _, err := l.StopReplica(t.Context(), l.order, id, "moved"); err != nil {
			t.Error(err)
		}
		l.until(string(id)+" has ended", func() bool { return l.phases[id] == fleet.PhaseStopped })
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("it did not end")
	}
	if _, err := net.DialTimeout("tcp", l.addr, time.Second); err == nil {
		t.Error("it still listens")
	}
}

// A worker starts as many replicas at once as it was told.
func TestMaxStarts(t *testing.T) {
	rt := agenttest.New()
	rt.Handle("s", agenttest.Echo{Silent: true}.Serve)
	cfg := config(t, rt)
	cfg.MaxStarts = 1
	grpc, _, _ := start(t, cfg)
	l := lead(t, grpc, fleet.Order{Cluster: "c", Epoch: 1})
	for _, id := range []fleet.ReplicaID{"r1", "r2", "r3"} {
		if err := l.start(id); err != nil {
			t.Fatal(err)
		}
	}
	l.until("one starts and the others wait", func() bool {
		return l.phases["r1"] == fleet.PhaseStarting && l.reasons["r3"] != ""
	})
	if reason := "waits for its turn: one replica is starting"; l.phases["r2"] != fleet.PhasePending || l.phases["r3"] != fleet.PhasePending || l.reasons["r3"] != reason {
		t.Errorf("phases: %v, reasons: %v", l.phases, l.reasons)
	}
}
