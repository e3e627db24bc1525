package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe/observetest"
)

// lines puts planned actions in lines without names that are random.
func lines(actions []PlannedAction) (out []string) {
	for _, a := range actions {
		verb := "stop"
		if a.Start {
			verb = "start"
		}
		out = append(out, fmt.Sprintf("%s %s %d on %s: %s", verb, a.Server, a.Revision, a.Node, a.Reason))
	}
	return out
}

func TestPreview(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2")
		w.deploy(server("a", 1, 2), server("b", 1, 1))
		before := len(w.starts())
		a1, b1 := server("a", 1, 2), server("b", 1, 1)
		for _, tt := range []struct {
			name    string
			servers []fleet.Server
			nodes   map[fleet.NodeID]fleet.NodeIntent
			want    []string
		}{
			{name: "nothing changes"},
			{name: "another count", servers: []fleet.Server{server("a", 1, 4), b1}, want: []string{
				"start a 1 on n2: 4 replicas wanted, there are 2", "start a 1 on n1: 4 replicas wanted, there are 2"}},
			{name: "another revision", servers: []fleet.Server{upgraded(a1, server("a", 2, 2)), b1}, want: []string{
				"start a 2 on n2: revision 2 replaces revision 1", "stop a 1 on n1: revision 2 replaces revision 1",
				"start a 2 on n1: revision 2 replaces revision 1", "stop a 1 on n2: revision 2 replaces revision 1"}},
			{name: "removed", servers: []fleet.Server{a1}, want: []string{"stop b 1 on n1: the server was removed"}},
			{name: "stopped", servers: []fleet.Server{server("a", 1, 0), b1}, want: []string{
				"stop a 1 on n1: stopped by hand: replicas is 0", "stop a 1 on n2: stopped by hand: replicas is 0"}},
			{name: "a node is drained", nodes: map[fleet.NodeID]fleet.NodeIntent{"n2": {Cordoned: true, DrainUntil: time.Now().Add(time.Minute)}}, want: []string{
				"start a 1 on n1: node n2 is draining", "stop a 1 on n2: node n2 is draining"}},
		} {
			got, err := w.rec.Preview(t.Context(), tt.servers, tt.nodes)
			if err != nil || !slices.Equal(lines(got), tt.want) {
				t.Errorf("%s: %v\n got %s\nwant %s", tt.name, err, strings.Join(lines(got), "\n     "), strings.Join(tt.want, "\n     "))
			}
		}
		got, err := w.rec.Preview(t.Context(), []fleet.Server{server("a", 1, 50_000), b1}, nil)
		if err != nil || len(got) > previewActions+50_000+1 {
			t.Errorf("%d actions, %v: want a bound", len(got), err)
		}
		time.Sleep(time.Second)
		if !w.converged() || len(w.starts()) != before {
			t.Error("a preview changed something")
		}
	})
}

// A preview has what the change causes: not what is to be done anyhow, but the
// replicas that no node has room for, with the reason.
func TestPreviewOfWhatHasNoRoom(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1")
		big := func(s *fleet.Spec) { s.Labels = map[string]string{"size": "big"} }
		stuck := server("stuck", 1, 2, big)
		w.desired.set(server("a", 1, 1), stuck)
		w.control()
		defer w.stop()
		w.until(5*time.Second, "a deployed", func() bool { return len(w.starts()) == 1 })
		time.Sleep(time.Second)
		for _, tt := range []struct {
			name    string
			servers []fleet.Server
			want    []string
		}{
			{name: "nothing changes", servers: []fleet.Server{server("a", 1, 1), stuck}},
			{name: "another one starts", servers: []fleet.Server{server("a", 1, 2), stuck}, want: []string{"start a 1 on n1: 2 replicas wanted, there are 1"}},
			{name: "one more that has no room", servers: []fleet.Server{server("a", 1, 1), server("b", 1, 2, big), server("stuck", 1, 3, big)}, want: []string{
				"start b 1 on : no node fits: 1 node lacks the label size=big", "start b 1 on : no node fits: 1 node lacks the label size=big", "start stuck 1 on : no node fits: 1 node lacks the label size=big"}},
			{name: "what was stuck has room", servers: []fleet.Server{server("a", 1, 1), server("stuck", 2, 1)}, want: []string{"start stuck 2 on n1: 1 replica wanted, there are 0"}},
		} {
			got, err := w.rec.Preview(t.Context(), tt.servers, nil)
			if err != nil || !slices.EqualFunc(lines(got), tt.want, strings.HasPrefix) {
				t.Errorf("%s: %v\n got %s\nwant %s", tt.name, err, strings.Join(lines(got), "\n     "), strings.Join(tt.want, "\n     "))
			}
		}
	})
}

// A worker that has stopped may come back, in a preview as in fact: a stopping
// node keeps its replicas until then, so that their stop is due to the change.
func TestPreviewAwaitsRestartedWorkers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2")
		w.deploy(server("a", 1, 1), server("b", 1, 1))
		w.workers[0].Drain()
		w.until(5*time.Second, "its replica has moved", w.empty(w.workers[0]))
		w.leave(w.workers[0])
		time.Sleep(100 * time.Millisecond)
		w.workers[1].Drain()
		time.Sleep(time.Second)
		got, err := w.rec.Preview(t.Context(), []fleet.Server{server("b", 1, 1)}, nil)
		if want := []string{"stop a 1 on n2: the server was removed"}; err != nil || !slices.Equal(lines(got), want) {
			t.Errorf("got %q, %v; want %q", lines(got), err, want)
		}
	})
}

// Previews of a server that does not start assume that it will.
func TestPreviewIgnoresBackoff(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1")
		w.workers[0].Behave(always(observetest.Behaviour{FailStart: true, ReadyAfter: time.Millisecond}))
		w.desired.set(server("a", 1, 1))
		w.control()
		defer w.stop()
		time.Sleep(time.Minute)
		got, err := w.rec.Preview(t.Context(), []fleet.Server{server("a", 2, 3)}, nil)
		if err != nil || len(got) != 3 {
			t.Errorf("%v, %v: want 3 starts", lines(got), err)
		}
	})
}

func TestPreviewWhileNobodyLeads(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1")
		c := w.newController()
		if _, err := c.rec.Preview(t.Context(), nil, nil); !errors.Is(err, fleet.ErrNotLeader) {
			t.Errorf("err = %v, want ErrNotLeader", err)
		}
		w.lead(c)
		var asking sync.WaitGroup
		for range 20 { // while the tenure ends
			asking.Go(func() {
				for range 50 {
					if _, err := c.rec.Preview(t.Context(), nil, nil); err != nil && !errors.Is(err, fleet.ErrNotLeader) {
						t.Errorf("err = %v", err)
					}
				}
			})
		}
		time.Sleep(time.Millisecond)
		w.follow(c)
		asking.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.rec.Preview(ctx, nil, nil); err == nil {
			t.Error("a follower previewed")
		}
		c.stop()
	})
}
