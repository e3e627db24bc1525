package autoscale

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

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/notice"
)

// world is desired state and loads, for the loop to act on.
type world struct {
	t        *testing.T
	registry *prometheus.Registry
	scaler   *Scaler
	began    time.Time

	stateBoard, loadBoard notice.Board

	mu      sync.Mutex
	state   *desired.State
	loads   map[fleet.ServerName]fleet.ServerLoad
	news    map[fleet.ServerName]fleet.ServerLoad
	missing string
	writing map[fleet.ServerName]bool
	writes  []string // "time: server from -> to"
	fail    error    // of writes
	slow    time.Duration
}

func newWorld(t *testing.T) *world {
	w := &world{
		t: t, registry: prometheus.NewRegistry(), began: time.Now(), state: &desired.State{Servers: map[fleet.ServerName]*desired.Server{}},
		loads: make(map[fleet.ServerName]fleet.ServerLoad), news: make(map[fleet.ServerName]fleet.ServerLoad), writing: make(map[fleet.ServerName]bool),
	}
	w.scaler = New(Config{
		Desired: w, Loads: loadsOf{w}, Write: w.write, Registry: w.registry, Log: slog.New(slog.DiscardHandler),
	})
	return w
}

func (w *world) State() *desired.State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

func (w *world) Subscribe() (<-chan struct{}, func()) { return w.stateBoard.Subscribe() }

// loadsOf implements Loads.
type loadsOf struct{ *world }

func (l loadsOf) Subscribe() (<-chan struct{}, func() fleet.LoadNews, func()) {
	look, cancel := l.loadBoard.Subscribe()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.news = maps.Clone(l.loads)
	return look, func() fleet.LoadNews {
		l.mu.Lock()
		defer l.mu.Unlock()
		out := fleet.LoadNews{Servers: l.news, Missing: l.missing}
		l.news = make(map[fleet.ServerName]fleet.ServerLoad)
		return out
	}, cancel
}

func (w *world) write(ctx context.Context, name fleet.ServerName, n int, written uint64, reason string) error {
	w.mu.Lock()
	if w.writing[name] {
		w.t.Errorf("two writes for %s at once", name)
	}
	w.writing[name] = true
	if n := len(w.writing); n > maxWrites {
		w.t.Errorf("%d writes at once", n)
	}
	slow, failure := w.slow, w.fail
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.writing, name)
		w.mu.Unlock()
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(slow):
	}
	if reason == "" {
		w.t.Errorf("no reason for %s", name)
	}
	if failure != nil {
		return failure
	}
	w.edit(name, func(sv *desired.Server) {
		if sv.Written != written {
			return // as desired.SetTarget does
		}
		w.writes = append(w.writes, fmt.Sprintf("%v: %s %d -> %d", time.Since(w.began), name, sv.Replicas, n))
		sv.Replicas = n
	})
	return nil
}

// edit changes, or makes, a server.
func (w *world) edit(name fleet.ServerName, change func(*desired.Server)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	next := *w.state
	next.Servers = maps.Clone(next.Servers)
	var sv desired.Server
	if old := next.Servers[name]; old != nil {
		sv = *old
	} else {
		a := fleet.DefaultAutoscaling()
		sv = desired.Server{Replicas: 1, Spec: fleet.Spec{Autoscaling: &a}}
	}
	change(&sv)
	next.Servers[name] = &sv
	w.state = &next
	w.stateBoard.Post()
}

func (w *world) remove(name fleet.ServerName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	next := *w.state
	next.Servers = maps.Clone(next.Servers)
	delete(next.Servers, name)
	w.state = &next
	w.stateBoard.Post()
}

func (w *world) call(name fleet.ServerName, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	load := fleet.ServerLoad{Running: n}
	w.loads[name], w.news[name] = load, load
	w.loadBoard.Post()
}

func (w *world) miss(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.missing = what
	w.loadBoard.Post()
}

// lead runs the loop. stop ends it and waits for it.
func (w *world) lead() (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- w.scaler.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	}
}

func (w *world) expect(want ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.writes, want) {
		w.t.Errorf("got:\n  %s\nwant:\n  %s", strings.Join(w.writes, "\n  "), strings.Join(want, "\n  "))
	}
	w.writes = nil
}

