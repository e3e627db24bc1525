package fleettest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// tasked is a server with core tasks. The tasks of every replica have the id "t", and end
// when their result is asked for.
func tasked(ctx context.Context, s *agenttest.Stdio) int {
	stop := context.AfterFunc(ctx, s.CloseOut)
	defer stop()
	in := bufio.NewReader(s.In)
	created := false
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return 0
		}
		var m struct {
			ID     json.RawMessage
			Method string
			Params struct {
				TaskID string
				Task   json.RawMessage
			}
		}
		if json.Unmarshal(line, &m) != nil || m.ID == nil {
			continue
		}
		task := fmt.Sprintf(`{"taskId":"t","status":"working","statusMessage":%q,"createdAt":"2026-01-01T00:00:00Z","lastUpdatedAt":"2026-01-01T00:00:00Z","ttl":null}`, s.Launch.Replica)
		known := created && m.Params.TaskID == "t"
		answer := `"error":{"code":-32602,"message":"no such task"}`
		switch {
		case m.Method == "initialize":
			answer = `"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"tasks":{"list":{},"cancel":{},"requests":{"tools":{"call":{}}}}},"serverInfo":{"name":"t","version":"1"}}`
		case m.Method == "ping":
			answer = `"result":{}`
		case m.Method == "tools/list":
			answer = `"result":{"tools":[{"name":"work","inputSchema":{"type":"object"},"execution":{"taskSupport":"required"}}]}`
		case m.Method == "server/discover":
			answer = `"error":{"code":-32601,"message":"unknown"}`
		case m.Method == "tools/call" && m.Params.Task != nil:
			created, answer = true, `"result":{"task":`+task+`}`
		case m.Method == "tasks/get" && known:
			answer = `"result":` + task
		case m.Method == "tasks/result" && known:
			answer = `"result":{"content":[],"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t"}}}`
		}
		fmt.Fprintf(s.Out, `{"jsonrpc":"2.0","id":%s,%s}`+"\n", m.ID, answer)
	}
}

// taskClient is a client of a session with such a server.
type taskClient struct {
	c       *Cluster
	session string
}

// startTasked starts a cluster with such a server, and opens a session.
func startTasked(t *testing.T, controllers, replicas int) taskClient {
	file := strings.Replace(echoFile(replicas, ""), "drain_timeout: 5s", "drain_timeout: 1m", 1)
	c := Start(t, Options{Controllers: controllers, Workers: 2, File: file, Server: tasked})
	c.awaitKnown(replicas, []fleet.NodeID{"c1", "c2", "c3"}[:controllers]...)
	initialized, err := c.post(t.Context(), "c1", "", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(initialized.Body)
	initialized.Body.Close()
	session := initialized.Header.Get("Mcp-Session-Id")
	if session == "" || !strings.Contains(string(body), `"tasks":{"cancel":{}`) {
		t.Fatalf("got %s %s", initialized.Status, body)
	}
	return taskClient{c, session}
}

// aTask is a task, and in StatusMessage the replica that has it.
type aTask struct{ TaskID, StatusMessage string }

// taskAnswer is the answer to a request that creates a task or is about one. Code is that
// of its error, 0 if there is none, and Data.Code the fleet's name for it.
type taskAnswer struct {
	Result struct {
		aTask
		Task aTask
	}
	Error struct {
		Code int
		Data struct{ Code string }
	}
}

func (tc taskClient) ask(ctx context.Context, at fleet.NodeID, method, params string) (m taskAnswer, err error) {
	resp, err := tc.c.post(ctx, at, tc.session, fmt.Sprintf(`{"jsonrpc":"2.0","id":2,"method":%q,"params":%s}`, method, params))
	if err != nil {
		return m, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return m, err
	}
	text := string(body)
	if _, after, events := strings.Cut(text, "data: {"); events {
		text = "{" + after
	}
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&m); err != nil {
		return m, fmt.Errorf("%s: %w", body, err)
	}
	return m, nil
}

// create creates a task, and returns its id and the replica that has it.
func (tc taskClient) create(t *testing.T, at fleet.NodeID) (id, owner string) {
	t.Helper()
	made, err := tc.ask(t.Context(), at, "tools/call", `{"name":"work","task":{"ttl":60000}}`)
	task := made.Result.Task
	if err != nil || made.Error.Code != 0 || task.TaskID == "" || task.TaskID == "t" {
		t.Fatalf("got %+v, %v", made, err)
	}
	return task.TaskID, task.StatusMessage
}

// find fails the test if the task cannot be found at its replica through all controllers.
func (tc taskClient) find(t *testing.T, id, owner string, at ...fleet.NodeID) {
	t.Helper()
	for _, at := range at {
		got, err := tc.ask(t.Context(), at, "tasks/get", named(id))
		if err != nil || got.Result.TaskID != id || got.Result.StatusMessage != owner {
			t.Fatalf("%s got %+v, %v; the task is at %s", at, got, err, owner)
		}
	}
}

func named(id string) string { return fmt.Sprintf(`{"taskId":%q}`, id) }

