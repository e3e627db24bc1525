package fleettest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// echoFile is a fleet file with one server; command is only a name here, since
// the runtime runs Go functions.
func echoFile(replicas int, more string) string {
	return fmt.Sprintf("servers:\n  echo:\n    command: [echo]\n    replicas: %d\n    drain_timeout: 5s\n%s", replicas, more)
}

func args(format string, a ...any) json.RawMessage { return json.RawMessage(fmt.Sprintf(format, a...)) }

// text takes the text out of a CallToolResult.
func text(t *testing.T, raw json.RawMessage) string {
	t.Helper()
	var r struct {
		Content []struct{ Text string }
	}
	if err := json.Unmarshal(raw, &r); err != nil || len(r.Content) != 1 {
		t.Fatalf("result %s: %v", raw, err)
	}
	return r.Content[0].Text
}

// replicas returns those of a server in a phase, by id.
func replicas(ctx context.Context, c *Cluster, phase string) (map[fleet.ReplicaID]api.Replica, error) {
	list, err := c.Replicas(ctx)
	if err != nil {
		return nil, err
	}
	out := make(map[fleet.ReplicaID]api.Replica)
	for _, r := range list {
		if r.Phase == phase {
			out[r.ID] = r
		}
	}
	return out, nil
}

func TestServesSpreadOverWorkers(t *testing.T) {
	c := Start(t, Options{Workers: 3, File: echoFile(3, "    default_tool: echo\n")})
	c.AwaitReady(3)

	ready, err := replicas(t.Context(), c, "READY")
	if err != nil {
		t.Fatal(err)
	}
	nodes := make(map[fleet.NodeID]int)
	for _, r := range ready {
		nodes[r.Node]++
	}
	if len(ready) != 3 || len(nodes) != 3 {
		t.Errorf("replicas by node: %v, want one on each of three", nodes)
	}
	tools, err := c.Tools(t.Context(), "")
	if err != nil || len(tools.Tools) == 0 || tools.Tools[0].Name != "echo" {
		t.Errorf("tools: %+v, %v", tools, err)
	}
	got, err := c.Call(t.Context(), "", api.CallRequest{ToolArgs: args(`{"text":"hello"}`)}) // the default tool
	if err != nil {
		t.Fatal(err)
	}
	if got := text(t, got); got != "hello" {
		t.Errorf("got %q, want hello", got)
	}
}

func TestUpdateFailsNoCall(t *testing.T) {
	c := Start(t, Options{Workers: 2, File: echoFile(3, "")})
	c.AwaitReady(2)
	before, err := replicas(t.Context(), c, "READY")
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				// Not read-only, so that no retry hides a loss.
				_, err := c.Call(ctx, "echo", api.CallRequest{ToolName: "count", ToolArgs: args(`{"key":"%d-%d"}`, i, n)})
				if err != nil && ctx.Err() == nil {
					t.Errorf("call during an update: %v", err)
					return
				}
			}
		})
	}
	c.Deploy(echoFile(3, "    env: {VERSION: two}\n"))
	Eventually(t, func(ctx context.Context) error {
		now, err := replicas(ctx, c, "READY")
		if err != nil {
			return err
		}
		for id, r := range now {
			if r.Revision != 2 {
				return fmt.Errorf("%s is of revision %d", id, r.Revision)
			}
		}
		if n := c.Alive(); n != 3 || len(now) != 3 {
			return fmt.Errorf("%d READY, %d alive", len(now), n)
		}
		return nil
	})
	cancel()
	callers.Wait()

	now, err := replicas(t.Context(), c, "READY")
	if err != nil {
		t.Fatal(err)
	}
	for id := range now {
		if _, old := before[id]; old {
			t.Errorf("replica %s survived the update", id)
		}
	}
}

func TestSameSpecKeepsReplicasAndCountsApplyInPlace(t *testing.T) {
	c := Start(t, Options{Workers: 2, File: echoFile(2, "")})
	c.AwaitReady(2)
	before, err := replicas(t.Context(), c, "READY")
	if err != nil {
		t.Fatal(err)
	}
	c.Deploy(echoFile(4, "    call_timeout: 5s\n"))
	Eventually(t, func(ctx context.Context) error {
		now, err := replicas(ctx, c, "READY")
		if err == nil && len(now) != 4 {
			err = fmt.Errorf("%d READY, want 4", len(now))
		}
		for id := range before {
			if _, kept := now[id]; err == nil && !kept {
				t.Fatalf("replica %s was replaced", id)
			}
		}
		return err
	})
	c.Deploy("servers: {echo: {command: [echo], replicas: -1}}")
	c.Deploy(echoFile(1, "")) // read after the bad one, which changed nothing
	Eventually(t, func(context.Context) error {
		if n := c.Alive(); n != 1 {
			return fmt.Errorf("%d alive, want 1", n)
		}
		return nil
	})
	servers, err := c.Servers(t.Context())
	if err != nil || len(servers) != 1 || servers[0].Revision != 1 {
		t.Errorf("servers %+v, %v; want revision 1", servers, err)
	}
}

func TestControllerRestartAdoptsReplicas(t *testing.T) {
	c := Start(t, Options{Workers: 3, File: echoFile(3, "")})
	c.AwaitReady(3)
	before, err := replicas(t.Context(), c, "READY")
	if err != nil {
		t.Fatal(err)
	}
	c.StopController("c1")
	c.StartController("c1")
	c.AwaitReady(3)
	after, err := replicas(t.Context(), c, "READY")
	if err != nil {
		t.Fatal(err)
	}
	for id := range before {
		if _, kept := after[id]; !kept {
			t.Errorf("replica %s was not adopted: %v", id, after)
		}
	}
	if len(after) != 3 || c.Alive() != 3 {
		t.Errorf("%d READY and %d alive, want 3", len(after), c.Alive())
	}
}

