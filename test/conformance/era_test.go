//go:build linux

package conformance

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

// deadOfDiscover is a server of the legacy era that ends when it gets an unknown request
// first, as those of old Python SDKs do.
const deadOfDiscover = `
const send = (id, result) => process.stdout.write(JSON.stringify({ jsonrpc: "2.0", id, result }) + "\n");
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const { id, method, params } = JSON.parse(line);
  if (method === "server/discover") { console.error("validation errors for ClientRequest"); process.exit(1); }
  if (method === "initialize") send(id, { protocolVersion: "2024-11-05", capabilities: { tools: {} }, serverInfo: { name: "old", version: "1" } });
  if (method === "tools/list") send(id, { tools: [{ name: "test_simple_text", inputSchema: { type: "object" } }] });
  if (method === "tools/call") send(id, { content: [{ type: "text", text: "simple text" }] });
  if (method === "ping") send(id, {});
});`

// The fleet finds the era of official servers, also of those that take longer to start
// than it waits for an answer. A server of both eras that has got the requests of both
// would be of neither.
func TestEraOfServers(t *testing.T) {
	s := install(t)
	f := startFleetOf(t, 1)
	script := func(name string) string { return filepath.Join(s.fixture, fixtures[name].script) }
	slow := func(name string) []string {
		return []string{"sh", "-c", fmt.Sprintf("sleep 4; exec '%s' '%s'", s.node, script(name))}
	}
	for _, tt := range []struct {
		name    string
		command []string
		era     fleet.Era // of the specification
		want    fleet.Era
		tool    string
	}{
		{"legacy", []string{s.node, script("legacy")}, "", fleet.EraLegacy, "test_simple_text"},
		{"legacy-slow", slow("legacy"), "", fleet.EraLegacy, "test_simple_text"},
		{"both", []string{s.node, script("modern")}, "", fleet.EraModern, "test_simple_text"},
		{"both-slow", slow("modern"), "", fleet.EraModern, "test_simple_text"},
		{"both-as-legacy", []string{s.node, script("modern")}, fleet.EraLegacy, fleet.EraLegacy, "test_simple_text"},
		{"both-go", []string{filepath.Join(f.bin, "demo-server")}, "", fleet.EraModern, "echo"},
		{"dies", []string{s.node, "-e", deadOfDiscover}, "", fleet.EraLegacy, "test_simple_text"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spec := map[string]any{"command": tt.command, "replicas": 2}
			if tt.era != "" {
				spec["era"] = tt.era
			}
			f.deploy(t, tt.name, spec)
			harness.Eventually(t, harness.Patience, func() error { // the era is kept a moment later
				got, err := f.GetServer(t.Context(), fleet.ServerName(tt.name), api.ReadOptions{})
				switch {
				case err != nil:
					return err
				case got.Era != tt.want:
					return fmt.Errorf("the era is %q, version %q, want %s", got.Era, got.Protocol, tt.want)
				case got.Restarts > 0:
					t.Errorf("%d restarts: %s", got.Restarts, got.Reason)
				}
				return nil
			})
			result, err := f.Call(t.Context(), fleet.Scope(tt.name), api.CallRequest{ToolName: tt.tool, ToolArgs: []byte(`{"text":"simple text"}`)})
			if err != nil || !strings.Contains(string(result), "simple text") {
				t.Errorf("a call got %s, %v", result, err)
			}
			if modern := strings.Contains(string(result), `"resultType"`); modern != (tt.want == fleet.EraModern) {
				t.Errorf("the result is not of the era %s: %s", tt.want, result)
			}
		})
	}
}
