package fleettest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// A worker that is told to stop finishes what it took, refuses the rest in a
// way that lets it go elsewhere, and takes no call down with it.
func TestWorkerStopFailsNoCall(t *testing.T) {
	c := Start(t, Options{Workers: 2, File: echoFile(4, ""), Patient: true})
	c.AwaitReady(2)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var callers sync.WaitGroup
	var calls atomic.Int64
	for i := range 8 {
		callers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				// Not read-only, so that no retry hides a loss.
				_, err := c.Call(ctx, "echo", api.CallRequest{ToolName: "count", ToolArgs: args(`{"key":"%d-%d"}`, i, n)})
				if err != nil && ctx.Err() == nil {
					t.Errorf("call while a worker stopped: %v", err)
					return
				}
				calls.Add(1)
			}
		})
	}
	for round := range 4 {
		node := fleet.NodeID(fmt.Sprintf("w%d", 1+round%2))
		c.StopWorker(node)
		c.StartWorker(node)
		served := calls.Load()
		Eventually(t, func(ctx context.Context) error {
			ready, err := replicas(ctx, c, "READY")
			if err != nil {
				return err
			}
			if n := calls.Load(); len(ready) != 4 || n < served+100 {
				return fmt.Errorf("%d READY, %d calls since the stop", len(ready), n-served)
			}
			return nil
		})
	}
	cancel()
	callers.Wait()
}

// A worker that is stopped while a controller watches it, and none leads, waits
// for nobody to move its replicas.
func TestWorkerStopsWithoutALeader(t *testing.T) {
	const drain = time.Minute
	c := Start(t, Options{Controllers: 3, Workers: 1, File: echoFile(2, ""), DrainTimeout: drain})
	c.AwaitReady(1)
	leader := c.Leader()
	last := others(leader)[1]
	c.StopController(leader)
	c.StopController(others(leader)[0])
	Eventually(t, func(ctx context.Context) error {
		list, err := c.Controller(last).Controllers(ctx)
		for _, one := range list.Controllers {
			if one.Leader {
				return fmt.Errorf("%s leads", one.Name)
			}
		}
		return err
	})
	begun := time.Now()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		c.StopWorker("w1")
	}()
	Eventually(t, func(ctx context.Context) error {
		nodes, err := c.Controller(last).Nodes(ctx)
		if err != nil {
			return err
		}
		for _, n := range nodes {
			if n.Name == "w1" && n.State == api.NodeDraining {
				return nil
			}
		}
		return fmt.Errorf("w1 does not drain: %+v", nodes)
	})
	if _, err := c.Controller(last).Call(t.Context(), "echo", api.CallRequest{ToolName: "echo", ToolArgs: args(`{"text":"x"}`)}); err != nil {
		t.Errorf("a call while it drains: %v", err)
	}
	<-stopped
	took := time.Since(begun)
	t.Logf("it stopped after %v", took.Round(time.Millisecond))
	if took > drain/2 {
		t.Errorf("it stopped after %v", took)
	}
}

// Every call that still waits when the drain timeout is over gets an answer.
func TestControllerStopAnswersEveryCall(t *testing.T) {
	c := Start(t, Options{Workers: 1, File: echoFile(1, "")})
	c.AwaitReady(1)
	answered := make(chan error, 1)
	go func() {
		_, err := c.Call(t.Context(), "echo", api.CallRequest{ToolName: "hang", ToolArgs: args(`{}`)})
		answered <- err
	}()
	Eventually(t, func(ctx context.Context) error {
		ready, err := replicas(ctx, c, "READY")
		if err != nil {
			return err
		}
		for _, r := range ready {
			if r.Ongoing > 0 {
				return nil
			}
		}
		return errors.New("the call is not under way")
	})
	begun := time.Now()
	c.StopController("c1")
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("the controller stopped after %v", took)
	}
	var e *api.Error
	if err := <-answered; !errors.As(err, &e) || e.Status != 502 || e.Code != api.CodeReplicaLost {
		t.Errorf("the call gave %v, want to be told that it was given up", err)
	}
}
