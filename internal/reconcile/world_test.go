package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/notice"
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/observe/observetest"
)

// desiredState is a store without a disk.
type desiredState struct {
	board   notice.Board
	mu      sync.Mutex
	servers map[fleet.ServerName]fleet.Server
	known   []fleet.NodeID
	broken  error
}

func (d *desiredState) Servers() []fleet.Server {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []fleet.Server
	for _, name := range sortedKeys(d.servers) {
		out = append(out, d.servers[name])
	}
	return out
}

func (d *desiredState) Subscribe() (<-chan struct{}, func()) { return d.board.Subscribe() }

func (d *desiredState) KnownNodes() []fleet.NodeID {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.known)
}

func (d *desiredState) SetKnownNodes(n []fleet.NodeID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken == nil {
		d.known = n
	}
	return d.broken
}

func (d *desiredState) set(servers ...fleet.Server) {
	d.mu.Lock()
	d.servers = make(map[fleet.ServerName]fleet.Server)
	for _, s := range servers {
		d.servers[s.Name] = s
	}
	d.mu.Unlock()
	d.board.Post()
}

// world is workers, their network, and a controller's observe and reconcile.
type world struct {
	t       *testing.T
	net     *observetest.Fleet
	desired *desiredState
	workers []*observetest.Worker
	log     *slog.Logger
	epoch   fleet.Epoch
	obs     *observe.Observer
	rec     *Reconciler
	stop    func()
}

func newWorld(t *testing.T, seed uint64, nodes ...string) *world {
	w := &world{
		t: t, net: observetest.New(seed), desired: &desiredState{},
		log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})),
	}
	for _, n := range nodes {
		w.add(n, nil)
	}
	return w
}

func (w *world) add(name string, behave func(fleet.ServerName, fleet.Revision) observetest.Behaviour) *observetest.Worker {
	n := w.net.StartWorker(fleet.NodeInfo{Node: fleet.NodeID(name)})
	if behave != nil {
		n.Behave(behave)
	}
	w.workers = append(w.workers, n)
	return n
}

// control starts a controller; the one before must have been stopped.
func (w *world) control() {
	w.epoch++
	order := fleet.Order{Cluster: "c", Epoch: w.epoch}
	w.obs = observe.New(observe.Config{Order: order, Members: w.net, Dial: w.net.Dial, Log: w.log})
	rnd := rand.New(rand.NewPCG(uint64(w.epoch), 7))
	seq, epoch := 0, w.epoch
	w.rec = New(Config{
		Desired: w.desired, View: w.obs, Known: w.desired, Order: order, Log: w.log,
		OrderTimeout: 500 * time.Millisecond, Jitter: rnd.Float64,
		NewID: func(s fleet.ServerName, r fleet.Revision) fleet.ReplicaID {
			seq++
			return fleet.ReplicaID(fmt.Sprintf("%s-%d-e%d.%d", s, r, epoch, seq))
		},
	})
	ctx, cancel := context.WithCancel(w.t.Context())
	var wg sync.WaitGroup
	for _, run := range []func(context.Context) error{w.obs.Run, w.rec.Run} {
		wg.Go(func() {
			if err := run(ctx); err != nil {
				w.t.Errorf("Run: %v", err)
			}
		})
	}
	w.stop = func() { cancel(); wg.Wait() }
}

func (w *world) running(server fleet.ServerName) (out []fleet.Replica) {
	for _, n := range w.workers {
		for _, r := range n.Running() {
			if r.Server == server {
				out = append(out, r)
			}
		}
	}
	return out
}

// ready lists what serves, as ids.
func (w *world) ready(server fleet.ServerName) (ids []string) {
	for _, r := range w.running(server) {
		if r.Phase == fleet.PhaseReady {
			ids = append(ids, string(r.ID))
		}
	}
	slices.Sort(ids)
	return ids
}

func (w *world) status(server fleet.ServerName) ServerStatus {
	s, _ := w.rec.Server(server)
	return s
}

// until waits for a condition, polling, and tells how long it took.
func (w *world) until(limit time.Duration, what string, is func() bool) time.Duration {
	w.t.Helper()
	began := time.Now()
	for !is() {
		if time.Since(began) > limit {
			w.t.Fatalf("not within %v: %s\n%s", limit, what, w)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
	}
	return time.Since(began)
}

// converged tells whether exactly what is desired runs and serves, and nothing
// else.
func (w *world) converged() bool {
	servers := w.desired.Servers()
	total := 0
	for _, n := range w.workers {
		total += len(n.Running())
	}
	for _, s := range servers {
		total -= s.Spec.Replicas
		run := w.running(s.Name)
		if len(run) != s.Spec.Replicas {
			return false
		}
		for _, r := range run {
			if r.Phase != fleet.PhaseReady || r.Revision != s.Revision {
				return false
			}
		}
		if st := w.status(s.Name); !st.Settled || s.Spec.Replicas > 0 && st.State != fleet.StateReady {
			return false
		}
	}
	return total == 0 && len(w.rec.Status()) == len(servers)
}

func (w *world) String() string {
	var b strings.Builder
	for _, s := range w.rec.Status() {
		fmt.Fprintf(&b, "%s rev %d: %s %d/%d settled=%v startfailed=%v restarts=%d: %s\n", s.Name, s.Revision, s.State, s.Ready, s.Desired, s.Settled, s.StartFailed, s.Restarts, s.Reason)
	}
	for _, n := range w.workers {
		fmt.Fprintf(&b, "%s reachable=%v:", n.Life(), n.Reachable())
		for _, r := range n.Running() {
			fmt.Fprintf(&b, " %s=%s", r.ID, r.Phase)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func server(name string, rev fleet.Revision, replicas int, set ...func(*fleet.Spec)) fleet.Server {
	s := fleet.Server{Name: fleet.ServerName(name), Revision: rev}
	s.Spec = fleet.Spec{Template: fleet.Template{Image: fmt.Sprintf("%s:%d", name, rev)}, Replicas: replicas}
	for _, f := range set {
		f(&s.Spec)
	}
	return s
}