// wait lets time pass, and what has to happen then.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestLoopScales(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.edit("a", func(*desired.Server) {})
		w.edit("fixed", func(sv *desired.Server) { sv.Spec.Autoscaling = nil })
		defer w.lead()()
		wait(10 * time.Second)
		w.call("fixed", 50)
		w.call("unknown", 50)
		w.call("a", 12)
		wait(time.Second)
		w.expect("10.2s: a 1 -> 2", "10.4s: a 2 -> 3", "10.6s: a 3 -> 5", "10.8s: a 5 -> 6")
		w.call("a", 2)
		wait(2 * time.Minute)
		w.mu.Lock()
		last := w.writes[len(w.writes)-1]
		w.mu.Unlock()
		if !strings.HasSuffix(last, "2 -> 1") {
			t.Errorf("the last write is %s", last)
		}
	})
}

// A call for an idle server is answered at once, not with the next batch.
func TestLoopWakes(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.edit("a", func(sv *desired.Server) { sv.Spec.Autoscaling.MinReplicas, sv.Replicas = 0, 0 })
		defer w.lead()()
		wait(10 * time.Second)
		w.call("a", 1)
		wait(0)
		w.expect("10s: a 0 -> 1")
	})
}

func TestLoopTriesAgain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.fail = errors.New("no leader")
		w.edit("a", func(sv *desired.Server) {})
		defer w.lead()()
		wait(10 * time.Second)
		w.call("a", 12)
		wait(20 * time.Second)
		w.expect()
		w.mu.Lock()
		w.fail = nil
		w.mu.Unlock()
		wait(2 * time.Second)
		if got := w.State().Servers["a"].Replicas; got != 6 {
			t.Errorf("target %d, want 6", got)
		}
	})
}

// While a write takes long, no other is begun for the server, and what is decided
// then is written after it.
func TestLoopWritesOneAtATime(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.slow = 3 * time.Second
		for i := range 3 * maxWrites {
			w.edit(fleet.ServerName(fmt.Sprint("s", i)), func(*desired.Server) {})
		}
		defer w.lead()()
		wait(10 * time.Second)
		for i := range 3 * maxWrites {
			w.call(fleet.ServerName(fmt.Sprint("s", i)), 12)
		}
		wait(5 * time.Minute)
		for name, sv := range w.State().Servers {
			if sv.Replicas != 6 {
				t.Errorf("target of %s %d, want 6", name, sv.Replicas)
			}
		}
	})
}

// A target decided by an old spec is ignored, and decided anew.
func TestLoopDecidesByTheNewestSpec(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.slow = time.Second
		w.edit("a", func(sv *desired.Server) { sv.Written = 1 })
		defer w.lead()()
		wait(10 * time.Second)
		w.call("a", 12)
		wait(500 * time.Millisecond) // a write is under way
		w.edit("a", func(sv *desired.Server) {
			a := *sv.Spec.Autoscaling
			a.MaxReplicas = 3
			sv.Spec.Autoscaling, sv.Written = &a, 2
		})
		wait(10 * time.Second)
		w.expect("12.2s: a 1 -> 3")
	})
}

func TestLoopWaitsForTheWholeLoad(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.edit("a", func(sv *desired.Server) {
			sv.Replicas, sv.Spec.Autoscaling.DownscaleDelay = 6, 0
		})
		defer w.lead()()
		wait(20 * time.Second)
		w.miss("worker n2 has not reported")
		wait(0)
		if got := testutil.ToFloat64(w.scaler.metrics.missing); got != 1 {
			t.Errorf("mcpfleet_autoscaler_load_missing is %v", got)
		}
		wait(time.Minute)
		w.expect()
		w.miss("")
		wait(time.Second)
		w.expect("1m20s: a 6 -> 1")
	})
}

// Each tenure looks back for itself, and knows the load from its beginning.
func TestLoopOfANewLeader(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.edit("a", func(sv *desired.Server) {
			sv.Replicas, sv.Spec.Autoscaling.DownscaleDelay = 6, 0
		})
		stop := w.lead()
		wait(29 * time.Second)
		stop()
		if n, err := testutil.GatherAndCount(w.registry, "mcpfleet_autoscaler_target"); n != 0 || err != nil {
			t.Errorf("%d servers have gauges after a tenure (%v)", n, err)
		}
		w.call("a", 16)
		defer w.lead()()
		wait(time.Second)
		w.expect("29s: a 6 -> 8")
		w.call("a", 0)
		wait(28 * time.Second)
		w.expect()
		wait(5 * time.Second)
		if got := w.State().Servers["a"].Replicas; got >= 8 {
			t.Errorf("target %d after a full look-back", got)
		}
	})
}

