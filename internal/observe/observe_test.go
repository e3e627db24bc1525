package observe_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/observe/observetest"
)

// failing records the errors that Worker.Fail got.
type failing struct {
	observe.Worker
	mu   *sync.Mutex
	errs *[]error
}

func (f failing) Fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*f.errs = append(*f.errs, err)
}

type rig struct {
	net   *observetest.Fleet
	obs   *observe.Observer
	mu    sync.Mutex
	order fleet.Order
	errs  []error // from Fail
	wrap  func(observe.Worker) observe.Worker
}

func (r *rig) setOrder(o fleet.Order) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.order = o
}

func (r *rig) getOrder() (fleet.Order, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.order, r.order.Cluster != ""
}

func start(t *testing.T) *rig {
	r := &rig{net: observetest.New(1), order: fleet.Order{Cluster: "c", Epoch: 3}}
	r.obs = observe.New(observe.Config{
		Order: r.getOrder, Members: r.net,
		Dial: func(m fleet.Member) (observe.Worker, error) {
			w, err := r.net.Dial(m)
			if err != nil {
				return nil, err
			}
			if r.wrap != nil {
				w = r.wrap(w)
			}
			return failing{w, &r.mu, &r.errs}, nil
		},
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.obs.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return r
}

func (r *rig) worker(name string, replicas ...string) *observetest.Worker {
	w := r.net.StartWorker(fleet.NodeInfo{Node: fleet.NodeID(name), Zone: "z-" + name})
	for _, id := range replicas {
		w.Run(replica(id))
	}
	return w
}

func replica(id string) fleet.Replica {
	return fleet.Replica{ID: fleet.ReplicaID(id), Server: "a", Revision: 1, Phase: fleet.PhaseReady, CreatedAt: time.Now(), ReadyAt: time.Now()}
}

// shows puts the snapshot in a line: connected nodes, serving replicas, ended
// replicas with their reasons.
func (r *rig) shows() string {
	synctest.Wait()
	s := r.obs.Snapshot()
	var nodes, serving, resting, ended []string
	for name, n := range s.Nodes {
		if n.Connected {
			nodes = append(nodes, string(name))
		}
	}
	for id, rep := range s.Replicas {
		if s.Serving(rep) {
			serving = append(serving, string(id))
		} else {
			resting = append(resting, string(id))
		}
	}
	for _, e := range s.Ended["a"] {
		ended = append(ended, fmt.Sprintf("%s (%s)", e.ID, e.Reason))
	}
	for _, l := range [][]string{nodes, serving, resting, ended} {
		slices.Sort(l)
	}
	return fmt.Sprintf("nodes %v serving %v resting %v ended %v", nodes, serving, resting, ended)
}

func (r *rig) expect(t *testing.T, when, want string) {
	t.Helper()
	if got := r.shows(); got != want {
		t.Errorf("%s:\n got %s\nwant %s", when, got, want)
	}
}

func TestReportsBecomeThePicture(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := start(t)
		look, cancel := r.obs.Subscribe()
		defer cancel()
		w := r.worker("n1", "r1", "r2")
		r.worker("n2", "r3")
		time.Sleep(10 * time.Millisecond)
		r.expect(t, "at first", "nodes [n1 n2] serving [r1 r2 r3] resting [] ended []")
		first := r.obs.Snapshot()
		if n := first.Nodes["n1"]; n.Info.Zone != "z-n1" || !n.Alive || n.Worker == nil || !n.Reported() {
			t.Errorf("node n1 = %+v", n)
		}
		<-look
		w.Set("r1", func(x *fleet.Replica) { x.Load.Ongoing = 7 })
		w.End("r2")
		synctest.Wait()
		<-look
		r.expect(t, "while one ends", "nodes [n1 n2] serving [r1 r3] resting [r2] ended []")
		time.Sleep(100 * time.Millisecond)
		r.expect(t, "after an end", "nodes [n1 n2] serving [r1 r3] resting [] ended [r2 (exit code 137)]")
		second := r.obs.Snapshot()
		if got := second.Replicas["r1"].Load.Ongoing; got != 7 {
			t.Errorf("load = %d, want 7", got)
		}
		if len(first.Replicas) != 3 || first.Replicas["r1"].Load.Ongoing != 0 {
			t.Error("an old snapshot changed")
		}
		if r.obs.Snapshot() != second {
			t.Error("a second look without news built a new snapshot")
		}
		time.Sleep(3 * time.Second)
		if r.obs.Snapshot() != second {
			t.Error("heartbeats built a new snapshot")
		}
	})
}

