package load

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/notice"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// waiting are the Queues of one controller.
type waiting struct {
	notice.Board
	mu     sync.Mutex
	queues map[fleet.ServerName]int
	reads  int
}

func (q *waiting) Queues() map[fleet.ServerName]int {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reads++
	return maps.Clone(q.queues)
}

func (q *waiting) read() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.reads
}

func (q *waiting) set(queues map[fleet.ServerName]int) {
	q.mu.Lock()
	q.queues = queues
	q.mu.Unlock()
	q.Post()
}

// ring is the Members.
type ring struct {
	notice.Board
	mu      sync.Mutex
	members []fleet.Member
}

func (r *ring) Members() []fleet.Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.members
}

func (r *ring) set(members ...fleet.Member) {
	r.mu.Lock()
	r.members = members
	r.mu.Unlock()
	r.Post()
}

// runs is the View.
type runs struct {
	notice.Board
	mu   sync.Mutex
	snap *observe.Snapshot
}

func (r *runs) Snapshot() *observe.Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.snap
}

func (r *runs) set(nodes map[fleet.NodeID]observe.Node, replicas ...fleet.Replica) {
	r.mu.Lock()
	next := &observe.Snapshot{Seq: r.snap.Seq + 1, Nodes: nodes, Replicas: make(map[fleet.ReplicaID]*fleet.Replica)}
	for _, one := range replicas {
		next.Replicas[one.ID] = &one
	}
	r.snap = next
	r.mu.Unlock()
	r.Post()
}

// colleague is another controller, with a real Reporter.
type colleague struct {
	waiting
	mu    sync.Mutex
	dead  bool
	dials int
	cut   context.CancelFunc // of its stream
}

func (c *colleague) WatchQueues(ctx context.Context, order fleet.Order, on func(map[fleet.ServerName]int)) error {
	c.mu.Lock()
	c.dials++
	dead := c.dead
	ctx, c.cut = context.WithCancel(ctx)
	defer c.cut()
	c.mu.Unlock()
	if dead {
		return errors.New("connection refused")
	}
	r := &Reporter{Cluster: func() fleet.ClusterID { return "c" }, Queues: &c.waiting}
	return r.WatchQueues(ctx, order, func(q map[fleet.ServerName]int) error {
		on(q)
		return nil
	})
}

func (c *colleague) Close() error { return nil }

func (c *colleague) dialled() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dials
}

func (c *colleague) kill(dead bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead = dead; dead {
		c.cut()
	}
}

func controllerAt(name string, life fleet.LifeID, started int) fleet.Member {
	return fleet.Member{
		Node: fleet.NodeID(name), Life: life, Role: fleet.RoleController, Controller: fleet.ControllerID("id-" + name), Cluster: "c",
		GRPC: name + ":7", Started: time.Unix(int64(started), 0),
	}
}

type world struct {
	*testing.T
	own     waiting
	ring    ring
	runs    runs
	others  map[string]*colleague // by address
	watcher *Watcher
	look    <-chan struct{}
	take    func() fleet.LoadNews
	stop    func()
}

func newWorld(t *testing.T, members ...fleet.Member) *world {
	w := &world{T: t, others: map[string]*colleague{"c2:7": {}, "c3:7": {}}}
	w.ring.members = members
	w.runs.snap = &observe.Snapshot{}
	w.watcher = New(Config{
		Self: "life1", Own: &w.own, Members: &w.ring, View: &w.runs, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Dial: func(m fleet.Member) (Controller, error) { return w.others[m.GRPC], nil },
	})
	w.lead()
	return w
}

// lead begins a tenure. stop ends it.
func (w *world) lead() {
	ctx, cancel := context.WithCancel(w.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.watcher.Run(ctx, fleet.Order{Cluster: "c"}) }()
	var unsubscribe func()
	w.look, w.take, unsubscribe = w.watcher.Subscribe()
	w.stop = func() {
		unsubscribe()
		cancel()
		if err := <-ended; err != nil {
			w.Error(err)
		}
	}
}

