package fleettest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// While replicas are taken away under load no call fails, through whichever
// controller it comes: a draining replica finishes its calls, and those that still
// come to it are sent elsewhere.
func TestScaleDownFailsNoCall(t *testing.T) {
	c := Start(t, Options{Controllers: 3, Workers: 2, Patient: true, File: echoFile(5, "    max_ongoing_requests: 4\n    max_queued_requests: 200\n")})
	c.AwaitReady(2)
	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	answered := make(chan struct{}, 10_000)
	for i := range 24 {
		client := c.Controller(fleet.NodeID(fmt.Sprintf("c%d", 1+i%3))).Client
		callers.Go(func() {
			for n := i; ctx.Err() == nil; n++ {
				// Not safe to repeat, so that no retry hides a loss.
				_, err := client.Call(ctx, "echo", api.CallRequest{ToolName: "slow", ToolArgs: args(`{"ms":%d}`, 5+n%7*30)})
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					t.Errorf("call while the server is scaled down: %v", err)
					return
				}
				answered <- struct{}{}
			}
		})
	}
	await := func(n int) {
		for range n {
			select {
			case <-answered:
			case <-time.After(time.Minute):
				t.Fatal("calls are no longer answered")
			}
		}
	}
	await(50)
	for _, replicas := range []int{1, 5, 1} {
		if _, err := c.Scale(t.Context(), "echo", replicas, api.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		Eventually(t, func(ctx context.Context) error {
			if n := c.Alive(); n != replicas {
				return fmt.Errorf("%d replicas are alive, want %d", n, replicas)
			}
			return nil
		})
		await(50)
	}
	cancel()
	callers.Wait()
}