func TestLoopForgets(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.edit("a", func(*desired.Server) {})
		w.edit("b", func(*desired.Server) {})
		defer w.lead()()
		wait(time.Second)
		w.call("a", 8)
		w.call("b", 8)
		wait(time.Second)
		w.remove("a")
		w.edit("b", func(sv *desired.Server) { sv.Spec.Autoscaling = nil })
		wait(time.Second)
		for metric, want := range map[string]int{
			"mcpfleet_autoscaler_target": 0, "mcpfleet_autoscaler_wanted": 0, "mcpfleet_autoscaler_load": 0, "mcpfleet_autoscaler_decisions_total": 1,
		} {
			if n, err := testutil.GatherAndCount(w.registry, metric); n != want || err != nil {
				t.Errorf("%d of %s, want %d (%v)", n, metric, want, err)
			}
		}
		w.writes = nil
		// The load of b is known when it scales by itself again.
		w.edit("b", func(sv *desired.Server) {
			a := fleet.DefaultAutoscaling()
			sv.Spec.Autoscaling, sv.Replicas = &a, 1
		})
		wait(time.Second)
		w.expect("3s: b 1 -> 4")
	})
}

func TestLoopReadsSchedules(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.edit("a", func(sv *desired.Server) {
			sv.Spec.Autoscaling.Schedules = []fleet.ScalingSchedule{{Cron: "bad"}, {Cron: "0 * * * *", For: time.Minute, MinReplicas: ptr(3)}}
		})
		defer w.lead()()
		wait(3 * time.Hour)
		hour := w.began.Truncate(time.Hour).Add(time.Hour).Sub(w.began)
		var want []string
		if w.began.Truncate(time.Hour).Equal(w.began) {
			want = append(want, "0s: a 1 -> 3", "2m0s: a 3 -> 1")
		}
		for range 3 {
			if hour < 3*time.Hour {
				want = append(want, fmt.Sprintf("%v: a 1 -> 3", hour), fmt.Sprintf("%v: a 3 -> 1", hour+2*time.Minute))
			}
			hour += time.Hour
		}
		w.mu.Lock()
		n := len(want)
		w.writes = w.writes[:min(n, len(w.writes))]
		w.mu.Unlock()
		w.expect(want...)
	})
}

// Ten thousand servers without news cost nothing, and the busy ones alone cost work.
func TestLoopDoesNoWorkWithoutNews(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for i := range 500 {
			w.edit(fleet.ServerName(fmt.Sprint("s", i)), func(*desired.Server) {})
		}
		tn := newTenure(w.scaler)
		_, take, cancel := loadsOf{w}.Subscribe()
		defer cancel()
		tn.pass(t.Context(), time.Now(), take())
		if n := len(tn.due.heap); n != 0 {
			t.Errorf("%d of 500 servers without calls are due some time", n)
		}
		w.call("s7", 1)
		w.call("s9", 1)
		time.Sleep(time.Second)
		tn.pass(t.Context(), time.Now(), take())
		if n := len(tn.due.heap); n != 2 {
			t.Errorf("%d servers are due some time, want the 2 with calls", n)
		}
	})
}

// BenchmarkPass is a pass over 10,000 servers of which some have news.
func BenchmarkPass(b *testing.B) {
	const servers = 10_000
	for _, busy := range []int{0, 100, servers} {
		b.Run(fmt.Sprintf("busy=%d", busy), func(b *testing.B) {
			st := &desired.State{Servers: map[fleet.ServerName]*desired.Server{}}
			names := make([]fleet.ServerName, servers)
			for i := range names {
				names[i] = fleet.ServerName(fmt.Sprint("server-", i))
				a := fleet.DefaultAutoscaling()
				st.Servers[names[i]] = &desired.Server{Replicas: 10, Spec: fleet.Spec{Autoscaling: &a}}
			}
			s := New(Config{
				Write:   func(context.Context, fleet.ServerName, int, uint64, string) error { return nil },
				Desired: fixedState{st}, Registry: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
			})
			tn := newTenure(s)
			now := t0
			first := fleet.LoadNews{Servers: make(map[fleet.ServerName]fleet.ServerLoad)}
			for _, name := range names {
				first.Servers[name] = fleet.ServerLoad{Running: 20}
			}
			tn.pass(b.Context(), now, first)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				news := fleet.LoadNews{Servers: make(map[fleet.ServerName]fleet.ServerLoad, busy)}
				for _, name := range names[:busy] {
					news.Servers[name] = fleet.ServerLoad{Running: 19 + i%2} // no reason to scale
				}
				now = now.Add(Batch)
				tn.pass(b.Context(), now, news)
			}
		})
	}
}

// fixedState is desired state that never changes.
type fixedState struct{ st *desired.State }

func (f fixedState) State() *desired.State { return f.st }

func (f fixedState) Subscribe() (<-chan struct{}, func()) { return nil, func() {} }
