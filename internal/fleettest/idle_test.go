package fleettest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/api"
)

// shortLived is a server that ends with code 0 after some seconds.
func shortLived(ctx context.Context, s *agenttest.Stdio) int {
	ctx, end := context.WithTimeout(ctx, 2500*time.Millisecond)
	defer end()
	agenttest.Echo{}.Serve(ctx, s)
	return 0
}

// While a server rests as nobody called it, the fleet is ready and lists its
// tools. A call that comes through a controller that does not lead wakes it.
func TestCallWakesThroughAFollower(t *testing.T) {
	c := Start(t, Options{Controllers: 3, File: echoFile(1, "")})
	c.StartWorker("w1").Runtime.Handle("echo", shortLived)
	c.AwaitReady(1)
	leader := c.Leader()
	follower := c.Controller(others(leader)[0])
	Eventually(t, func(ctx context.Context) error {
		ready, err := follower.Ready(ctx)
		if err != nil {
			return err
		}
		if len(ready.Servers) != 1 || ready.Servers[0].State != "IDLE" {
			return fmt.Errorf("it does not rest: %+v", ready)
		}
		if !ready.Ready {
			return fmt.Errorf("it rests, and the fleet is not ready: %+v", ready)
		}
		tools, err := follower.Tools(ctx, "")
		if err != nil {
			return fmt.Errorf("list its tools while it rests: %w", err)
		}
		if len(tools.Tools) == 0 {
			return errors.New("it rests, and its tools are not listed")
		}
		if _, err := follower.Call(ctx, "echo", api.CallRequest{ToolName: "whoami", ToolArgs: args(`{}`)}); err != nil {
			return fmt.Errorf("call while it rests: %w", err)
		}
		resp, err := http.Get("http://" + c.Controller(leader).Addresses.HTTP + "/metrics")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		metrics, err := io.ReadAll(resp.Body)
		if err == nil && !strings.Contains(string(metrics), `mcpfleet_http_requests_total{route="/api/v1/servers/{name}/wake",status="202"}`) {
			err = errors.New("the leader was not told: it did not rest any more, perhaps")
		}
		return err
	})
}