func TestBrokenStreamTakesOutOfRotationAtOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := start(t)
		w := r.worker("n1", "r1")
		time.Sleep(10 * time.Millisecond)
		w.Cut(true)
		r.expect(t, "cut", "nodes [] serving [] resting [r1] ended []")
		r.mu.Lock()
		if len(r.errs) != 1 || !strings.Contains(r.errs[0].Error(), "connection to node n1 lost") {
			t.Errorf("calls in flight were failed with %v, want the lost connection as the cause", r.errs)
		}
		r.mu.Unlock()
		time.Sleep(9 * time.Second)
		w.Cut(false)
		time.Sleep(1100 * time.Millisecond)
		r.expect(t, "back within the grace", "nodes [n1] serving [r1] resting [] ended []")
		w.Cut(true)
		time.Sleep(10500 * time.Millisecond)
		r.expect(t, "after the grace", "nodes [] serving [] resting [] ended [r1 (node n1 lost)]")
		if !r.obs.Snapshot().Nodes["n1"].Lost {
			t.Error("the node is not shown as lost")
		}
		w.Cut(false)
		time.Sleep(1100 * time.Millisecond)
		r.expect(t, "back after the grace", "nodes [n1] serving [r1] resting [] ended []")
	})
}

func TestGossipIsTheHint(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := start(t)
		w := r.worker("n1", "r1")
		time.Sleep(10 * time.Millisecond)
		r.net.List(w, false)
		time.Sleep(time.Minute)
		r.expect(t, "gossip calls it dead, the stream lives", "nodes [n1] serving [r1] resting [] ended []")
		w.Kill()
		time.Sleep(9900 * time.Millisecond)
		r.expect(t, "and the stream breaks", "nodes [] serving [] resting [r1] ended []")
		time.Sleep(500 * time.Millisecond)
		r.expect(t, "for the grace", "nodes [] serving [] resting [] ended [r1 (node n1 lost)]")
		s := r.obs.Snapshot()
		if len(s.Nodes) != 0 || !s.Ended["a"][0].Lost {
			t.Errorf("nodes %v, ended %+v; want none, and r1 marked as lost", s.Nodes, s.Ended["a"][0])
		}
	})
}

// A worker that said that it drains and left the ring needs no grace; one that
// only said so does.
func TestDrainedNodeLeaves(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := start(t)
		w := r.worker("n1", "r1")
		time.Sleep(10 * time.Millisecond)
		w.Drain()
		synctest.Wait()
		w.Kill()
		time.Sleep(5 * time.Second)
		r.expect(t, "its stream broke", "nodes [] serving [] resting [r1] ended []")
		r.net.List(w, false)
		time.Sleep(time.Millisecond)
		r.expect(t, "it left", "nodes [] serving [] resting [] ended [r1 (node n1 lost)]")
	})
}

// Nobody is watched before there is a cluster, and what the leader's order is
// matters only when a watch begins.
func TestNoClusterYet(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := start(t)
		r.setOrder(fleet.Order{})
		w := r.worker("n1", "r1")
		time.Sleep(time.Minute)
		r.expect(t, "no cluster", "nodes [] serving [] resting [] ended []")
		r.setOrder(fleet.Order{Cluster: "c", Epoch: 1})
		time.Sleep(time.Second)
		r.expect(t, "a cluster", "nodes [n1] serving [r1] resting [] ended []")
		since := r.obs.Snapshot().Nodes["n1"].Since
		r.setOrder(fleet.Order{Cluster: "c", Epoch: 2})
		w.Obey(fleet.Order{Cluster: "c", Epoch: 9})
		time.Sleep(time.Minute)
		if n := r.obs.Snapshot().Nodes["n1"]; !n.Connected || !n.Since.Equal(since) {
			t.Errorf("node after a change of leaders = %+v, want it connected since %v", n, since)
		}
		w.Break()
		time.Sleep(time.Second)
		r.expect(t, "a watch under an older order", "nodes [n1] serving [r1] resting [] ended []")
	})
}

