package fleettest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// sessionFile has a server whose sessions have replicas to themselves.
func sessionFile(warm int, more string) string {
	return fmt.Sprintf("servers:\n  echo:\n    command: [echo]\n    sessions: session\n    warm: %d\n    drain_timeout: 5s\n%s", warm, more)
}

// opened opens a session at a controller.
func (c *Cluster) opened(t *testing.T, at fleet.NodeID, id fleet.SessionID) fleet.SessionGiven {
	t.Helper()
	given, err := c.open(at, id)
	if err != nil {
		t.Fatalf("open session %s at %s: %v", id, at, err)
	}
	return given
}

func (c *Cluster) open(at fleet.NodeID, id fleet.SessionID) (fleet.SessionGiven, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return c.Controller(at).Sessions.Open(ctx, fleet.SessionRequest{
		Server: "echo", Session: id, Until: time.Now().Add(time.Hour), Caller: fleet.Anonymous,
		Initialize: []byte(`{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"test","version":"1"}}`),
	})
}

// owners returns the replicas of sessions, by session, and how many wait for one.
func (c *Cluster) owners(ctx context.Context) (owned map[string][]api.Replica, spares int, err error) {
	list, err := c.Replicas(ctx)
	owned = make(map[string][]api.Replica)
	for _, r := range list {
		switch {
		case r.Session != "":
			owned[r.Session] = append(owned[r.Session], r)
		case r.Spare && r.Phase == fleet.PhaseReady.String():
			spares++
		}
	}
	return owned, spares, err
}

// awaitOwners waits until as many sessions have one replica each, as many spares wait, and
// nothing else runs.
func (c *Cluster) awaitOwners(sessions, spares int) {
	c.t.Helper()
	Eventually(c.t, func(ctx context.Context) error {
		owned, free, err := c.owners(ctx)
		if err != nil {
			return err
		}
		for id, list := range owned {
			if len(list) != 1 {
				return fmt.Errorf("session %s has %d replicas", id, len(list))
			}
		}
		if alive := c.Alive(); len(owned) != sessions || free != spares || alive != sessions+spares {
			return fmt.Errorf("%d sessions, %d spares, %d processes; want %d and %d", len(owned), free, alive, sessions, spares)
		}
		return nil
	})
}

// A session is opened through a controller that does not lead, keeps its replica, and ends
// at once. Its replica is never reused. A call by REST has a session of its own.
func TestSessionsOfAServer(t *testing.T) {
	c := Start(t, Options{Controllers: 3, Workers: 2, File: sessionFile(1, "    max_sessions: 3\n")})
	c.AwaitReady(2)
	c.awaitOwners(0, 1)
	follower := others(c.Leader())[0]
	id := fleet.NewSessionID()
	first := c.opened(t, follower, id)
	if !strings.Contains(string(first.Result), `"protocolVersion":"2025-06-18"`) || first.Healed {
		t.Errorf("opened as %s, healed %t", first.Result, first.Healed)
	}
	if again := c.opened(t, c.Leader(), id); again.Replica != first.Replica || string(again.Result) != string(first.Result) {
		t.Errorf("opened again as %s %s, want %s", again.Replica, again.Result, first.Replica)
	}
	c.awaitOwners(1, 1)

	resp, err := c.Controller(follower).Call(t.Context(), "echo", api.CallRequest{ToolName: "whoami", ToolArgs: args(`{}`)})
	if err != nil {
		t.Fatalf("a call by REST: %v", err)
	}
	if got := text(t, resp); got == string(first.Replica) {
		t.Error("a call by REST reached the replica of a session")
	}
	c.awaitOwners(1, 1)

	for range 2 {
		c.opened(t, follower, fleet.NewSessionID())
	}
	if _, err := c.open(follower, fleet.NewSessionID()); !errors.Is(err, fleet.ErrOverloaded) || !strings.Contains(err.Error(), "max_sessions is 3") {
		t.Errorf("one session more than max_sessions: %v", err)
	}
	c.awaitOwners(3, 0)
	c.Controller(follower).Sessions.End(id, time.Now().Add(time.Hour))
	c.awaitOwners(2, 1)
	Eventually(t, func(context.Context) error {
		if _, err := c.open(c.Leader(), id); !errors.Is(err, fleet.ErrSessionLost) {
			return fmt.Errorf("the ended session opens: %w", err)
		}
		return nil
	})
}

