package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// size is a fleet to measure with: 20 replicas on each node, and of each server.
type size struct{ nodes int }

func (s size) replicas() int { return 20 * s.nodes }

var sizes = []size{{10}, {100}, {1000}, {10_000}}

func (s size) String() string { return fmt.Sprintf("%d_nodes_%d_replicas", s.nodes, s.replicas()) }

// bench is a leader of a fleet that is as it should be, over a real observer whose
// workers are records.
type bench struct {
	desired  *desiredState
	observer *observe.Observer
	rec      *Reconciler
	pass     *pass
	workers  []*record
}

// record is a worker that reports what it is told to.
type record struct {
	observe.Worker
	info     fleet.NodeInfo
	member   fleet.Member
	replicas []fleet.Replica
	on       func(fleet.Report)
	version  uint64
	watched  chan struct{}
}

func (r *record) Watch(ctx context.Context, _ fleet.Order, on func(fleet.Report)) error {
	r.on = on
	r.report(fleet.Report{Full: true, Node: &r.info, Replicas: r.replicas})
	close(r.watched)
	<-ctx.Done()
	return ctx.Err()
}

func (r *record) Fail(error)   {}
func (r *record) Close() error { return nil }

// report reports a change, or all.
func (r *record) report(x fleet.Report) {
	r.version++
	x.Version = r.version
	r.on(x)
}

// members is a ring that does not change.
type members []*record

func (m members) Members() (out []fleet.Member) {
	for _, r := range m {
		out = append(out, r.member)
	}
	return out
}

func (m members) Changed() <-chan struct{} { return nil }