// A node shows when its streams came back, whatever lives they were of, unless the
// worker had stopped in order.
func TestReconnected(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := start(t)
		w := r.worker("n1", "r1")
		again := func(id string) {
			w.Kill()
			r.net.List(w, false)
			w = r.worker("n1", id)
			time.Sleep(5 * time.Second)
		}
		expect := func(after string, want int) {
			t.Helper()
			time.Sleep(time.Second)
			n := r.obs.Snapshot().Nodes["n1"]
			if !n.Connected || n.Member.Life != w.Life() || len(n.Reconnected) != want {
				t.Errorf("%s: connected %v, came back at %v, want %d times", after, n.Connected, n.Reconnected, want)
			}
			if want > 1 && (!n.Reconnected[want-1].Equal(n.Since) || !n.Reconnected[want-2].Before(n.Since)) {
				t.Errorf("%s: connected since %v, came back at %v", after, n.Since, n.Reconnected)
			}
		}
		expect("the first stream", 0)
		w.Break()
		expect("a stream that broke", 1)
		w.Drain()
		time.Sleep(time.Second)
		again("r2")
		expect("an orderly stop", 1)
		again("r3")
		expect("a crash", 2)
		for range 20 {
			w.Break()
			time.Sleep(time.Second)
		}
		expect("many that broke", 8)
	})
}

// Times are on this process's clock, and stay as they were first reported.
func TestClocksDiffer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := start(t)
		w := r.net.StartWorker(fleet.NodeInfo{Node: "n1"})
		w.Skew(-time.Hour)
		r.net.SetFaults(observetest.Faults{ReportDelay: 300 * time.Millisecond})
		at := time.Now()
		one := replica("r1")
		one.CreatedAt, one.ReadyAt = at.Add(-2*time.Hour), at.Add(-2*time.Hour) // an hour ago, by that clock
		one.SessionAt = one.ReadyAt
		w.Run(one)
		time.Sleep(time.Second)
		first := *r.obs.Snapshot().Replicas["r1"]
		if off := first.CreatedAt.Sub(at.Add(-time.Hour)).Abs(); off > 300*time.Millisecond || !first.ReadyAt.Equal(first.CreatedAt) || !first.SessionAt.Equal(first.CreatedAt) || !first.EndedAt.IsZero() {
			t.Errorf("created %v off, ready %v; want at most the delay of the report", off, first.ReadyAt)
		}
		w.Break()
		time.Sleep(3 * time.Second)
		if again := r.obs.Snapshot().Replicas["r1"]; !again.CreatedAt.Equal(first.CreatedAt) {
			t.Errorf("created %v after a new stream, want %v", again.CreatedAt, first.CreatedAt)
		}
		w.End("r1")
		time.Sleep(time.Second)
		if e := r.obs.Snapshot().Ended["a"]; len(e) != 1 || time.Since(e[0].EndedAt) > 2*time.Second || time.Since(e[0].EndedAt) < 0 {
			t.Errorf("ended = %+v, want a moment ago", e)
		}
	})
}

func TestSilentStreamIsBroken(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := start(t)
		w := r.worker("n1", "r1")
		time.Sleep(10 * time.Millisecond)
		w.Mute(time.Hour)
		w.Break() // the next report is never delivered
		time.Sleep(time.Minute)
		r.expect(t, "silent from the start", "nodes [] serving [] resting [] ended [r1 (node n1 lost)]")
		w.Mute(0)
		time.Sleep(10 * time.Second)
		r.expect(t, "talks again", "nodes [n1] serving [r1] resting [] ended []")
		w.Mute(8 * time.Second)
		time.Sleep(6500 * time.Millisecond)
		r.expect(t, "silent for the heartbeats", "nodes [] serving [] resting [r1] ended []")
	})
}

func TestNewLifeEndsTheOld(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := start(t)
		old := r.worker("n1", "r1")
		time.Sleep(10 * time.Millisecond)
		old.Kill() // gossip has not noticed
		time.Sleep(2 * time.Second)
		r.expect(t, "dead", "nodes [] serving [] resting [r1] ended []")
		now := r.worker("n1", "r2")
		time.Sleep(time.Millisecond)
		want := "nodes [n1] serving [r2] resting [] ended [r1 (node n1 was restarted)]"
		r.expect(t, "returned", want)
		r.net.List(old, false)
		time.Sleep(20 * time.Second)
		r.expect(t, "gossip has noticed", want)
		if got := r.obs.Snapshot().Nodes["n1"].Member.Life; got != now.Life() {
			t.Errorf("life = %s, want %s", got, now.Life())
		}
	})
}

// slow takes its time to close.
type slow struct {
	observe.Worker
	closing time.Duration
}

func (s slow) Close() error {
	time.Sleep(s.closing)
	return s.Worker.Close()
}

