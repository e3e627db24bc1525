package fleettest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// modern calls a tool as a client of the modern era that can be asked, and returns the
// status and the answer. more are further members of the params, each after a comma.
func (c *Cluster) modern(t *testing.T, at fleet.NodeID, tool, more string) (status int, text string) {
	t.Helper()
	status, text, err := c.tryModern(t.Context(), at, tool, more)
	if err != nil {
		t.Fatal(err)
	}
	return status, text
}

func (c *Cluster) tryModern(ctx context.Context, at fleet.NodeID, tool, more string) (status int, text string, err error) {
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":%q,"arguments":{},"_meta":{`+
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},`+
		`"io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}}%s}}`, tool, more)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.Controller(at).Addresses.HTTP+"/echo/mcp", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json",
		"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool,
	} {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(answer), err
}

// curious is a legacy server whose tool ask elicits something, and answers with it. Its
// tool work never ends.
func curious(ctx context.Context, s *agenttest.Stdio) int {
	stop := context.AfterFunc(ctx, s.CloseOut)
	defer stop()
	in := bufio.NewReader(s.In)
	var call json.RawMessage
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return 0
		}
		var m struct {
			ID, Result json.RawMessage
			Method     string
			Params     struct{ Name string }
		}
		if json.Unmarshal(line, &m) != nil || m.ID == nil {
			continue
		}
		answer := `"error":{"code":-32601,"message":"unknown"}`
		switch {
		case m.Method == "initialize":
			answer = `"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"t","version":"1"}}`
		case m.Method == "ping":
			answer = `"result":{}`
		case m.Method == "tools/list":
			answer = `"result":{"tools":[{"name":"ask","inputSchema":{"type":"object"}},{"name":"work","inputSchema":{"type":"object"}}]}`
		case m.Method == "tools/call" && m.Params.Name == "work":
			continue
		case m.Method == "tools/call":
			call = m.ID
			fmt.Fprintln(s.Out, `{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"name?","requestedSchema":{"type":"object","properties":{}}}}`)
			continue
		case m.Result != nil:
			m.ID, answer = call, `"result":{"content":[{"type":"text","text":`+fmt.Sprintf("%q", m.Result)+`}]}`
		}
		fmt.Fprintf(s.Out, `{"jsonrpc":"2.0","id":%s,%s}`+"\n", m.ID, answer)
	}
}

// startCurious starts a cluster whose server is curious.
func startCurious(t *testing.T, opts Options) *Cluster {
	t.Helper()
	opts.Workers, opts.File = 2, sessionFile(1, "")
	opts.Runtimes = func(fleet.NodeID, string, *slog.Logger) ([]fleet.Runtime, error) {
		rt := agenttest.New()
		rt.Handle("", curious)
		return []fleet.Runtime{plain{rt}}, nil
	}
	c := Start(t, opts)
	c.AwaitReady(2)
	c.awaitRunning(0, 1)
	return c
}

// awaitRunning waits until so many sessions and spares have replicas, and nothing else
// runs.
func (c *Cluster) awaitRunning(sessions, spares int) {
	c.t.Helper()
	Eventually(c.t, func(ctx context.Context) error {
		list, err := c.Replicas(ctx)
		if err != nil {
			return err
		}
		owned, free, other := 0, 0, 0
		for _, r := range list {
			switch {
			case r.Phase == fleet.PhaseReady.String() && r.Session != "":
				owned++
			case r.Phase == fleet.PhaseReady.String() && r.Spare:
				free++
			case r.Phase != fleet.PhaseStopped.String():
				other++
			}
		}
		if owned != sessions || free != spares || other > 0 {
			return fmt.Errorf("%d sessions, %d spares and %d others, want %d and %d", owned, free, other, sessions, spares)
		}
		return nil
	})
}

// asked calls a tool that asks, and returns the members of the params of the retry that
// answers.
func (c *Cluster) asked(t *testing.T, at fleet.NodeID) (retry string) {
	t.Helper()
	status, text := c.modern(t, at, "ask", "")
	var m struct {
		Result struct {
			ResultType, RequestState string
			InputRequests            map[string]json.RawMessage
		}
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil || m.Result.ResultType != "input_required" || len(m.Result.InputRequests) != 1 {
		t.Fatalf("got %d %s", status, text)
	}
	for key := range m.Result.InputRequests {
		retry = fmt.Sprintf(`,"inputResponses":{%q:{"action":"accept","content":{}}},"requestState":%q`, key, m.Result.RequestState)
	}
	return retry
}

// A call that waits for what its client was asked goes on through another controller when
// the one that asked is gone, be that the leader or not.
func TestParkedCallOutlivesItsController(t *testing.T) {
	c := startCurious(t, Options{Controllers: 3})
	leader := c.Leader()
	byLeader, byOther := c.asked(t, leader), c.asked(t, others(leader)[0])
	c.awaitRunning(2, 1)
	c.StopController(leader)
	at := others(leader)[1]
	c.Client = c.Controller(at).Client
	for name, retry := range map[string]string{"the leader": byLeader, "another one": byOther} {
		if status, text := c.modern(t, at, "ask", retry); status != http.StatusOK || !strings.Contains(text, `\"action\":\"accept\"`) {
			t.Errorf("asked by %s: %d %s", name, status, text)
		}
	}
	c.awaitRunning(0, 1)
}

// A call whose client never answers is given up. Its replica is freed, and a late answer is
// refused.
func TestParkedCallExpires(t *testing.T) {
	c := startCurious(t, Options{Controllers: 2, ParkWindow: 3 * time.Second})
	retry := c.asked(t, "c1")
	c.awaitRunning(1, 1)
	c.awaitRunning(0, 1)
	if status, text := c.modern(t, "c2", "ask", retry); status != http.StatusOK || !strings.Contains(text, `"code":-32602`) {
		t.Errorf("a late answer: %d %s", status, text)
	}
}

// A call that waits for nobody ends with its client, or with the controller that has it:
// nobody could read its answer.
func TestCallOfOneSessionEndsWithItsClient(t *testing.T) {
	c := startCurious(t, Options{Controllers: 3})
	at := others(c.Leader())[0]
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	var calls sync.WaitGroup
	defer calls.Wait()
	begin := func(ctx context.Context) {
		calls.Go(func() {
			if status, text, err := c.tryModern(ctx, at, "work", ""); err == nil && status == http.StatusOK {
				t.Errorf("a call that never ends was answered: %s", text)
			}
		})
	}
	begin(ctx)
	begin(t.Context())
	c.awaitRunning(2, 1)
	leave()
	c.awaitRunning(1, 1)
	c.StopController(at)
	c.Client = c.Controller(others(at)[0]).Client
	c.awaitRunning(0, 1)
}