// Sessions go on elsewhere when their worker dies. Two controllers that find out at once
// get one replica.
func TestSessionsHeal(t *testing.T) {
	c := Start(t, Options{Controllers: 3, Workers: 3, NodeGrace: time.Second, File: sessionFile(2, "")})
	c.AwaitReady(3)
	id := fleet.NewSessionID()
	first := c.opened(t, "c1", id)
	c.awaitOwners(1, 2)
	c.KillWorker(first.Node)
	var both sync.WaitGroup
	given := make([]fleet.SessionGiven, 2)
	errs := make([]error, 2)
	for i, at := range []fleet.NodeID{"c2", "c3"} {
		both.Go(func() { given[i], errs[i] = c.open(at, id) })
	}
	both.Wait()
	if errs[0] != nil || errs[1] != nil || given[0].Replica != given[1].Replica || given[0].Replica == first.Replica || given[0].Node == first.Node {
		t.Errorf("healed as %+v, %v and %+v, %v", given[0], errs[0], given[1], errs[1])
	}
	if !given[0].Healed && !given[1].Healed {
		t.Error("nobody was told that the state is lost")
	}
	c.awaitOwners(1, 2)

	// A worker that stops in order does not wait for its sessions, and they go on too.
	began := time.Now()
	c.StopWorker(given[0].Node)
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("the worker took %v to stop", took)
	}
	if moved := c.opened(t, "c2", id); !moved.Healed || moved.Node == given[0].Node {
		t.Errorf("moved to %+v", moved)
	}
	c.awaitOwners(1, 2)
}

// A session that has lost its node goes on although max_sessions are open, long before the
// node is given up. Until then its old replica is shown, and why it means nothing.
func TestSessionsHealWithinMaxSessions(t *testing.T) {
	c := Start(t, Options{Workers: 2, NodeGrace: 10 * time.Minute, File: sessionFile(0, "    max_sessions: 1\n")})
	c.AwaitReady(2)
	id := fleet.NewSessionID()
	first := c.opened(t, "c1", id)
	c.KillWorker(first.Node)
	if again := c.opened(t, "c1", id); !again.Healed || again.Node == first.Node {
		t.Errorf("healed as %+v", again)
	}
	Eventually(t, func(ctx context.Context) error {
		s, err := c.GetServer(ctx, "echo", api.ReadOptions{})
		if err == nil && (s.Sessions == nil || s.Sessions.Open != 1) {
			err = fmt.Errorf("sessions are shown as %+v", s.Sessions)
		}
		return err
	})
	owned, _, err := c.owners(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range slices.Concat(slices.Collect(maps.Values(owned))...) {
		if lost := r.ID == first.Replica; lost != strings.Contains(r.Reason, "cannot be reached") {
			t.Errorf("replica %s on %s is shown as %s: %q", r.ID, r.Node, r.Phase, r.Reason)
		}
	}
}

// A leader that dies while sessions open leaves no replica behind, and every session
// opens.
func TestTheLeaderDiesWhileSessionsOpen(t *testing.T) {
	c := Start(t, Options{Controllers: 3, Workers: 2, File: sessionFile(0, "")})
	c.AwaitReady(2)
	leader := c.Leader()
	follower := others(leader)[0]
	var all sync.WaitGroup
	errs := make([]error, 6)
	for i := range errs {
		all.Go(func() { _, errs[i] = c.open(follower, fleet.NewSessionID()) })
	}
	Eventually(t, func(ctx context.Context) error {
		if c.Alive() == 0 {
			return errors.New("nothing opens yet")
		}
		return nil
	})
	c.StopController(leader)
	all.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("session %d: %v", i, err)
		}
	}
	c.Client = c.Controller(follower).Client
	c.awaitOwners(len(errs), 0)
}