// takes checks the news that there is after a while. A nil want means none.
func (w *world) takes(when string, want map[fleet.ServerName]fleet.ServerLoad, missing string) {
	w.Helper()
	time.Sleep(3 * pace)
	synctest.Wait()
	select {
	case <-w.look:
	default:
		if want != nil {
			w.Errorf("%s: there was no notice", when)
		}
	}
	got := w.take()
	if len(got.Servers)+len(want) > 0 && !reflect.DeepEqual(got.Servers, want) || got.Missing != missing {
		w.Errorf("%s: %v, missing %q; want %v and %q", when, got.Servers, got.Missing, want, missing)
	}
}

type loads = map[fleet.ServerName]fleet.ServerLoad

// The load is what runs at replicas and what waits at all controllers. Only what has
// changed is handed out.
func TestWatcherAddsUp(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c1, c2, c3 := controllerAt("c1", "life1", 0), controllerAt("c2", "life2", 0), controllerAt("c3", "life3", 0)
		w := newWorld(t, c1, c2, c3, fleet.Member{Node: "n1", Life: "w", Role: fleet.RoleWorker, Cluster: "c"})
		defer func() { w.stop() }()
		w.others["c2:7"].set(map[fleet.ServerName]int{"a": 2, "b": 1})
		w.takes("at first", loads{"a": {Queued: 2}, "b": {Queued: 1}}, "")
		if got := w.watcher.Now(); !reflect.DeepEqual(got, loads{"a": {Queued: 2}, "b": {Queued: 1}}) {
			t.Errorf("now: %v", got)
		}
		w.takes("nothing has changed", nil, "")

		w.own.set(map[fleet.ServerName]int{"a": 5})
		w.others["c3:7"].set(map[fleet.ServerName]int{"d": 1})
		w.takes("more wait", loads{"a": {Queued: 7}, "d": {Queued: 1}}, "")

		up := map[fleet.NodeID]observe.Node{"n1": {Connected: true}}
		w.runs.set(up,
			fleet.Replica{ID: "1", Server: "a", Phase: fleet.PhaseReady, Load: fleet.Load{Ongoing: 3}},
			fleet.Replica{ID: "2", Server: "a", Phase: fleet.PhaseDraining, Load: fleet.Load{Ongoing: 1}},
			fleet.Replica{ID: "3", Server: "b", Phase: fleet.PhaseReady},
			fleet.Replica{ID: "4", Server: "b", Phase: fleet.PhaseReady, Spare: true, Load: fleet.Load{Ongoing: 9}},
		)
		w.others["c2:7"].set(map[fleet.ServerName]int{"b": 1})
		w.takes("some run", loads{"a": {Running: 4, Queued: 5}}, "")
		w.own.set(nil)
		w.others["c2:7"].set(nil)
		w.others["c3:7"].set(nil)
		w.runs.set(up)
		w.takes("all have ended", loads{"a": {}, "b": {}, "d": {}}, "")
	})
}

// A controller that does not lead knows what it sees running, and its own queues.
func TestNowOfAFollower(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, controllerAt("c1", "life1", 0), controllerAt("c2", "life2", 0))
		w.others["c2:7"].set(map[fleet.ServerName]int{"a": 2})
		w.own.set(map[fleet.ServerName]int{"a": 5, "b": 1})
		w.runs.set(nil, fleet.Replica{ID: "1", Server: "a", Phase: fleet.PhaseReady, Load: fleet.Load{Ongoing: 3}})
		w.takes("while it leads", loads{"a": {Running: 3, Queued: 7}, "b": {Queued: 1}}, "")
		w.stop()
		if got, want := w.watcher.Now(), (loads{"a": {Running: 3, Queued: 5}, "b": {Queued: 1}}); !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// Calls that have begun are counted from the first look on, and never fall.
