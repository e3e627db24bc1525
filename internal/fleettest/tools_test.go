package fleettest

import (
	"context"
	"fmt"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// A tool that one replica of three lists is called there, by its name at the
// server's path and at the root.
func TestToolOfOneReplica(t *testing.T) {
	c := Start(t, Options{Workers: 3, File: echoFile(3, "")})
	c.AwaitReady(3)
	if _, err := c.Call(t.Context(), "echo", api.CallRequest{ToolName: "grow", ToolArgs: args(`{"name":"novelty"}`)}); err != nil {
		t.Fatal(err)
	}
	Eventually(t, func(ctx context.Context) error {
		_, err := c.Call(ctx, "echo", api.CallRequest{ToolName: "novelty", ToolArgs: args(`{}`)})
		return err
	})
	seen := make(map[string]int)
	for i := range 20 {
		got, err := c.Call(t.Context(), []fleet.Scope{"", "echo"}[i%2], api.CallRequest{ToolName: "novelty", ToolArgs: args(`{}`)})
		if err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
		seen[text(t, got)]++
		if _, err := c.Call(t.Context(), "echo", api.CallRequest{ToolName: "whoami", ToolArgs: args(`{}`)}); err != nil {
			t.Error(err)
		}
	}
	if len(seen) != 1 {
		t.Errorf("answered by %v, want by the one replica that lists it", fmt.Sprint(seen))
	}
}