// mcpClient is a legacy client of one MCP endpoint.
type mcpClient struct {
	t       *testing.T
	session string
}

// post sends a message to a controller, and returns the status and what came back.
func (m *mcpClient) post(c *Controller, body string) (int, string) {
	m.t.Helper()
	req, err := http.NewRequestWithContext(m.t.Context(), http.MethodPost, "http://"+c.Addresses.HTTP+"/echo/mcp", strings.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	return m.do(req)
}

func (m *mcpClient) do(req *http.Request) (int, string) {
	m.t.Helper()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	if m.session != "" {
		req.Header.Set("Mcp-Session-Id", m.session)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	if id := resp.Header.Get("Mcp-Session-Id"); id != "" {
		m.session = id
	}
	return resp.StatusCode, string(text)
}

// whoami returns which replica answers.
func (m *mcpClient) whoami(c *Controller) string {
	m.t.Helper()
	status, text := m.post(c, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"whoami","arguments":{}}}`)
	var answer struct {
		Result struct{ Content []struct{ Text string } }
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil || status != http.StatusOK || len(answer.Result.Content) != 1 {
		m.t.Fatalf("whoami: %d %s", status, text)
	}
	return answer.Result.Content[0].Text
}

// A client of MCP has a replica to itself at whichever controller, keeps its session when
// the replica dies and while the server is updated, and ends it with DELETE.
func TestMCPSessionsOfAServer(t *testing.T) {
	const file = "    session_idle: 2s\n    update: {min_ready: 0s}\n"
	c := Start(t, Options{Controllers: 2, Workers: 2, File: sessionFile(1, file)})
	c.AwaitReady(2)
	c.awaitOwners(0, 1)
	c1, c2 := c.Controller("c1"), c.Controller("c2")
	one, two := &mcpClient{t: t}, &mcpClient{t: t}
	for _, m := range []*mcpClient{one, two} {
		status, text := m.post(c1, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}`)
		if status != http.StatusOK || m.session == "" {
			t.Fatalf("initialize: %d %s", status, text)
		}
		m.post(c2, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	}
	first := one.whoami(c1)
	if got := one.whoami(c2); got != first {
		t.Errorf("the session is at %s through one controller, at %s through the other", first, got)
	}
	if got := two.whoami(c2); got == first {
		t.Error("two sessions have one replica")
	}
	c.KillReplica(fleet.ReplicaID(first))
	var second string
	Eventually(t, func(context.Context) error {
		if second = one.whoami(c2); second == first {
			return errors.New("it is dead")
		}
		return nil
	})

	c.Deploy(strings.ReplaceAll(sessionFile(1, file), "command: [echo]", "command: [echo, again]"))
	Eventually(t, func(ctx context.Context) error { // in use all the time
		one.whoami(c1)
		list, err := c.Servers(ctx)
		if err != nil || len(list) != 1 {
			return fmt.Errorf("%d servers, %w", len(list), err)
		}
		switch s := list[0]; {
		case s.Revision != 2 || s.Rollout != nil:
			return fmt.Errorf("revision %d, rollout %+v: %s", s.Revision, s.Rollout, s.Reason)
		}
		return nil
	})
	if got := one.whoami(c2); !strings.HasPrefix(got, "echo-2-") {
		t.Errorf("after the update the session is at %s", got)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, "http://"+c2.Addresses.HTTP+"/echo/mcp", nil)
	if err != nil {
		t.Fatal(err)
	}
	if status, text := one.do(req); status/100 != 2 {
		t.Errorf("DELETE: %d %s", status, text)
	}
	c.awaitOwners(0, 1) // the other one was idle
	if status, text := one.post(c1, `{"jsonrpc":"2.0","id":3,"method":"ping"}`); status != http.StatusNotFound {
		t.Errorf("after DELETE: %d %s", status, text)
	}
}