func TestWorkerReturnsAndGetsWork(t *testing.T) {
	c := Start(t, Options{Workers: 2, File: echoFile(4, "    max_replicas_per_node: 2\n")})
	c.AwaitReady(2)
	c.KillWorker("w1")
	Eventually(t, func(ctx context.Context) error {
		servers, err := c.Servers(ctx)
		if err == nil && (len(servers) != 1 || servers[0].Ready != 2 || !strings.Contains(servers[0].Reason, "no node fits")) {
			err = fmt.Errorf("servers: %+v, want 2 ready and a reason", servers)
		}
		return err
	})
	c.StartWorker("w1")
	Eventually(t, func(context.Context) error {
		if n := c.Alive(); n != 4 {
			return fmt.Errorf("%d alive, want 4", n)
		}
		return nil
	})
}

func TestUnhealthyReplicaIsReplacedFirst(t *testing.T) {
	c := Start(t, Options{Workers: 1, File: echoFile(1, "    health: {period: 200ms, timeout: 200ms, failures: 2}\n    call_timeout: 500ms\n")})
	c.AwaitReady(1)
	before, err := replicas(t.Context(), c, "READY")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Call(t.Context(), "echo", api.CallRequest{ToolName: "freeze", ToolArgs: args(`{}`)})
	if e := new(api.Error); !errors.As(err, &e) || e.Status != http.StatusGatewayTimeout {
		t.Fatalf("call of a tool that freezes its server: %v, want 504", err)
	}
	Eventually(t, func(ctx context.Context) error {
		now, err := replicas(ctx, c, "READY")
		if err != nil {
			return err
		}
		for id := range now {
			if _, old := before[id]; !old && c.Alive() == 1 {
				return nil
			}
		}
		return fmt.Errorf("READY: %v, %d alive", now, c.Alive())
	})
	if _, err := c.Call(t.Context(), "echo", api.CallRequest{ToolName: "echo", ToolArgs: args(`{"text":"x"}`)}); err != nil {
		t.Error(err)
	}
}

func TestServerThatCannotStartSaysWhy(t *testing.T) {
	c := Start(t, Options{File: echoFile(3, "")})
	w := c.StartWorker("w1")
	w.Runtime.Handle("echo", agenttest.Echo{Complaint: "no key given", ExitAtOnce: 3}.Serve)
	Eventually(t, func(ctx context.Context) error {
		ready, err := c.Ready(ctx)
		if err != nil || !ready.Ready {
			return fmt.Errorf("ready: %+v, %w; want it settled as unable to start", ready, err)
		}
		return nil
	})
	servers, err := c.Servers(t.Context())
	if err != nil || servers[0].State != fleet.StateUnavailable || !strings.Contains(servers[0].Reason, "no key given") {
		t.Errorf("servers: %+v, %v; want UNAVAILABLE with the stderr", servers, err)
	}
	_, err = c.Call(t.Context(), "echo", api.CallRequest{ToolName: "echo", ToolArgs: args(`{}`)})
	if e := new(api.Error); !errors.As(err, &e) || e.Status != http.StatusServiceUnavailable {
		t.Errorf("call: %v, want 503 at once", err)
	}
}

// TestKills calls with unique texts while replicas and workers are killed: no
// wrong answer, none past its deadline, and no failure of a read-only tool.
func TestKills(t *testing.T) {
	const callers, timeout = 32, 20 * time.Second
	c := Start(t, Options{Workers: 3, File: echoFile(6, "    call_timeout: 20s\n")})
	c.AwaitReady(3)

	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var calls [callers]int
	for i := range callers {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				want := fmt.Sprintf("caller %d call %d", i, n)
				start := time.Now()
				got, err := c.Call(context.WithoutCancel(ctx), "echo", api.CallRequest{ToolName: "echo", ToolArgs: args(`{"text":%q}`, want)})
				switch took := time.Since(start); {
				case err != nil:
					t.Errorf("%s: %v", want, err)
					return
				case text(t, got) != want:
					t.Errorf("got %s, want %q", got, want)
					return
				case took > timeout+time.Second:
					t.Errorf("%s took %s", want, took)
				}
				calls[i]++
			}
		})
	}
	for round := range 8 {
		ready, err := replicas(t.Context(), c, "READY")
		if err != nil {
			t.Fatal(err)
		}
		for id := range ready { // any one
			c.KillReplica(id)
			break
		}
		switch round {
		case 3:
			c.KillWorker("w2")
		case 6:
			c.StartWorker("w2")
		}
		// The next kill comes when the fleet has noticed this one and calls go on.
		Eventually(t, func(ctx context.Context) error {
			servers, err := c.Servers(ctx)
			if err == nil && servers[0].Ready < 3 {
				err = fmt.Errorf("%d ready", servers[0].Ready)
			}
			return err
		})
	}
	c.AwaitReady(3)
	cancel()
	wg.Wait()
	for i, n := range calls {
		if n == 0 {
			t.Errorf("caller %d was never answered", i)
		}
	}
	// The controller may still take the last one that was killed for READY.
	Eventually(t, func(context.Context) error {
		if n := c.Alive(); n != 6 {
			return fmt.Errorf("%d alive, want 6", n)
		}
		return nil
	})
}
