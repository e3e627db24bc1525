package fleettest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const threeNames = "c1 c2 c3"

// others returns the controllers but one, in order.
func others(but fleet.NodeID) (out []fleet.NodeID) {
	for _, name := range strings.Fields(threeNames) {
		if fleet.NodeID(name) != but {
			out = append(out, fleet.NodeID(name))
		}
	}
	return out
}

// TestLeaderStops: the leader hands over, nothing that runs notices, writes go
// on through any controller, and it comes back as a follower.
func TestLeaderStops(t *testing.T) {
	c := Start(t, Options{Controllers: 3, Workers: 2, File: echoFile(4, ""), Patient: true})
	c.AwaitReady(2)
	before, err := replicas(t.Context(), c, "READY")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		leader := c.Leader()
		follower := c.Controller(others(leader)[0])
		c.StopController(leader)
		c.Leader()

		// A write through a follower, perhaps, and its read through the other.
		n := 10 + len(leader)
		put, err := follower.PutServer(t.Context(), "echo", []byte(fmt.Sprintf(`{"command":["echo"],"replicas":4,"drain_timeout":"5s","max_queued_requests":%d}`, n)), api.WriteOptions{})
		if err != nil || put.Status != http.StatusOK || put.Revision != 1 {
			t.Fatalf("put: %+v, %v; want 200 and the same revision", put, err)
		}
		read, err := c.Controller(others(leader)[1]).GetServer(t.Context(), "echo", api.ReadOptions{})
		if err != nil || read.ETag != put.ETag || !strings.Contains(string(read.Spec), fmt.Sprintf(`"max_queued_requests":%d`, n)) {
			t.Errorf("read %+v, %v; want what was written: %s", read, err, put.ETag)
		}
		for _, name := range others(leader) {
			if _, err := c.Controller(name).Call(t.Context(), "echo", api.CallRequest{ToolName: "echo", ToolArgs: args(`{"text":"x"}`)}); err != nil {
				t.Errorf("call through %s: %v", name, err)
			}
		}
		c.StartController(leader)
		Eventually(t, func(ctx context.Context) error {
			ready, err := c.Controller(leader).Ready(ctx)
			if err == nil && !ready.Ready {
				err = fmt.Errorf("%+v", ready)
			}
			return err
		})
		stale, err := c.Controller(leader).GetServer(t.Context(), "echo", api.ReadOptions{Stale: true})
		if err != nil || stale.ETag != put.ETag {
			t.Errorf("%s is ready and has %s, %v; want %s", leader, stale.ETag, err, put.ETag)
		}
	}
	c.Client = c.Controller("c1").Client
	c.AwaitReady(2)
	after, err := replicas(t.Context(), c, "READY")
	if err != nil {
		t.Fatal(err)
	}
	if want, got := slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after)); !slices.Equal(got, want) {
		t.Errorf("replicas %v, want those from before: %v", got, want)
	}
}

// TestWithoutQuorum: one of three keeps serving calls and stale reads, and
// refuses what needs a majority.
func TestWithoutQuorum(t *testing.T) {
	c := Start(t, Options{Controllers: 3, Workers: 2, File: echoFile(2, "")})
	c.AwaitReady(2)
	Eventually(t, func(ctx context.Context) error { // it has the news, too
		ready, err := c.Controller("c3").Ready(ctx)
		if err == nil && !ready.Ready {
			err = fmt.Errorf("%+v", ready)
		}
		return err
	})
	c.StopController("c1")
	c.StopController("c2")
	last := c.Controller("c3")
	Eventually(t, func(ctx context.Context) error { // its lease has to end
		_, err := last.Scale(ctx, "echo", 3, api.WriteOptions{})
		if e := new(api.Error); !errors.As(err, &e) || e.Status != http.StatusServiceUnavailable || e.Code != api.CodeNoLeader && e.Code != api.CodeOutcomeUnknown {
			return fmt.Errorf("scale: %w; want 503", err)
		} else if e.Code != api.CodeNoLeader {
			return err
		}
		return nil
	})
	if _, err := last.GetServer(t.Context(), "echo", api.ReadOptions{}); err == nil {
		t.Error("a linearizable read without a quorum was answered")
	}
	if _, err := last.GetServer(t.Context(), "echo", api.ReadOptions{Stale: true}); err != nil {
		t.Errorf("stale read: %v", err)
	}
	for range 10 {
		if _, err := last.Call(t.Context(), "echo", api.CallRequest{ToolName: "echo", ToolArgs: args(`{"text":"x"}`)}); err != nil {
			t.Errorf("call: %v", err)
		}
	}
	c.StartController("c1")
	c.Leader()
	if _, err := last.Scale(t.Context(), "echo", 3, api.WriteOptions{}); err != nil {
		t.Errorf("scale once there is a majority again: %v", err)
	}
}

