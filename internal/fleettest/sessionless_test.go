package fleettest

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// A server that speaks the modern era only needs no sessions: with sessions: session it
// runs as a shared one, for clients of both eras and for REST. If the next revision has
// sessions, they get replicas.
func TestModernServerNeedsNoSessions(t *testing.T) {
	c := Start(t, Options{Controllers: 2, File: sessionFile(1, "    max_sessions: 2\n    update: {min_ready: 0s}\n")})
	c.StartWorker("w1").Runtime.Handle("echo", agenttest.Echo{Era: agenttest.Modern}.Serve)
	c.AwaitReady(1)
	var s api.Server
	Eventually(t, func(ctx context.Context) error {
		list, err := c.Servers(ctx)
		if err != nil || len(list) != 1 {
			return fmt.Errorf("%d servers, %w", len(list), err)
		}
		if s = list[0]; s.State != fleet.StateReady || s.Ready != 1 || s.Spares != 1 || s.Rollout != nil {
			return fmt.Errorf("%s, %d ready, %d spares: %s", s.State, s.Ready, s.Spares, s.Reason)
		}
		return nil
	})
	if s.Era != fleet.EraModern || s.Desired != 1 || s.Sessions != nil || !strings.Contains(s.Reason, "remove sessions") {
		t.Errorf("the server is shown as %+v", s)
	}
	replica := ""
	for range 3 { // more than max_sessions
		m := c.begun(t, "c1")
		if got := m.whoami(c.Controller("c2")); replica != "" && got != replica {
			t.Errorf("sessions are at %s and %s", replica, got)
		} else {
			replica = got
		}
	}
	if status, answer := c.modern(t, "c2", "whoami", ""); status != http.StatusOK || !strings.Contains(answer, replica) {
		t.Errorf("a modern client: %d %s", status, answer)
	}
	resp, err := c.Controller("c2").Call(t.Context(), "echo", api.CallRequest{ToolName: "whoami", ToolArgs: args(`{}`)})
	if err != nil || text(t, resp) != replica {
		t.Errorf("a call by REST: %+v, %v", resp, err)
	}

	c.Worker("w1").Runtime.Handle("echo", agenttest.Echo{}.Serve)
	c.Deploy(sessionFile(1, "    max_sessions: 2\n    update: {min_ready: 0s}\n    env: {REVISION: \"2\"}\n"))
	c.awaitOwners(0, 1)
	c.begun(t, "c1")
	c.begun(t, "c2")
	if status, answer := (&mcpClient{t: t}).begin(c.Controller("c1")); status != http.StatusServiceUnavailable {
		t.Errorf("a third session of a legacy revision: %d %s", status, answer)
	}
}
