package fleettest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

// Tools are switched off and on while the server runs on.
func TestToolsSwitchedOff(t *testing.T) {
	c := Start(t, Options{Workers: 1, File: echoFile(1, "    disabled_tools: [count]\n")})
	c.AwaitReady(1)
	before, err := replicas(t.Context(), c, "READY")
	if err != nil {
		t.Fatal(err)
	}
	offered := func(ctx context.Context) (names []string, err error) {
		tools, err := c.Tools(ctx, "echo")
		for _, tool := range tools.Tools {
			names = append(names, tool.Name)
		}
		return names, err
	}
	count := api.CallRequest{ToolName: "count", ToolArgs: args(`{"key":"a"}`)}
	unknown := func(ctx context.Context) error {
		_, err := c.Call(ctx, "echo", count)
		if answer, ok := errors.AsType[*api.Error](err); !ok || answer.Status != 404 || answer.Code != api.CodeUnknownTool {
			return fmt.Errorf("call of a tool that is off: %s", fmt.Sprint(err))
		}
		return nil
	}
	if names, err := offered(t.Context()); err != nil || slices.Contains(names, "count") || !slices.Contains(names, "echo") {
		t.Errorf("offered %v, %v", names, err)
	}
	if err := unknown(t.Context()); err != nil {
		t.Error(err)
	}

	c.Deploy(echoFile(1, ""))
	Eventually(t, func(ctx context.Context) error {
		_, err := c.Call(ctx, "echo", count)
		return err
	})
	c.Deploy(echoFile(1, "    enabled_tools: [echo]\n"))
	Eventually(t, unknown)
	if names, err := offered(t.Context()); err != nil || !slices.Equal(names, []string{"echo"}) {
		t.Errorf("offered %v, %v", names, err)
	}
	after, err := replicas(t.Context(), c, "READY")
	if err != nil || !slices.Equal(slices.Collect(maps.Keys(after)), slices.Collect(maps.Keys(before))) {
		t.Errorf("replicas were %v and are %v, %v", before, after, err)
	}
	if s, err := c.GetServer(t.Context(), "echo", api.ReadOptions{}); err != nil || s.Revision != 1 {
		t.Errorf("revision %d, %v", s.Revision, err)
	}
}