// A task is found through any controller, at the replica that has it. That is the last one
// to be drained, and its drain waits until the client has the result.
func TestTaskThroughAnyController(t *testing.T) {
	tc := startTasked(t, 2, 3)
	c := tc.c
	id, owner := tc.create(t, "c1")
	found := func() {
		t.Helper()
		tc.find(t, id, owner, "c1", "c2")
	}
	found()

	// Only the replica with the task is left, once the leader knows of its load.
	Eventually(t, func(ctx context.Context) error {
		for _, at := range []fleet.NodeID{"c1", "c2"} {
			list, err := c.Controller(at).Replicas(ctx)
			if err != nil {
				return err
			}
			for _, r := range list {
				if want := string(r.ID) == owner; want != (r.Ongoing == 1) {
					return fmt.Errorf("at %s replica %s has the load %d", at, r.ID, r.Ongoing)
				}
			}
		}
		return nil
	})
	if _, err := c.Scale(t.Context(), "echo", 1, api.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	Eventually(t, func(ctx context.Context) error {
		ready, err := replicas(ctx, c, fleet.PhaseReady.String())
		if _, ok := ready[fleet.ReplicaID(owner)]; err == nil && (len(ready) != 1 || !ok) {
			err = fmt.Errorf("READY are %v", ready)
		}
		return err
	})
	found()

	// It is replaced, and drains until the result has been fetched.
	if _, err := c.Restart(t.Context(), "echo", api.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	Eventually(t, func(ctx context.Context) error {
		draining, err := replicas(ctx, c, fleet.PhaseDraining.String())
		if _, ok := draining[fleet.ReplicaID(owner)]; err == nil && !ok {
			err = fmt.Errorf("replica %s does not drain", owner)
		}
		return err
	})
	found()
	if got, err := tc.ask(t.Context(), "c2", "tasks/result", named(id)); err != nil || got.Error.Code != 0 {
		t.Fatalf("the result: %+v, %v", got, err)
	}
	tc.awaitUnknown(t, "c2", id)
}

// awaitUnknown waits until the task is gone. Until then its replica may not be reached.
func (tc taskClient) awaitUnknown(t *testing.T, at fleet.NodeID, id string) {
	t.Helper()
	Eventually(t, func(ctx context.Context) error {
		got, err := tc.ask(ctx, at, "tasks/get", named(id))
		switch {
		case err != nil:
			return err
		case got.Error.Code == -32602 && got.Error.Data.Code == "unknown_task":
			return nil
		case got.Error.Code != 0 && got.Error.Data.Code != "no_replica" && got.Error.Data.Code != "replica_lost":
			t.Errorf("got %+v", got)
		}
		return fmt.Errorf("got %+v", got)
	})
}

// A task outlives the death of any controller, also of the leader and of the one that its
// call went through. The replica with the task keeps its load at the next leader.
func TestTaskOutlivesControllers(t *testing.T) {
	tc := startTasked(t, 3, 2)
	all := []fleet.NodeID{"c1", "c2", "c3"}
	leader := tc.c.Leader()
	id, owner := tc.create(t, leader)
	tc.c.StopController(leader)
	others := slices.DeleteFunc(slices.Clone(all), func(name fleet.NodeID) bool { return name == leader })
	tc.find(t, id, owner, others...)
	if next := tc.c.Leader(); next == leader {
		t.Fatalf("%s leads still", leader)
	}
	if _, err := tc.c.Controller(others[0]).Scale(t.Context(), "echo", 1, api.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	Eventually(t, func(ctx context.Context) error {
		list, err := tc.c.Controller(others[0]).Replicas(ctx)
		if err != nil {
			return err
		}
		var ready []string
		for _, r := range list {
			if r.Phase == fleet.PhaseReady.String() {
				ready = append(ready, string(r.ID))
			}
		}
		if !slices.Equal(ready, []string{owner}) {
			err = fmt.Errorf("READY are %v, want %s", ready, owner)
		}
		return err
	})
	tc.c.StartController(leader)
	tc.c.awaitKnown(1, leader)
	tc.find(t, id, owner, all...)
}

// A task goes with its replica, and with its worker. Nobody takes another replica's task
// with the same id of the server's for it.
func TestTaskOfLostReplica(t *testing.T) {
	tc := startTasked(t, 2, 2)
	tasks := map[string]string{} // by replica
	for len(tasks) < 2 {
		id, owner := tc.create(t, "c1")
		tasks[owner] = id
	}
	owners := slices.Sorted(maps.Keys(tasks))
	if !tc.c.KillReplica(fleet.ReplicaID(owners[0])) {
		t.Fatalf("no replica %s", owners[0])
	}
	tc.awaitUnknown(t, "c2", tasks[owners[0]])
	tc.find(t, tasks[owners[1]], owners[1], "c1", "c2")

	node := nodeOf(t, tc.c, owners[1])
	tc.c.KillWorker(node)
	tc.awaitUnknown(t, "c1", tasks[owners[1]])
	tc.awaitUnknown(t, "c2", tasks[owners[1]])
}

// nodeOf returns the node of a replica.
func nodeOf(t *testing.T, c *Cluster, id string) fleet.NodeID {
	t.Helper()
	list, err := c.Replicas(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		if string(r.ID) == id {
			return r.Node
		}
	}
	t.Fatalf("replica %s is gone", id)
	return ""
}