func TestBegunCalls(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, controllerAt("c1", "life1", 0))
		defer func() { w.stop() }()
		up := map[fleet.NodeID]observe.Node{"n1": {Connected: true}}
		replica := func(id fleet.ReplicaID, total uint64) fleet.Replica {
			return fleet.Replica{ID: id, Server: "a", Phase: fleet.PhaseReady, Load: fleet.Load{Total: total}}
		}
		w.stop()
		w.runs.set(up, replica("1", 100))
		w.lead()
		w.takes("those before the first look", nil, "")
		w.runs.set(up, replica("1", 103), replica("2", 4))
		w.takes("some have begun, and ended", loads{"a": {Begun: 7}}, "")
		w.runs.set(up, replica("2", 4))
		w.takes("a replica has ended", nil, "")
		w.own.set(map[fleet.ServerName]int{"a": 1})
		w.takes("another waits", loads{"a": {Queued: 1, Begun: 7}}, "")
		w.own.set(nil)
		w.runs.set(up)
		w.takes("all have ended", loads{"a": {Begun: 7}}, "")
	})
}

// Whoever should report and does not is missing, and what it last reported is
// counted, until it leaves or reports again.
func TestWatcherSaysWhatIsMissing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c1, c2 := controllerAt("c1", "life1", 0), controllerAt("c2", "life2", 0)
		w := newWorld(t, c1, c2)
		defer func() { w.stop() }()
		w.others["c2:7"].set(map[fleet.ServerName]int{"a": 2})
		w.takes("at first", loads{"a": {Queued: 2}}, "")
		w.others["c2:7"].kill(true)
		w.takes("c2 is cut off", nil, "controller c2 does not report its queue")
		time.Sleep(10 * time.Second)
		if n := w.others["c2:7"].dialled(); n < 10 || n > 30 {
			t.Errorf("it was tried %d times in 10 s", n)
		}
		w.others["c2:7"].set(map[fleet.ServerName]int{"b": 1})
		w.others["c2:7"].kill(false)
		time.Sleep(retryMax)
		w.takes("c2 is back", loads{"a": {}, "b": {Queued: 1}}, "")

		w.others["c2:7"].kill(true)
		w.takes("c2 is cut off again", nil, "controller c2 does not report its queue")
		older := controllerAt("c3", "life3", 0)
		older.GRPC = ""
		foreign, homeless := controllerAt("x", "life4", 0), controllerAt("y", "life5", 0)
		foreign.Cluster, homeless.Cluster = "other", ""
		w.ring.set(c1, older, foreign, homeless)
		w.takes("c2 has left", loads{"b": {}}, "controller c3 cannot report its queue: its version is too old")

		next := controllerAt("c2", "life6", 5)
		w.others["c2:7"].kill(false)
		w.ring.set(c1, c2, next)
		w.takes("the earlier life of c2 does not count", loads{"b": {Queued: 1}}, "")

		w.runs.set(map[fleet.NodeID]observe.Node{
			"n1": {Connected: true}, "n2": {Info: fleet.NodeInfo{Life: "w"}}, "n3": {}, "n4": {Lost: true},
		})
		w.takes("nodes do not report", nil, "node n2 cannot be reached; node n3 has not reported yet")
	})
}

// The wish to wake a server is repeated to each new leader. Between tenures
// nothing is known.
func TestNextTenureBeginsAnew(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, controllerAt("c1", "life1", 0), controllerAt("c2", "life2", 0))
		w.others["c2:7"].set(map[fleet.ServerName]int{"idle": 1})
		w.takes("at first", loads{"idle": {Queued: 1}}, "")
		w.stop()
		_, take, unsubscribe := w.watcher.Subscribe()
		if got := take(); len(got.Servers) > 0 || got.Missing != textNotCounted {
			t.Errorf("after the tenure: %+v", got)
		}
		unsubscribe()
		w.lead()
		defer func() { w.stop() }()
		w.takes("in the next tenure", loads{"idle": {Queued: 1}}, "")
	})
}

