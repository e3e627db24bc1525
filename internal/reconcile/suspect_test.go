package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/observe/observetest"
)

// failedOn is the end of a start that failed on a node so long ago.
func failedOn(node string, ago time.Duration, set ...func(*fleet.Replica)) *fleet.Replica {
	r := &fleet.Replica{ID: "x", Server: "a", Revision: 1, Node: fleet.NodeID(node), Phase: fleet.PhaseFailed, EndedAt: t0.Add(-ago), Reason: "it broke"}
	for _, f := range set {
		f(r)
	}
	return r
}

func TestFailing(t *testing.T) {
	type ends = []*fleet.Replica
	thrice := func(node string) ends {
		return ends{failedOn(node, 1*time.Second), failedOn(node, 2*time.Second), failedOn(node, 3*time.Second)}
	}
	of := func(server string, rev fleet.Revision) func(*fleet.Replica) {
		return func(r *fleet.Replica) { r.Server, r.Revision = fleet.ServerName(server), rev }
	}
	became := func(ago time.Duration) func(*unit) { return func(x *unit) { x.readyAt = t0.Add(-ago) } }
	served := func(r *fleet.Replica) { r.ReadyAt = t0.Add(-time.Minute) }
	lost := func(r *fleet.Replica) { r.Lost = true }
	told := func(r *fleet.Replica) { r.Phase = fleet.PhaseStopped }
	readyFor := func(d time.Duration) func(*fleet.Replica) {
		return func(r *fleet.Replica) { r.ReadyAt = r.EndedAt.Add(-d) }
	}
	for _, tt := range []struct {
		name  string
		ended ends
		units []*unit
		since time.Duration // ago; 0: from ever
		want  []fleet.NodeID
	}{
		{"it works elsewhere", thrice("n1"), []*unit{u("r1", "n2")}, 0, []fleet.NodeID{"n1"}},
		{"it works nowhere", thrice("n1"), nil, 0, nil},
		{"another revision works", thrice("n1"), []*unit{u("r1", "n2", rev(2))}, 0, nil},
		{"it only starts elsewhere", thrice("n1"), []*unit{u("r1", "n2", in(fleet.PhaseStarting))}, 0, nil},
		{"too few", thrice("n1")[1:], []*unit{u("r1", "n2")}, 0, nil},
		{"it has worked there since", thrice("n1"), []*unit{u("r1", "n2"), u("r2", "n1", became(500*time.Millisecond))}, 0, nil},
		{"it has worked there before", thrice("n1"), []*unit{u("r1", "n2"), u("r2", "n1", became(time.Minute))}, 0, []fleet.NodeID{"n1"}},
		{"one has worked there in between, and has ended", ends{failedOn("n1", 1*time.Second), failedOn("n1", 2*time.Second, told, readyFor(time.Second)), failedOn("n1", 4*time.Second), failedOn("n1", 5*time.Second)},
			[]*unit{u("r1", "n2")}, 0, nil},
		{"it has worked elsewhere, and has ended", append(thrice("n1"), failedOn("n2", time.Minute, told, readyFor(time.Second))), nil, 0, []fleet.NodeID{"n1"}},
		{"it failed when it ran", ends{failedOn("n1", 1, served), failedOn("n1", 2, served), failedOn("n1", 3, served)}, []*unit{u("r1", "n2")}, 0, nil},
		{"lost or stopped", ends{failedOn("n1", 1, lost), failedOn("n1", 2, told), failedOn("n1", 3)}, []*unit{u("r1", "n2")}, 0, nil},
		{"long ago", ends{failedOn("n1", 1), failedOn("n1", 2), failedOn("n1", failedWithin+1)}, []*unit{u("r1", "n2")}, 0, nil},
		{"before it was taken back", thrice("n1"), []*unit{u("r1", "n2")}, 2500 * time.Millisecond, nil},
		{"of several servers", ends{failedOn("n1", 1), failedOn("n1", 2, of("b", 1)), failedOn("n1", 3, of("c", 1))},
			[]*unit{u("r1", "n2"), {server: "b", rev: 1, node: "n2", phase: fleet.PhaseReady, readyAt: t0}, {server: "c", rev: 1, node: "n3", phase: fleet.PhaseReady, readyAt: t0}},
			0, []fleet.NodeID{"n1"}},
		{"on two nodes, and no other has started it since", slices.Concat(thrice("n1"), thrice("n2")), []*unit{u("r1", "n3"), u("r2", "n4")}, 0, nil},
		{"on two nodes, and two others have", slices.Concat(thrice("n1"), thrice("n2")), []*unit{u("r1", "n3", became(1)), u("r2", "n4", became(1))}, 0, []fleet.NodeID{"n1", "n2"}},
		{"on two nodes, and one other has", slices.Concat(thrice("n1"), thrice("n2")), []*unit{u("r1", "n3", became(1))}, 0, nil},
	} {
		byServer := make(map[fleet.ServerName][]*fleet.Replica)
		for _, e := range tt.ended {
			byServer[e.Server] = append(byServer[e.Server], e)
		}
		units := func() map[fleet.ServerName][]*unit {
			out := make(map[fleet.ServerName][]*unit)
			for _, u := range tt.units {
				out[u.server] = append(out[u.server], u)
			}
			return out
		}
		got := failing(t0, byServer, units, func(fleet.NodeID) time.Time {
			if tt.since == 0 {
				return time.Time{}
			}
			return t0.Add(-tt.since)
		})
		if !slices.Equal(sortedKeys(got), tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
		for _, x := range got {
			if x.reason != "3 starts in a row failed there that succeed on other nodes" || !strings.HasPrefix(x.last, "it broke") || t0.Sub(x.at) > time.Second {
				t.Errorf("%s: %+v", tt.name, x)
			}
		}
	}
}

func TestFlapping(t *testing.T) {
	ago := func(seconds ...int) (out []time.Time) {
		for _, s := range seconds {
			out = append(out, t0.Add(-time.Duration(s)*time.Second))
		}
		return out
	}
	for _, tt := range []struct {
		name  string
		times []time.Time
		since time.Time
		want  bool
	}{
		{"never", nil, time.Time{}, false},
		{"three times in a minute", ago(59, 30, 1), time.Time{}, true},
		{"twice in a minute", ago(61, 30, 1), time.Time{}, false},
		{"before it was taken back", ago(59, 30, 1), t0.Add(-40 * time.Second), false},
	} {
		views := []*nodeView{{name: "n1", node: observe.Node{Reconnected: tt.times}}}
		got := flapping(t0, views, func(fleet.NodeID) time.Time { return tt.since })
		if x, ok := got["n1"]; ok != tt.want || ok && (!x.at.Equal(t0.Add(-time.Second)) || x.reason == "") {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}

// A node in trouble is cordoned until it has been quiet, longer each time, unless
// that would leave fewer than half of the nodes.
func TestJudge(t *testing.T) {
	s := make(suspicions)
	now := t0
	judge := func(after time.Duration, usable int, bad ...string) string {
		now = now.Add(after)
		troubles := make(map[fleet.NodeID]trouble)
		for _, id := range bad {
			if now.After(s.since(fleet.NodeID(id))) {
				troubles[fleet.NodeID(id)] = trouble{reason: "it flaps", at: now}
			}
		}
		var lines []string
		wake := s.judge(now, troubles, usable, func(e Event) { lines = append(lines, fmt.Sprint(e.Kind, " ", e.Node)) })
		if !wake.IsZero() {
			lines = append(lines, "look in "+wake.Sub(now).String())
		}
		return strings.Join(lines, ", ")
	}
	for i, step := range []struct {
		after  time.Duration
		usable int
		bad    []string
		want   string
	}{
		{0, 1, []string{"n1"}, ""}, // the only node
		{0, 3, []string{"n1", "n2"}, ""},
		{0, 2, []string{"n1"}, "node_cordoned n1, look in 1m0s"},
		{0, 3, []string{"n2"}, "look in 1m0s"}, // one of three is enough
		{59 * time.Second, 3, []string{"n1"}, "look in 1m0s"},
		{time.Minute, 3, nil, "node_uncordoned n1"},
		{time.Second, 3, []string{"n1"}, "node_cordoned n1, look in 2m0s"},
		{2 * time.Minute, 3, nil, "node_uncordoned n1"},
		{time.Second, 3, []string{"n1"}, "node_cordoned n1, look in 4m0s"},
		{4 * time.Minute, 3, nil, "node_uncordoned n1"},
		{time.Second, 3, []string{"n1"}, "node_cordoned n1, look in 8m0s"},
		{8 * time.Minute, 3, nil, "node_uncordoned n1"},
		{time.Second, 3, []string{"n1"}, "node_cordoned n1, look in 10m0s"},
		{10 * time.Minute, 3, nil, "node_uncordoned n1"},
		{suspectMemory, 3, nil, ""},
		{0, 4, []string{"n1", "n2"}, "node_cordoned n1, node_cordoned n2, look in 1m0s"},
		{30 * time.Second, 4, []string{"n2", "n3"}, "look in 30s"},
		{30 * time.Second, 4, nil, "node_uncordoned n1, look in 30s"},
	} {
		if got := judge(step.after, step.usable, step.bad...); got != step.want {
			t.Fatalf("step %d: %q, want %q", i, got, step.want)
		}
	}
	if got := slices.Collect(maps.Keys(s.reasons())); len(got) != 1 || s.reasons()["n2"] != "cordoned by the leader: it flaps" || s.reason("n1") != "" {
		t.Errorf("reasons = %v", s.reasons())
	}
}

// A node on which nothing starts is cordoned, and its share goes to the others. When
// it has been quiet it gets replicas again. A new leader finds the same trouble.
func TestNodeThatStartsNothing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2", "n3")
		sick := true
		w.workers[0].Behave(func(fleet.ServerName, fleet.Revision) observetest.Behaviour {
			return observetest.Behaviour{ReadyAfter: 50 * time.Millisecond, FailStart: sick}
		})
		w.desired.set(server("a", 1, 3))
		w.control()
		defer func() { w.stop() }()
		w.until(10*time.Second, "deployed without n1", w.converged)
		if n := w.happened(fleet.EventNodeCordoned); n != 1 {
			t.Fatalf("%d nodes cordoned, want 1\n%s", n, w)
		}
		if why := w.rec.Cordons()["n1"]; !strings.HasPrefix(why, "cordoned by the leader: 3 starts in a row failed there that succeed on other nodes; last failure: exit code 1") {
			t.Errorf("reason = %q", why)
		}
		starts := len(w.workers[0].Starts())
		w.stop()
		w.control()
		w.desired.set(server("a", 1, 6))
		w.until(10*time.Second, "deployed by a new leader", w.converged)
		if n := len(w.workers[0].Starts()) - starts; n != 0 {
			t.Errorf("%d more starts on the cordoned node", n)
		}
		sick = false
		w.until(2*time.Minute, "the node is taken back", func() bool { return w.happened(fleet.EventNodeUncordoned) == 1 })
		if why := w.rec.Cordons(); len(why) != 0 {
			t.Errorf("still cordoned: %v", why)
		}
		w.desired.set(server("a", 1, 8))
		w.until(10*time.Second, "deployed on all", w.converged)
		if len(w.workers[0].Running()) != 2 {
			t.Errorf("the node that was taken back got no replicas\n%s", w)
		}
	})
}

