package odd_test

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleettest"
	"github.com/mcpfleet/mcpfleet/internal/process"
	"github.com/mcpfleet/mcpfleet/test/harness"
	"github.com/mcpfleet/mcpfleet/test/odd"
	"github.com/mcpfleet/mcpfleet/test/tsclient"
)

//go:embed client.mjs
var clientScript []byte

// outcome is the outcome for one server.
type outcome struct {
	Name   string
	Tools  []map[string]any
	Result any
	Error  string
}

// If the official TypeScript client works with a server over stdio, the fleet works
// with it, and has the same tools and the same result.
func TestOddServers(t *testing.T) {
	bin := t.TempDir()
	if err := harness.Build(bin, "./test/odd/server"); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(bin, "server")
	c := startFleet(t, program)
	official := askOfficial(t, program)
	fleets := askFleet(t, c)
	for _, s := range odd.Servers {
		t.Run(s.Name, func(t *testing.T) {
			want, got := official[s.Name], fleets[s.Name]
			if works := want.Error == ""; works != s.Official {
				t.Errorf("the official client works: %v; noted is %v; %s", works, s.Official, want.Error)
			}
			if s.Official && s.Fails != "" {
				t.Error("the official client works, so the fleet must")
			}
			if s.Fails != "" {
				if !strings.Contains(got.Error, s.Fails) {
					t.Errorf("the reason is %q, which lacks %q", got.Error, s.Fails)
				}
				return
			}
			if got.Error != "" {
				t.Fatalf("the fleet: %s", got.Error)
			}
			if want.Error != "" {
				return // nothing to compare with
			}
			compareTools(t, got.Tools, want.Tools)
			if !reflect.DeepEqual(got.Result, want.Result) {
				t.Errorf("the result is %.300v, the official client got %.300v", got.Result, want.Result)
			}
		})
	}
}

// compareTools checks each member of each tool that the official client got.
func compareTools(t *testing.T, got, want []map[string]any) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d tools, the official client got %d", len(got), len(want))
		return
	}
	renamed := map[string]string{"inputSchema": "input_schema", "outputSchema": "output_schema"}
	for i, tool := range want {
		for key, value := range tool {
			ours := key
			if r, ok := renamed[key]; ok {
				ours = r
			}
			if !reflect.DeepEqual(got[i][ours], value) {
				t.Errorf("tool %d: %s is %v, the official client got %v", i, ours, got[i][ours], value)
			}
		}
	}
}

func call(s *odd.Server) string {
	if s.Call == "" {
		return "echo"
	}
	return s.Call
}

func askOfficial(t *testing.T, program string) map[string]outcome {
	type question struct {
		Name    string `json:"name"`
		Call    string `json:"call"`
		Seconds int    `json:"seconds"`
	}
	var questions []question
	for _, s := range odd.Servers {
		q := question{s.Name, call(&s), 60}
		if !s.Official {
			q.Seconds = 2 // most are never answered
		}
		questions = append(questions, q)
	}
	in, err := json.Marshal(questions)
	if err != nil {
		t.Fatal(err)
	}
	cmd := tsclient.Command(t, clientScript, program)
	cmd.Stdin = bytes.NewReader(in)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the official client: %v\n%s", err, stderr.String())
	}
	var all []outcome
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatalf("the official client: %v in %.500s", err, out)
	}
	byName := map[string]outcome{}
	for _, o := range all {
		byName[o.Name] = o
	}
	return byName
}

func startFleet(t *testing.T, program string) *fleettest.Cluster {
	var file strings.Builder
	file.WriteString("servers:\n")
	for _, s := range odd.Servers {
		fmt.Fprintf(&file, "  %s: { command: [%q, %q]", s.Name, program, s.Name)
		if s.Fails != "" {
			file.WriteString(", start_timeout: 10s")
		}
		if s.HealthOff {
			file.WriteString(", health: off")
		}
		file.WriteString(" }\n")
	}
	return fleettest.Start(t, fleettest.Options{
		Workers: 1, File: file.String(),
		Runtimes: func(node fleet.NodeID, dir string, log *slog.Logger) ([]fleet.Runtime, error) {
			r, err := process.New(process.Config{Node: node, DataDir: dir, Log: log})
			return []fleet.Runtime{r}, err
		},
	})
}

func askFleet(t *testing.T, c *fleettest.Cluster) map[string]outcome {
	c.AwaitReady(1)
	ready, err := c.Ready(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]outcome{}
	for _, state := range ready.Servers {
		if s := odd.Find(string(state.Name)); s != nil {
			byName[s.Name] = askOne(t.Context(), c.Client, s, state)
		}
	}
	return byName
}

func askOne(ctx context.Context, c *api.Client, s *odd.Server, state api.ServerReady) (o outcome) {
	o.Name = s.Name
	if state.Ready != 1 {
		o.Error = state.Reason
		return o
	}
	fail := func(err error) outcome {
		o.Error = err.Error()
		return o
	}
	tools, err := c.Tools(ctx, fleet.Scope(state.Name))
	if err != nil {
		return fail(err)
	}
	raw, err := json.Marshal(tools.Tools)
	if err != nil {
		return fail(err)
	}
	if err := json.Unmarshal(raw, &o.Tools); err != nil {
		return fail(err)
	}
	if s.Call == "-" {
		return o
	}
	result, err := c.Call(ctx, fleet.Scope(state.Name), api.CallRequest{ToolName: call(s), ToolArgs: json.RawMessage(`{"text":"grüße ✓"}`)})
	if err != nil {
		return fail(err)
	}
	if err := json.Unmarshal(result, &o.Result); err != nil {
		return fail(err)
	}
	return o
}
