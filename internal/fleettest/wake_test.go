package fleettest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// idleFile is a fleet file with servers that scale to zero a moment after their last
// call.
func idleFile(more string, names ...string) string {
	var b strings.Builder
	b.WriteString("servers:\n")
	for _, name := range names {
		fmt.Fprintf(&b, "  %s:\n    command: [%s]\n    drain_timeout: 5s\n    default_tool: whoami\n", name, name)
		b.WriteString("    autoscaling: {min_replicas: 0, max_replicas: 3, look_back_period_s: 1, downscale_delay_s: 0.5, downscale_to_zero_delay_s: 1}\n")
	}
	return b.String() + more
}

// starts counts the starts of a server, which then runs fn.
func starts(w *Worker, name fleet.ServerName, fn agenttest.Server) *atomic.Int32 {
	n := new(atomic.Int32)
	w.Runtime.Handle(name, func(ctx context.Context, s *agenttest.Stdio) int {
		n.Add(1)
		return fn(ctx, s)
	})
	return n
}

// awaitState waits until a controller shows a server in a state, and returns the
// server.
func awaitState(t *testing.T, c *api.Client, name fleet.ServerName, state fleet.State) (server api.Server) {
	t.Helper()
	Eventually(t, func(ctx context.Context) error {
		ready, err := c.Ready(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(ready.Servers, func(s api.ServerReady) bool { return s.Name == name })
		if i < 0 || ready.Servers[i].State != state {
			return fmt.Errorf("want %s %s, got %+v", name, state, ready)
		}
		server, err = c.GetServer(ctx, name, api.ReadOptions{})
		if err == nil && server.State != state {
			err = fmt.Errorf("want %s %s, the leader shows %s", name, state, server.State)
		}
		return err
	})
	return server
}

// awaitIdle waits until all controllers show a server as idle.
func awaitIdle(t *testing.T, c *Cluster, name fleet.ServerName) {
	for _, controller := range []fleet.NodeID{"c1", "c2", "c3"} {
		awaitState(t, c.Controller(controller).Client, name, fleet.StateIdle)
	}
}

// A call that comes through a follower wakes an idle server, whether or not it ever
// ran. Idle it counts as ready, keeps its tools listed, and is not taken for one that
// was stopped by hand.
func TestCallWakesAnIdleServer(t *testing.T) {
	c := Start(t, Options{Controllers: 3, Patient: true, File: idleFile("", "echo")})
	started := starts(c.StartWorker("w1"), "echo", agenttest.Echo{}.Serve)
	c.AwaitReady(1)
	follower := c.Controller(others(c.Leader())[0])
	if s := awaitState(t, follower.Client, "echo", fleet.StateIdle); s.Desired != 0 || s.Reason != "idle: a call starts it" {
		t.Errorf("before its first call: %+v", s)
	}
	if n := started.Load(); n != 0 {
		t.Errorf("started %d times before its first call", n)
	}
	for range 2 {
		before, began := started.Load(), time.Now()
		got, err := follower.Call(t.Context(), "", api.CallRequest{ToolName: "echo", ToolArgs: args(`{"text":"hello"}`)})
		if err != nil {
			t.Fatalf("call to the idle server: %v", err)
		}
		t.Logf("woken within %v", time.Since(began))
		if text(t, got) != "hello" || started.Load() != before+1 {
			t.Errorf("got %s after %d starts, want one", got, started.Load()-before)
		}
		idle := awaitState(t, follower.Client, "echo", fleet.StateIdle)
		if idle.Desired != 0 || !strings.HasPrefix(idle.Reason, "idle: a call starts it") {
			t.Errorf("after its calls: %+v", idle)
		}
		ready, err := follower.Ready(t.Context())
		if err != nil || !ready.Ready {
			t.Errorf("while it is idle: ready %+v, %v", ready, err)
		}
		tools, err := follower.Tools(t.Context(), "")
		if err != nil || len(tools.Tools) == 0 || len(tools.Unavailable) > 0 {
			t.Errorf("while it is idle: tools %+v, %v", tools, err)
		}
		Eventually(t, func(context.Context) error {
			if n := c.Alive(); n > 0 {
				return fmt.Errorf("%d replicas are left", n)
			}
			return nil
		})
	}

	c.Deploy("servers:\n  echo: {command: [echo], replicas: 0}\n")
	if s := awaitState(t, follower.Client, "echo", fleet.StateStopped); s.Reason != "stopped by hand: replicas is 0" {
		t.Errorf("stopped by hand: %+v", s)
	}
	Eventually(t, func(ctx context.Context) error {
		_, err := follower.Call(ctx, "", api.CallRequest{ToolName: "echo", ToolArgs: args(`{}`)})
		if refused, ok := errors.AsType[*api.Error](err); !ok || refused.Code != api.CodeStopped {
			return fmt.Errorf("a call got %w, want that the server is stopped", err)
		}
		tools, err := follower.Tools(ctx, "")
		if err == nil && len(tools.Tools) > 0 {
			err = fmt.Errorf("%d of its tools are listed", len(tools.Tools))
		}
		return err
	})
}

// A server that never ran, so that nobody knows its tools, is woken by whatever names
// it, and the name is resolved then.
func TestWhateverNamesANeverRunServerWakesIt(t *testing.T) {
	names := []string{"path", "prefix", "main", "listed", "typo", "none"}
	c := Start(t, Options{Controllers: 3, Patient: true, File: idleFile("default_server: main\n", names...)})
	w := c.StartWorker("w1")
	started := make(map[string]*atomic.Int32)
	for _, name := range names {
		started[name] = starts(w, fleet.ServerName(name), agenttest.Echo{}.Serve)
	}
	c.AwaitReady(1)
	follower := c.Controller(others(c.Leader())[0])
	awaitState(t, follower.Client, "none", fleet.StateIdle)

	tools, err := follower.Tools(t.Context(), "")
	if err != nil || len(tools.Tools) > 0 || len(tools.Unavailable) != len(names) || tools.Unavailable[0].Reason != "idle: a call starts it" {
		t.Errorf("tools while nothing is known: %+v, %v", tools, err)
	}
	call := func(server fleet.ServerName, tool string) error {
		_, err := follower.Call(t.Context(), fleet.Scope(server), api.CallRequest{ToolName: tool, ToolArgs: args(`{"text":"x"}`)})
		return err
	}
	if err := call("path", "echo"); err != nil {
		t.Errorf("at its path: %v", err)
	}
	if err := call("", "prefix__echo"); err != nil {
		t.Errorf("with its name in front: %v", err)
	}
	if err := call("", ""); err != nil {
		t.Errorf("the default tool of the default server: %v", err)
	}
	if tools, err := follower.Tools(t.Context(), "listed"); err != nil || len(tools.Tools) == 0 {
		t.Errorf("the list of its tools: %+v, %v", tools, err)
	}
	if refused, ok := errors.AsType[*api.Error](call("", "typo__ecko")); !ok || refused.Status != http.StatusNotFound || !strings.Contains(refused.Detail, `"echo"`) {
		t.Errorf("a tool that it does not have: %v", refused)
	}
	for name, n := range started {
		if want := int32(1); name == "none" {
			if n.Load() != 0 {
				t.Errorf("a server that nobody named was started %d times", n.Load())
			}
		} else if n.Load() != want {
			t.Errorf("%s was started %d times, want %d", name, n.Load(), want)
		}
	}
	if tools, err := follower.Tools(t.Context(), ""); err != nil || len(tools.Unavailable) != 1 || tools.Unavailable[0].Server != "none" {
		t.Errorf("tools at last: %+v, %v", tools.Unavailable, err)
	}
}

// A call that waits while nobody leads wakes its server once there is a leader.
func TestWishToWakeOutlivesTheLeader(t *testing.T) {
	c := Start(t, Options{Controllers: 3, File: idleFile("", "echo")})
	started := starts(c.StartWorker("w1"), "echo", agenttest.Echo{}.Serve)
	c.AwaitReady(1)
	for range 2 {
		leader := c.Leader()
		follower := c.Controller(others(leader)[0])
		awaitState(t, follower.Client, "echo", fleet.StateIdle)
		before := started.Load()
		c.StopController(leader)
		if _, err := follower.Call(t.Context(), "", api.CallRequest{ToolName: "echo", ToolArgs: args(`{}`)}); err != nil {
			t.Fatalf("call while the leader has gone: %v", err)
		}
		if n := started.Load() - before; n != 1 {
			t.Errorf("started %d times", n)
		}
		c.StartController(leader)
	}
}

// A hundred calls at once, through all controllers, start as many replicas as the
// policy says, and all are answered.
func TestHundredCallsAtOnceStartFewReplicas(t *testing.T) {
	c := Start(t, Options{Controllers: 3, Patient: true, File: idleFile("", "echo")})
	started := starts(c.StartWorker("w1"), "echo", agenttest.Echo{}.Serve)
	c.AwaitReady(1)
	awaitIdle(t, c, "echo")
	errs := hundredCalls(c, t.Context())
	for _, err := range errs {
		if err != nil {
			t.Errorf("call: %v", err)
		}
	}
	if n := started.Load(); n < 1 || n > 3 {
		t.Errorf("%d replicas were started, and max_replicas is 3", n)
	}
}

// hundredCalls makes a hundred calls at once, and returns how they ended.
func hundredCalls(c *Cluster, ctx context.Context) []error {
	errs := make([]error, 100)
	var calls sync.WaitGroup
	for i := range errs {
		client := c.Controller(fleet.NodeID(fmt.Sprintf("c%d", 1+i%3))).Client
		calls.Go(func() {
			_, errs[i] = client.Call(ctx, "", api.CallRequest{ToolName: "slow", ToolArgs: args(`{"ms":50}`)})
		})
	}
	calls.Wait()
	return errs
}

// A server that cannot start answers all that wait with the reason, after few starts.
// Further calls get it at once, and a later one makes the leader try again.
func TestServerThatCannotStartAnswersItsQueue(t *testing.T) {
	c := Start(t, Options{Controllers: 3, Patient: true, File: idleFile("", "echo")})
	var failedAt atomic.Int64
	var mended atomic.Bool
	started := starts(c.StartWorker("w1"), "echo", func(ctx context.Context, s *agenttest.Stdio) int {
		if mended.Load() {
			return agenttest.Echo{}.Serve(ctx, s)
		}
		time.Sleep(300 * time.Millisecond)
		failedAt.CompareAndSwap(0, time.Now().UnixNano())
		return agenttest.Echo{ExitAtOnce: 3, Complaint: "no key\n"}.Serve(ctx, s)
	})
	c.AwaitReady(1)
	awaitIdle(t, c, "echo")
	refused := func(err error) bool {
		refused, ok := errors.AsType[*api.Error](err)
		return ok && refused.Code == api.CodeNoReplica && strings.Contains(refused.Detail, "exit code 3") && strings.Contains(refused.Detail, "no key")
	}
	errs := hundredCalls(c, t.Context())
	after := time.Since(time.Unix(0, failedAt.Load()))
	n := started.Load()
	t.Logf("all answered %v after the failure, after %d starts", after, n)
	for _, err := range errs {
		if !refused(err) {
			t.Fatalf("a call that waited got %v", err)
		}
	}
	if after > 2*time.Second || n >= 5 {
		t.Errorf("all were answered %v after the failure and %d starts", after, n)
	}
	began := time.Now()
	if _, err := c.Call(t.Context(), "", api.CallRequest{ToolName: "echo", ToolArgs: args(`{}`)}); !refused(err) {
		t.Errorf("the next call got %v", err)
	}
	t.Logf("the next call was answered after %v", time.Since(began))
	mended.Store(true)
	began = time.Now()
	Eventually(t, func(ctx context.Context) error {
		_, err := c.Call(ctx, "", api.CallRequest{ToolName: "echo", ToolArgs: args(`{}`)})
		return err
	})
	t.Logf("mended, it answers after %v and %d starts", time.Since(began), started.Load())
}