// TestEventsAreTheSameEverywhere: ids, order and content, over a change of
// leader.
func TestEventsAreTheSameEverywhere(t *testing.T) {
	c := Start(t, Options{Controllers: 3, Workers: 1, File: echoFile(1, "")})
	c.AwaitReady(1)
	leader := c.Leader()
	same := func(names []fleet.NodeID, kinds ...fleet.EventKind) {
		t.Helper()
		Eventually(t, func(ctx context.Context) error {
			var first []api.Event
			for i, name := range names {
				got, err := c.Controller(name).Events(ctx, api.EventOptions{Limit: 1000})
				if err != nil {
					return err
				}
				if i == 0 {
					first = got.Events
				}
				if len(got.Events) == 0 || fmt.Sprint(idsOf(got.Events)) != fmt.Sprint(idsOf(first)) {
					return fmt.Errorf("%s has %v, %s has %v", name, idsOf(got.Events), names[0], idsOf(first))
				}
			}
			for _, kind := range kinds {
				if !slices.ContainsFunc(first, func(e api.Event) bool { return e.Kind == kind }) {
					return fmt.Errorf("no event %s among %v", kind, first)
				}
			}
			return nil
		})
	}
	same([]fleet.NodeID{"c1", "c2", "c3"}, fleet.EventLeaderElected, fleet.EventServerCreated, fleet.EventReplicaStarted, fleet.EventReplicaReady, fleet.EventNodeJoined)
	c.StopController(leader)
	c.Leader()
	c.Client = c.Controller(others(leader)[0]).Client
	if _, err := c.Scale(t.Context(), "echo", 2, api.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	same(others(leader), fleet.EventServerScaled)
}

func idsOf(list []api.Event) (out []string) {
	for _, e := range list {
		out = append(out, e.ID+" "+string(e.Kind))
	}
	return out
}

// TestStopByHand: replicas: 0 is a stop, not a failure.
func TestStopByHand(t *testing.T) {
	c := Start(t, Options{Workers: 1, File: echoFile(2, "")})
	c.AwaitReady(1)
	if _, err := c.Scale(t.Context(), "echo", 0, api.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	Eventually(t, func(ctx context.Context) error {
		ready, err := c.Ready(ctx)
		if err != nil || !ready.Ready || c.Alive() != 0 {
			return fmt.Errorf("%+v, %w, %d alive; want it ready with none", ready, err, c.Alive())
		}
		return nil
	})
	_, err := c.Call(t.Context(), "", api.CallRequest{ToolName: "echo", ToolArgs: args(`{"text":"x"}`)})
	if e := new(api.Error); !errors.As(err, &e) || e.Status != http.StatusServiceUnavailable || e.Code != api.CodeStopped {
		t.Errorf("call: %v, want 503 stopped", err)
	}
	if list, err := c.Tools(t.Context(), ""); err != nil || len(list.Tools) != 0 || len(list.Unavailable) != 0 {
		t.Errorf("tools: %+v, %v; want none, and none missing", list, err)
	}
	// It survives a restart of the controller, and so do its tools' names.
	c.StopController("c1")
	c.StartController("c1")
	c.Client = c.Controller("c1").Client
	c.AwaitReady(1)
	_, err = c.Call(t.Context(), "", api.CallRequest{ToolName: "echo", ToolArgs: args(`{"text":"x"}`)})
	if e := new(api.Error); !errors.As(err, &e) || e.Code != api.CodeStopped {
		t.Errorf("call after a restart: %v, want 503 stopped", err)
	}
	if _, err := c.Scale(t.Context(), "echo", 1, api.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	Eventually(t, func(ctx context.Context) error {
		_, err := c.Call(ctx, "", api.CallRequest{ToolName: "echo", ToolArgs: args(`{"text":"x"}`)})
		return err
	})
}

// TestRestartRollbackDrain: each replaces replicas new before old, and no call
// fails meanwhile.
func TestRestartRollbackDrain(t *testing.T) {
	c := Start(t, Options{Workers: 2, File: echoFile(2, "")})
	c.AwaitReady(2)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_, err := c.Call(context.WithoutCancel(ctx), "", api.CallRequest{ToolName: "echo", ToolArgs: args(`{"text":"x"}`)})
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		}
	}()
	defer func() { cancel(); <-done }()
	settled := func(revision fleet.Revision, generation uint64) {
		t.Helper()
		Eventually(t, func(ctx context.Context) error {
			s, err := c.GetServer(ctx, "echo", api.ReadOptions{})
			if err == nil && (s.State != fleet.StateReady || s.Revision != revision || s.Generation != generation || s.Rollout != nil || s.Stable != revision) {
				err = fmt.Errorf("%+v", s)
			}
			return err
		})
	}
	settled(1, 0)
	old, err := replicas(t.Context(), c, "READY")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second is the same request
		if _, err := c.Restart(t.Context(), "echo", api.WriteOptions{IdempotencyKey: "k1"}); err != nil {
			t.Fatal(err)
		}
	}
	settled(1, 1)
	Eventually(t, func(ctx context.Context) error { // the last of them may be draining
		now, err := replicas(ctx, c, "READY")
		for id := range now {
			if _, kept := old[id]; kept {
				err = fmt.Errorf("%s was not restarted", id)
			}
		}
		return err
	})
	if _, err := c.PutServer(t.Context(), "echo", []byte(`{"command":["echo"],"replicas":2,"drain_timeout":"5s","env":{"A":"b"}}`), api.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	settled(2, 1)
	if _, err := c.Rollback(t.Context(), "echo", 0, api.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	settled(1, 1)
	if _, err := c.Drain(t.Context(), "w1", time.Minute, api.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	Eventually(t, func(ctx context.Context) error {
		ready, err := replicas(ctx, c, "READY")
		if n := len(c.Worker("w1").Runtime.Alive()); err != nil || n > 0 || len(ready) != 2 {
			return fmt.Errorf("%d alive on the drained node, %d READY, %w", n, len(ready), err)
		}
		return nil
	})
	select {
	case err := <-failed:
		t.Errorf("a call failed: %v", err)
	default:
	}
}

// TestBackoffSurvivesFailover: a server that cannot start is not hammered
// because the leader changed.
func TestBackoffSurvivesFailover(t *testing.T) {
	c := Start(t, Options{Controllers: 3, File: "servers: {}\n", Patient: true})
	w := c.StartWorker("w1")
	w.Runtime.Handle("echo", agenttest.Echo{ExitAtOnce: 3}.Serve)
	c.Leader()
	if _, err := c.PutServer(t.Context(), "echo", []byte(`{"command":["echo"]}`), api.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	ended := func(ctx context.Context) (n int, err error) {
		for _, name := range strings.Fields(threeNames) {
			one := c.Controller(fleet.NodeID(name))
			if one.process.stopped() {
				continue
			}
			s, err := one.GetServer(ctx, "echo", api.ReadOptions{Stale: true}) // whoever leads
			return len(s.LastEnded), err
		}
		return 0, errors.New("no controller runs")
	}
	Eventually(t, func(ctx context.Context) error { // waits of 1.6 s and more from now on
		n, err := ended(ctx)
		if err == nil && n < 5 {
			err = fmt.Errorf("%d ended", n)
		}
		return err
	})
	leader := c.Leader()
	before := time.Now()
	was, err := ended(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.StopController(leader)
	c.Leader()
	Eventually(t, func(ctx context.Context) error { // it goes on trying
		n, err := ended(ctx)
		if err == nil && n <= was {
			err = fmt.Errorf("%d ended, as before", n)
		}
		return err
	})
	now, err := ended(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// From 100 ms on five starts would take less than two seconds; from where
	// it was, each takes longer than that.
	if took := time.Since(before); now-was > 1+int(took/time.Second) {
		t.Errorf("%d starts in %v after the failover: the back-off began anew", now-was, took)
	}
}
