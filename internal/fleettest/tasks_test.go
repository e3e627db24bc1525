package fleettest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
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

// A task is found through any controller, at the replica that has it. That is the last one
// to be drained, and its drain waits until the client has the result.
func TestTaskThroughAnyController(t *testing.T) {
	c := Start(t, Options{Controllers: 2, Workers: 2, File: strings.Replace(echoFile(3, ""), "drain_timeout: 5s", "drain_timeout: 1m", 1),
		Runtimes: func(fleet.NodeID, string, *slog.Logger) ([]fleet.Runtime, error) {
			rt := agenttest.New()
			rt.Handle("", tasked)
			return []fleet.Runtime{plain{rt}}, nil
		}})
	c.awaitKnown(3, "c1", "c2")
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
	type task struct{ TaskID, StatusMessage string }
	ask := func(ctx context.Context, at fleet.NodeID, method, params string) (result struct {
		task
		Task task
	}, code int, err error) {
		resp, err := c.post(ctx, at, session, fmt.Sprintf(`{"jsonrpc":"2.0","id":2,"method":%q,"params":%s}`, method, params))
		if err != nil {
			return result, 0, err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return result, 0, err
		}
		text := string(body)
		if _, after, events := strings.Cut(text, "data: {"); events {
			text = "{" + after
		}
		var m struct {
			Result json.RawMessage
			Error  struct{ Code int }
		}
		if err := json.NewDecoder(strings.NewReader(text)).Decode(&m); err != nil {
			return result, 0, fmt.Errorf("%s: %w", body, err)
		}
		if m.Result != nil {
			err = json.Unmarshal(m.Result, &result)
		}
		return result, m.Error.Code, err
	}
	made, code, err := ask(t.Context(), "c1", "tools/call", `{"name":"work","task":{"ttl":60000}}`)
	if err != nil || code != 0 || made.Task.TaskID == "" || made.Task.TaskID == "t" {
		t.Fatalf("got %+v, %d, %v", made, code, err)
	}
	id, owner := made.Task.TaskID, made.Task.StatusMessage
	named := fmt.Sprintf(`{"taskId":%q}`, id)
	found := func() {
		t.Helper()
		for _, at := range []fleet.NodeID{"c1", "c2"} {
			if got, code, err := ask(t.Context(), at, "tasks/get", named); err != nil || got.TaskID != id || got.StatusMessage != owner {
				t.Fatalf("%s got %+v, %d, %v; the task is at %s", at, got, code, err, owner)
			}
		}
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
	if _, code, err := ask(t.Context(), "c2", "tasks/result", named); err != nil || code != 0 {
		t.Fatalf("the result: %d, %v", code, err)
	}
	Eventually(t, func(ctx context.Context) error {
		_, code, err := ask(ctx, "c2", "tasks/get", named)
		if err == nil && code != -32602 {
			err = fmt.Errorf("got the code %d", code)
		}
		return err
	})
}
