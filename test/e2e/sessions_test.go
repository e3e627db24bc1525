//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

// mcpSession is a session of a legacy MCP client at one server.
type mcpSession struct {
	t   testing.TB
	url string
	id  string
}

// begin begins a session at a server.
func (c *Cluster) begin(server string) *mcpSession {
	c.t.Helper()
	return beginAt(c.t, c.Controller, server)
}

// beginAt begins a session at a server, through one controller.
func beginAt(t testing.TB, controller *harness.Process, server string) *mcpSession {
	t.Helper()
	s := &mcpSession{t: t}
	s.through(controller, server)
	status, text := s.send(http.MethodPost, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
	if status != http.StatusOK || s.id == "" {
		t.Fatalf("initialize: %d %s", status, text)
	}
	return s
}

// through makes the session go on at a controller.
func (s *mcpSession) through(controller *harness.Process, server string) {
	s.url = fmt.Sprintf("http://%s/%s/mcp", controller.Addr.HTTP, server)
}

// send sends a message, or DELETE, and returns the answer.
func (s *mcpSession) send(method, body string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	if s.id != "" {
		req.Header.Set("Mcp-Session-Id", s.id)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if id := resp.Header.Get("Mcp-Session-Id"); id != "" {
		s.id = id
	}
	return resp.StatusCode, string(text)
}

// mustEcho calls a tool.
func (s *mcpSession) mustEcho() {
	s.t.Helper()
	status, text := s.send(http.MethodPost, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"echo","arguments":{"text":"hi","message":"hi"}}}`)
	var answer struct {
		Result struct{ Content []struct{ Text string } }
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil || len(answer.Result.Content) == 0 {
		s.t.Errorf("echo: %d %s", status, text)
	}
}

// awaitContainers waits until so many sessions and spares have a container each, on these
// workers, and no other container of the test is there.
func (c *Cluster) awaitContainers(sessions, spares int, on ...string) (containers []string) {
	c.t.Helper()
	harness.Eventually(c.t, 2*patience, func() error {
		all, err := c.Replicas(c.t.Context())
		if err != nil {
			return err
		}
		all = slices.DeleteFunc(all, func(r api.Replica) bool { // a lost one is known for a while
			return !slices.ContainsFunc(on, func(w string) bool { return string(r.Node) == c.Node(w) })
		})
		containers = containers[:0]
		owned, free := 0, 0
		for _, r := range all {
			switch {
			case r.Phase != "READY":
			case r.Session != "":
				owned++
			case r.Spare:
				free++
			}
			if r.ContainerID != nil {
				containers = append(containers, *r.ContainerID)
			}
		}
		if there := leftOf(nil, c.token); owned != sessions || free != spares || len(there) != sessions+spares {
			return fmt.Errorf("%d sessions, %d spares, want %d and %d; containers:\n  %s", owned, free, sessions, spares, strings.Join(there, "\n  "))
		}
		return nil
	})
	return containers
}

// Each session and each spare is one container, and none outlives its session, its worker
// or its server.
func TestContainersOfSessions(t *testing.T) {
	needPodman(t)
	t.Parallel()
	c := NewCluster(t, "podman")
	c.Fleet(`servers: { everything: { image: docker.io/mcp/everything, network: none, sessions: session, warm: 2 } }`)
	c.Start(2)
	c.awaitContainers(0, 2, "w1", "w2")
	sessions := []*mcpSession{c.begin("everything"), c.begin("everything"), c.begin("everything")}
	before := c.awaitContainers(3, 2, "w1", "w2")
	orphans := c.containersOn("w1")
	if len(orphans) == 0 {
		t.Fatal("w1 has no container")
	}

	c.Workers["w1"].Kill9()
	for _, s := range sessions {
		s.mustEcho()
	}
	c.StartWorker("w1")
	gone(t, "after the sweep", orphans)
	after := c.awaitContainers(3, 2, "w1", "w2")
	for _, id := range after {
		if slices.Contains(orphans, id) {
			t.Errorf("container %s has outlived its worker", id)
		}
	}
	if status, text := sessions[0].send(http.MethodDelete, ""); status != http.StatusNoContent {
		t.Errorf("DELETE: %d %s", status, text)
	}
	c.awaitContainers(2, 2, "w1", "w2")
	if status, _ := sessions[0].send(http.MethodPost, `{"jsonrpc":"2.0","id":3,"method":"ping"}`); status != http.StatusNotFound {
		t.Errorf("ping after DELETE: %d", status)
	}
	if _, err := c.Delete(t.Context(), "everything", writeAny); err != nil {
		t.Fatal(err)
	}
	gone(t, "after the server was removed", slices.Concat(before, after))
	harness.Eventually(t, patience, func() error {
		if left := leftOf(nil, c.token); len(left) > 0 {
			return fmt.Errorf("left behind:\n  %s", strings.Join(left, "\n  "))
		}
		return nil
	})
}

// A server that ends when it is asked for its era gets another process under the same
// replica: one container takes the place of the other.
func TestContainerOfAnotherEra(t *testing.T) {
	needPodman(t)
	image := smallImage(t) // removed after the cluster
	c := NewCluster(t, "podman")
	c.Fleet(`servers: { strict: {"image": %q, "args": ["-strict"], "network": "none", "env": {"TOKEN": %q}, "replicas": 2} }`, image, c.token)
	c.Start(1)
	if s := c.Server("strict"); s.Restarts != 0 || s.Era != "legacy" {
		t.Errorf("%d restarts, era %q", s.Restarts, s.Era)
	}
	if there := leftOf(nil, c.token); len(there) != 2 {
		t.Errorf("two replicas are:\n  %s", strings.Join(there, "\n  "))
	}
	if got := c.MustText("strict", "echo", `{"text":"hi"}`); got != "hi" {
		t.Errorf("echo returned %q", got)
	}
}