// However often queues change, they are counted and reported forty times a second
// at most, and the last change is not lost.
func TestChangesAreGathered(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, controllerAt("c1", "life1", 0), controllerAt("c2", "life2", 0))
		defer func() { w.stop() }()
		w.takes("at first", nil, "")
		c2 := w.others["c2:7"]
		before := c2.read() + w.own.read()
		for i := range 1000 { // in one second
			time.Sleep(time.Millisecond)
			c2.set(map[fleet.ServerName]int{"a": 1 + i})
			w.own.set(map[fleet.ServerName]int{"b": 1 + i})
		}
		w.takes("at last", loads{"a": {Queued: 1000}, "b": {Queued: 1000}}, "")
		if n := c2.read() + w.own.read() - before; n < 50 || n > 100 {
			t.Errorf("the queues were read %d times", n)
		}
	})
}

// A change after a pause is known at once.
func TestFirstChangeIsNotDelayed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, controllerAt("c1", "life1", 0), controllerAt("c2", "life2", 0))
		defer func() { w.stop() }()
		w.takes("at first", nil, "")
		began := time.Now()
		w.others["c2:7"].set(map[fleet.ServerName]int{"a": 1})
		<-w.look
		if got := w.take(); got.Servers["a"].Queued != 1 || time.Since(began) > 0 {
			t.Errorf("%v after %v", got, time.Since(began))
		}
	})
}

func TestReporter(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var q waiting
		r := &Reporter{Cluster: func() fleet.ClusterID { return "c" }, Queues: &q}
		q.set(map[fleet.ServerName]int{"a": 1})
		type message struct {
			at     time.Duration
			queues map[fleet.ServerName]int
		}
		var got []message
		began := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- r.WatchQueues(ctx, fleet.Order{Cluster: "c"}, func(queues map[fleet.ServerName]int) error {
				got = append(got, message{time.Since(began), queues})
				return nil
			})
		}()
		time.Sleep(100 * time.Millisecond)
		q.set(map[fleet.ServerName]int{"b": 2})
		time.Sleep(10 * time.Millisecond)
		q.set(map[fleet.ServerName]int{"b": 3})
		time.Sleep(5 * time.Millisecond)
		q.set(map[fleet.ServerName]int{"b": 4})
		time.Sleep(2*time.Second + 500*time.Millisecond)
		q.Post() // changes nothing
		synctest.Wait()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
		want := []message{
			{0, map[fleet.ServerName]int{"a": 1}},
			{100 * time.Millisecond, map[fleet.ServerName]int{"a": 0, "b": 2}},
			{125 * time.Millisecond, map[fleet.ServerName]int{"b": 4}},
			{1125 * time.Millisecond, nil},
			{2125 * time.Millisecond, nil},
		}
		if !slices.EqualFunc(got, want, func(a, b message) bool { return a.at == b.at && maps.Equal(a.queues, b.queues) }) {
			t.Errorf("sent %v, want %v", got, want)
		}

		for _, own := range []fleet.ClusterID{"", "d"} {
			r.Cluster = func() fleet.ClusterID { return own }
			err := r.WatchQueues(t.Context(), fleet.Order{Cluster: "c"}, func(map[fleet.ServerName]int) error { return nil })
			if !errors.Is(err, fleet.ErrForeignCluster) {
				t.Errorf("a controller of cluster %q: %v", own, err)
			}
		}
		r.Cluster = func() fleet.ClusterID { return "c" }
		broken := errors.New("broken")
		if err := r.WatchQueues(t.Context(), fleet.Order{Cluster: "c"}, func(map[fleet.ServerName]int) error { return broken }); !errors.Is(err, broken) {
			t.Errorf("the stream broke: %v", err)
		}
	})
}

func TestMissingIsBounded(t *testing.T) {
	for want, parts := range map[string][]string{
		"":                    nil,
		"a; b; c":             {"a", "b", "c"},
		"a; b; c; and 2 more": {"a", "b", "c", "d", "e"},
	} {
		if got := missing(parts); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