// newBench makes a fleet in ten zones. Each node has the room of 32 replicas.
// running says whether the replicas run already.
func newBench(b *testing.B, s size, running bool) *bench {
	x := &bench{desired: &desiredState{}}
	byLife := map[fleet.LifeID]*record{}
	for n := range s.nodes {
		id := fleet.NodeID(fmt.Sprintf("node%05d", n))
		life := fleet.LifeID("life-" + string(id))
		w := &record{
			info: fleet.NodeInfo{
				Node: id, Life: life, Zone: fmt.Sprint("zone", n%10), Runtimes: []string{fleet.RuntimePodman},
				Labels: map[string]string{"disk": "ssd"}, Capacity: fleet.Resources{CPUs: 16, Memory: 16 << 30, PIDs: 10_000},
			},
			member:  fleet.Member{Node: id, Life: life, Role: fleet.RoleWorker, GRPC: "127.0.0.1:1"},
			watched: make(chan struct{}),
		}
		x.workers = append(x.workers, w)
		byLife[life] = w
	}
	long := time.Now().Add(-time.Hour)
	var list []fleet.Server
	for i := range s.nodes {
		sv := server(fmt.Sprintf("server%05d", i), 1, 20, func(spec *fleet.Spec) {
			spec.Resources = fleet.Resources{CPUs: 0.5, Memory: 512 << 20}
			spec.Labels = map[string]string{"disk": "ssd"}
		})
		list = append(list, sv)
		for r := range 20 {
			w := x.workers[(i+r)%s.nodes]
			w.replicas = append(w.replicas, fleet.Replica{
				ID: fleet.ReplicaID(fmt.Sprint(sv.Name, "-1-", r)), Server: sv.Name, Revision: 1, Phase: fleet.PhaseReady,
				ReadyAt: long, CreatedAt: long, Resources: sv.Spec.Resources,
			})
		}
	}
	if !running {
		for _, w := range x.workers {
			w.replicas = nil
		}
	}
	x.desired.set(list...)
	log := slog.New(slog.DiscardHandler)
	x.observer = observe.New(observe.Config{
		Order:   func() (fleet.Order, bool) { return fleet.Order{Cluster: "c"}, true },
		Members: members(x.workers), Log: log, Silence: time.Hour,
		Dial: func(m fleet.Member) (observe.Worker, error) { return byLife[m.Life], nil },
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- x.observer.Run(ctx) }()
	b.Cleanup(func() { cancel(); <-done })
	for _, w := range x.workers {
		<-w.watched
	}
	x.rec = New(Config{Desired: x.desired, View: x.observer, Known: writer{desiredState: x.desired}, Log: log, Settle: time.Nanosecond})
	x.pass = newPass(x.rec, true)
	x.pass.startup.over = true
	for _, w := range x.workers {
		f := x.pass.state.fences.of(w.member.Life)
		f.acked, f.upToDate = true, true
	}
	if !running {
		for i := range list {
			x.pass.state.attempts.of(list[i].Name, 1).everReady = true
		}
		return x
	}
	x.pass.run(time.Now())
	return x
}

// change makes one replica report something new, so that the next pass has a new
// snapshot.
func (x *bench) change(i int) {
	w := x.workers[i%len(x.workers)]
	r := w.replicas[0]
	r.PID = i
	w.report(fleet.Report{Replicas: []fleet.Replica{r}})
}

func (x *bench) expectReady(b *testing.B) {
	b.Helper()
	for _, s := range x.rec.Status() {
		if s.Ready != 20 || s.State != fleet.StateReady {
			b.Fatalf("status = %+v, want 20 ready", s)
		}
	}
}

// measure runs f as often as the benchmark wants, and reports its CPU time, garbage
// collection included. That is steadier than its duration on a machine that is shared.
func measure(b *testing.B, f func()) {
	used := func() time.Duration {
		var r syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
			b.Fatal(err)
		}
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	runtime.GC()
	began := used()
	for b.Loop() {
		f()
	}
	b.ReportMetric(float64((used()-began).Microseconds())/1000/float64(b.N), "cpu-ms/op")
}

// BenchmarkPass is what a batch of reports costs when there is nothing to do, with a
// new snapshot, the plan, and the status.
func BenchmarkPass(b *testing.B) {
	for _, s := range sizes {
		b.Run(s.String(), func(b *testing.B) {
			x := newBench(b, s, true)
			i := 0
			measure(b, func() {
				i++
				x.change(i)
				x.pass.run(time.Now())
			})
			x.expectReady(b)
		})
	}
}

// BenchmarkPassAfterArrivals is the same for the hour after a tenth of the nodes have
// joined, when all servers are even already.
func BenchmarkPassAfterArrivals(b *testing.B) {
	for _, s := range sizes {
		b.Run(s.String(), func(b *testing.B) {
			x := newBench(b, s, true)
			for i := range x.workers[:s.nodes/10] {
				x.pass.state.arrivals.at[x.workers[i].info.Node] = arrival{time.Now().Add(-time.Minute), "joined"}
			}
			i := 0
			measure(b, func() {
				i++
				x.change(i)
				x.pass.run(time.Now())
			})
			if len(x.pass.state.arrivals.at) != s.nodes/10 {
				b.Fatal("the arrivals are forgotten")
			}
			x.expectReady(b)
		})
	}
}

// BenchmarkPlaceAll plans every replica of an empty fleet.
func BenchmarkPlaceAll(b *testing.B) {
	for _, s := range sizes {
		b.Run(s.String(), func(b *testing.B) {
			x := newBench(b, s, false)
			now := time.Now()
			x.pass.state.observeNodes(x.observer.Snapshot(), nil)
			servers := x.pass.state.servers(x.desired.Servers())
			measure(b, func() {
				n := 0
				for _, d := range plan(now, servers, x.pass.state.room(now)) {
					n += len(d.actions)
				}
				if n != s.replicas() {
					b.Fatalf("%d starts, want %d", n, s.replicas())
				}
			})
		})
	}
}

// BenchmarkNodeLoss is the pass in which a node with 20 replicas is found to be lost.
func BenchmarkNodeLoss(b *testing.B) {
	for _, s := range sizes {
		b.Run(s.String(), func(b *testing.B) {
			x := newBench(b, s, true)
			now := time.Now()
			x.pass.state.observeNodes(x.observer.Snapshot(), nil)
			servers := x.pass.state.servers(x.desired.Servers())
			lost := x.workers[0].info.Node
			for i := range servers {
				var kept []*unit
				for _, u := range servers[i].units {
					if u.node != lost {
						kept = append(kept, u)
					}
				}
				servers[i].units = kept
			}
			measure(b, func() {
				rm := x.pass.state.room(now)
				n := rm.Node(lost)
				n.Connected, n.Gone = false, true
				starts := 0
				for _, d := range plan(now, servers, rm) {
					starts += len(d.actions)
				}
				if starts != 20 {
					b.Fatalf("%d starts, want 20", starts)
				}
			})
		})
	}
}