// A server with one replica is tried on another node after it did not start. So nodes
// where nothing starts are found even if no server runs on two nodes.
func TestNodeWhereNothingStartsAmongSingleReplicas(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.add("n1", always(observetest.Behaviour{ReadyAfter: 50 * time.Millisecond, FailStart: true}))
		w.add("n2", always(observetest.Behaviour{ReadyAfter: 50 * time.Millisecond}))
		w.add("n3", always(observetest.Behaviour{ReadyAfter: 50 * time.Millisecond}))
		var servers []fleet.Server
		w.control()
		defer w.stop()
		for i := range 5 {
			servers = append(servers, server(fmt.Sprint("s", i), 1, 1))
			w.desired.set(servers...)
			w.until(5*time.Second, "deployed", w.converged)
		}
		if got := len(w.workers[0].Starts()); got != failedStarts {
			t.Errorf("%d starts on the node where none succeeds, want %d\n%s", got, failedStarts, w)
		}
		if n := w.happened(fleet.EventNodeCordoned); n != 1 {
			t.Errorf("%d nodes cordoned, want 1\n%s", n, w)
		}
	})
}

// A server that starts nowhere is not the nodes' fault.
func TestBrokenServerCordonsNothing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2", "n3")
		broken := func(s fleet.ServerName, _ fleet.Revision) observetest.Behaviour {
			return observetest.Behaviour{ReadyAfter: 50 * time.Millisecond, FailStart: s == "b"}
		}
		w.behave(broken)
		w.desired.set(server("a", 1, 3), server("b", 1, 3))
		w.control()
		defer w.stop()
		time.Sleep(5 * time.Minute)
		if n := w.happened(fleet.EventNodeCordoned); n != 0 {
			t.Errorf("%d nodes cordoned\n%s", n, w)
		}
	})
}

// A node whose stream breaks again and again gets no new replicas for a while. One
// that is alone goes on.
func TestNodeThatFlaps(t *testing.T) {
	for nodes, want := range map[int]int{1: 0, 2: 1} {
		t.Run(fmt.Sprint(nodes, " nodes"), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := newWorld(t, 1)
				w.addMany(nodes, always(observetest.Behaviour{}))
				w.deploy(server("a", 1, 2))
				for range 3 {
					w.workers[0].Break()
					time.Sleep(2 * time.Second)
				}
				if n := w.happened(fleet.EventNodeCordoned); n != want {
					t.Fatalf("%d nodes cordoned, want %d\n%s", n, want, w)
				}
				before := len(w.workers[0].Starts())
				w.desired.set(server("a", 1, 4))
				w.until(5*time.Second, "scaled up", w.converged)
				if got := len(w.workers[0].Starts()) - before; got != 2*(1-want) {
					t.Errorf("%d starts on it", got)
				}
				time.Sleep(2 * time.Minute)
				if n := w.happened(fleet.EventNodeUncordoned); n != want {
					t.Errorf("%d nodes taken back, want %d", n, want)
				}
			})
		})
	}
}