// A connection that takes long to close delays no other node.
func TestSlowGoodbyeDelaysNobody(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := start(t)
		r.wrap = func(w observe.Worker) observe.Worker { return slow{w, 20 * time.Second} }
		first := r.worker("n1", "r1")
		time.Sleep(time.Second)
		second := r.worker("n1", "r2") // ends the first life
		time.Sleep(time.Second)
		r.worker("n2", "r3")
		time.Sleep(time.Second)
		r.expect(t, "while a connection is closed", "nodes [n1 n2] serving [r2 r3] resting [] ended [r1 (node n1 was restarted)]")

		second.Kill()
		r.net.List(second, false)
		first.Run(replica("r4"))
		time.Sleep(11 * time.Second)
		r.expect(t, "nobody follows the first before it was let go of",
			"nodes [n2] serving [r3] resting [] ended [r1 (node n1 was restarted) r2 (node n1 lost)]")
		time.Sleep(30 * time.Second)
		r.expect(t, "the first counts again",
			"nodes [n1 n2] serving [r3 r4] resting [] ended [r1 (node n1 was restarted) r2 (node n1 lost)]")
	})
}

// Of two workers under one name the later started one counts, whichever
// reports last.
func TestTwoWorkersOfOneName(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := start(t)
		first := r.worker("n1", "r1")
		time.Sleep(time.Second)
		second := r.worker("n1", "r2")
		time.Sleep(time.Second)
		want := "nodes [n1] serving [r2] resting [] ended [r1 (node n1 was restarted)]"
		r.expect(t, "both live", want)
		if left := first.Running(); len(left) != 0 {
			t.Errorf("the first still runs %v, which nobody can call", left)
		}
		first.Break()
		time.Sleep(5 * time.Second)
		r.expect(t, "the first reports again", want)

		second.Kill()
		r.net.List(second, false)
		time.Sleep(15 * time.Second)
		r.expect(t, "the second is gone", "nodes [n1] serving [] resting [] ended [r1 (node n1 was restarted) r2 (node n1 lost)]")
		if got := r.obs.Snapshot().Nodes["n1"].Member.Life; got != first.Life() {
			t.Errorf("life = %s, want the first's, %s", got, first.Life())
		}
	})
}

// A worker whose network comes back when another has its name must not keep
// what it runs.
func TestWorkerReturnsToATakenName(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := start(t)
		first := r.worker("n1", "r1")
		time.Sleep(time.Second)
		r.net.List(first, false)
		first.Cut(true)
		time.Sleep(time.Second)
		r.worker("n1", "r2")
		time.Sleep(30 * time.Second)
		first.Cut(false)
		r.net.List(first, true)
		time.Sleep(5 * time.Second)
		r.expect(t, "both live", "nodes [n1] serving [r2] resting [] ended [r1 (node n1 was restarted)]")
		if left := first.Running(); len(left) != 0 {
			t.Errorf("the first still runs %v, which nobody can call", left)
		}
	})
}

func TestRefusal(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := start(t)
		w := r.worker("n1", "r1")
		time.Sleep(10 * time.Millisecond)
		w.Obey(fleet.Order{Cluster: "other", Epoch: 1})
		w.Break()
		time.Sleep(time.Second)
		if err := r.obs.Snapshot().Nodes["n1"].Refused; !errors.Is(err, fleet.ErrForeignCluster) {
			t.Errorf("refused = %v, want ErrForeignCluster", err)
		}
	})
}

func TestEndedKeepsTheLastTen(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := start(t)
		w := r.worker("n1")
		for i := range 14 {
			id := fmt.Sprintf("r%02d", i)
			w.Run(replica(id))
			time.Sleep(time.Second)
			w.End(fleet.ReplicaID(id))
		}
		w.Break() // a full report repeats them all
		time.Sleep(time.Second)
		var got []string
		for _, e := range r.obs.Snapshot().Ended["a"] {
			got = append(got, string(e.ID))
		}
		if want := "r13 r12 r11 r10 r09 r08 r07 r06 r05 r04"; strings.Join(got, " ") != want {
			t.Errorf("ended = %v, want %s", got, want)
		}
		if log := r.obs.Snapshot().Ended["a"][0].Log; len(log) == 0 {
			t.Error("the log is lost")
		}
	})
}

// scripted is a worker whose watch is a list of reports.
type scripted struct {
	observe.Worker
	reports []fleet.Report
}

func (s scripted) Watch(ctx context.Context, _ fleet.Order, on func(fleet.Report)) error {
	for _, r := range s.reports {
		on(r)
	}
	<-ctx.Done()
	return ctx.Err()
}
func (scripted) Fail(error)   {}
func (scripted) Close() error { return nil }

type members []fleet.Member

func (m members) Members() []fleet.Member  { return m }
func (m members) Changed() <-chan struct{} { return nil }

