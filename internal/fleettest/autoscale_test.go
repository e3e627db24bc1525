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

// autoFile is an idle server whose replicas follow its load quickly.
const autoFile = `
servers:
  echo:
    command: [echo]
    drain_timeout: 5s
    autoscaling: {min_replicas: 0, target_ongoing_requests: 2, look_back_period_s: 1, downscale_delay_s: 1}
`

// awaitTarget waits until the server has so many replicas, and wants no others.
func awaitTarget(t *testing.T, c *Cluster, want int) {
	t.Helper()
	Eventually(t, func(ctx context.Context) error {
		s, err := c.GetServer(ctx, "echo", api.ReadOptions{})
		if err != nil {
			return err
		}
		if s.Desired != want || s.Ready != want || c.Alive() != want {
			return fmt.Errorf("%d replicas are wanted, %d ready and %d alive, want %d", s.Desired, s.Ready, c.Alive(), want)
		}
		return nil
	})
}

// Twelve callers of an idle server get six replicas at a target of two, and none are
// left when they have gone. No call fails, through whichever controller it comes.
func TestReplicasFollowTheLoad(t *testing.T) {
	c := Start(t, Options{Controllers: 3, Workers: 2, Patient: true, File: autoFile})
	awaitTarget(t, c, 0)
	for _, name := range []fleet.NodeID{"c1", "c2", "c3"} {
		Eventually(t, func(ctx context.Context) error {
			r, err := c.Controller(name).Ready(ctx)
			if err == nil && (!r.Ready || len(r.Servers) == 0) {
				err = fmt.Errorf("%s is not ready, or does not know the server yet: %+v", name, r)
			}
			return err
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for i := range 12 {
		client := c.Controller(fleet.NodeID(fmt.Sprintf("c%d", 1+i%3))).Client
		callers.Go(func() {
			for ctx.Err() == nil {
				// Not safe to repeat, so that no retry hides a loss.
				if _, err := client.Call(t.Context(), "echo", api.CallRequest{ToolName: "slow", ToolArgs: args(`{"ms":400}`)}); err != nil {
					t.Errorf("call while the server scales: %v", err)
					return
				}
			}
		})
	}
	awaitTarget(t, c, 6)
	cancel()
	callers.Wait()
	awaitTarget(t, c, 0)
}

// A floor that a user sets holds without any call, and ends by itself.
func TestFloorEnds(t *testing.T) {
	c := Start(t, Options{Workers: 1, Patient: true, File: autoFile})
	awaitTarget(t, c, 0)
	began := time.Now()
	const ttl = 2 * time.Second
	if _, err := c.SetFloor(t.Context(), "echo", 3, ttl, api.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitTarget(t, c, 3)
	awaitTarget(t, c, 0)
	if took := time.Since(began); took < ttl {
		t.Errorf("the floor ended after %v, want %v at least", took, ttl)
	}
}
