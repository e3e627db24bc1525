package fleettest

import (
	"context"
	"errors"
	"fmt"
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