// Reports of a stream count in order, and for its own life only.
func TestReportRules(t *testing.T) {
	info := &fleet.NodeInfo{Node: "n1", Life: "l1"}
	r1, r2 := replica("r1"), replica("r2")
	r1.Catalogue, r2.Catalogue = "h1", "h1"
	tests := []struct {
		name    string
		reports []fleet.Report
		want    []fleet.ReplicaID
		cats    []string
	}{
		{"changes before the full report are nothing", []fleet.Report{{Version: 5, Replicas: []fleet.Replica{r1}}}, nil, nil},
		{"full, then changes", []fleet.Report{
			{Version: 5, Full: true, Node: info, Replicas: []fleet.Replica{r1}, Catalogues: []fleet.Catalogue{{Hash: "h1"}}},
			{Version: 6, Replicas: []fleet.Replica{r2}},
		}, []fleet.ReplicaID{"r1", "r2"}, []string{"h1"}},
		{"an older change is ignored", []fleet.Report{
			{Version: 5, Full: true, Node: info, Replicas: []fleet.Replica{r1}},
			{Version: 4, Replicas: []fleet.Replica{r2}},
		}, []fleet.ReplicaID{"r1"}, nil},
		{"forgotten", []fleet.Report{
			{Version: 5, Full: true, Node: info, Replicas: []fleet.Replica{r1, r2}},
			{Version: 6, Forgotten: []fleet.ReplicaID{"r1"}},
		}, []fleet.ReplicaID{"r2"}, nil},
		{"another life answers", []fleet.Report{
			{Version: 5, Full: true, Node: &fleet.NodeInfo{Node: "n1", Life: "l2"}, Replicas: []fleet.Replica{r1}},
		}, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				o := observe.New(observe.Config{
					Order:   func() (fleet.Order, bool) { return fleet.Order{Cluster: "c"}, true },
					Members: members{{Node: "n1", Life: "l1", Role: fleet.RoleWorker}, {Node: "c", Life: "x", Role: fleet.RoleController}},
					Dial:    func(fleet.Member) (observe.Worker, error) { return scripted{reports: tt.reports}, nil },
					Log:     slog.New(slog.DiscardHandler),
				})
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() { o.Run(ctx) })
				synctest.Wait()
				s := o.Snapshot()
				if got := slices.Sorted(maps.Keys(s.Replicas)); !slices.Equal(got, tt.want) {
					t.Errorf("replicas = %v, want %v", got, tt.want)
				}
				if got := slices.Sorted(maps.Keys(s.Catalogues)); !slices.Equal(got, tt.cats) {
					t.Errorf("catalogues = %v, want %v", got, tt.cats)
				}
				if _, ok := s.Nodes["c"]; ok {
					t.Error("a controller is shown as a node")
				}
				cancel()
				wg.Wait()
			})
		})
	}
}

// Load, calls and usage are no changes of shape.
func TestShape(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := start(t)
		w := r.worker("n1", "r1")
		time.Sleep(10 * time.Millisecond)
		shape := func() uint64 { synctest.Wait(); return r.obs.Snapshot().Shape }
		at := shape()
		seq := r.obs.Snapshot().Seq
		w.Set("r1", func(x *fleet.Replica) { x.Load = fleet.Load{Ongoing: 3, Total: 9} })
		if got := shape(); got != at || r.obs.Snapshot().Seq == seq || r.obs.Snapshot().Replicas["r1"].Load.Ongoing != 3 {
			t.Errorf("shape = %d after a change of load, want %d and a new snapshot", got, at)
		}
		w.Set("r1", func(x *fleet.Replica) {
			x.Calls = fleet.CallCounts{OK: 9, Latency: []uint64{9}}
			x.Usage = fleet.Usage{CPUs: 0.5, Memory: 1 << 20}
		})
		if got := shape(); got != at || r.obs.Snapshot().Replicas["r1"].Calls.OK != 9 {
			t.Errorf("shape = %d after calls and a change of usage, want %d and a new snapshot", got, at)
		}
		w.Set("r1", func(x *fleet.Replica) { x.Spare = true })
		if got := shape(); got == at || r.obs.Snapshot().Serving(r.obs.Snapshot().Replicas["r1"]) {
			t.Error("a spare did not change the shape, or serves")
		}
		at = shape()
		w.Set("r1", func(x *fleet.Replica) { x.Unhealthy = true })
		if got := shape(); got == at {
			t.Error("an unhealthy replica did not change the shape")
		}
		at = shape()
		w.Drain()
		if got := shape(); got == at {
			t.Error("a draining node did not change the shape")
		}
	})
}
