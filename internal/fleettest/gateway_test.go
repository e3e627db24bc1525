package fleettest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Gateways and overrides are written in one step, and every controller serves them.
func TestGateways(t *testing.T) {
	server := func(name, more string) string {
		return fmt.Sprintf("  %s:\n    command: [echo]\n    drain_timeout: 5s\n%s", name, more)
	}
	file := "servers:\n" + server("one", "    tools: {overrides: {echo: {rename: say, description: Says it.}}}\n") + server("two", "    tools: {allow: [echo, count]}\n") +
		"gateways:\n  team: {servers: [one, two], tools: {deny: [two__count], overrides: {two__echo: {rename: repeat}}}}\n"
	c := Start(t, Options{Controllers: 2, Workers: 1, File: file})
	c.AwaitReady(1)
	for _, name := range []fleet.NodeID{"c1", "c2"} {
		at := "http://" + c.Controller(name).Addresses.HTTP
		do := func(method, path, body string, headers ...string) (int, string) {
			t.Helper()
			r, err := http.NewRequestWithContext(t.Context(), method, at+path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			for i := 0; i < len(headers); i += 2 {
				r.Header.Set(headers[i], headers[i+1])
			}
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			answer, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return resp.StatusCode, string(answer)
		}
		Eventually(t, func(context.Context) error {
			var list api.Tools
			status, body := do("GET", "/g/team/tools", "")
			var names []string
			if err := json.Unmarshal([]byte(body), &list); err != nil {
				return err
			}
			for _, tool := range list.Tools {
				names = append(names, tool.Name)
			}
			if status != 200 || !slices.Contains(names, "one__say") || !slices.Contains(names, "repeat") || slices.Contains(names, "two__count") {
				return fmt.Errorf("%s lists %v, %d", name, names, status)
			}
			return nil
		})
		for body, want := range map[string]string{
			`{"tool_name":"repeat","tool_args":{"text":"hi"}}`:      "hi",
			`{"tool_name":"one__say","tool_args":{"text":"there"}}`: "there",
		} {
			if status, answer := do("POST", "/g/team/call", body); status != 200 || !strings.Contains(answer, want) {
				t.Errorf("%s: %s got %d, %s", name, body, status, answer)
			}
		}
		if status, answer := do("POST", "/g/team/call", `{"tool_name":"two__count","tool_args":{}}`); status != 404 || !strings.Contains(answer, "switched off") {
			t.Errorf("%s: a tool that is off: %d, %s", name, status, answer)
		}
		if status, answer := do("POST", "/one/call", `{"tool_name":"say","tool_args":{"text":"x"}}`); status != 200 {
			t.Errorf("%s: a renamed tool: %d, %s", name, status, answer)
		}
		for method, params := range map[string]string{"tools/list": "", "tools/call": `"name":"repeat","arguments":{"text":"hello"},`} {
			body := `{"jsonrpc":"2.0","id":7,"method":"` + method + `","params":{` + params + `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
				`"io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`
			want := map[string]string{"tools/list": `"description":"Says it."`, "tools/call": `"text":"hello"`}[method]
			if status, answer := do("POST", "/g/team/mcp", body, "Accept", "application/json", "MCP-Protocol-Version", "2026-07-28", "Mcp-Method", method, "Mcp-Name", "repeat"); status != 200 ||
				!strings.Contains(answer, want) || strings.Contains(answer, "two__count") {
				t.Errorf("%s: %s got %d, %s", name, method, status, answer)
			}
		}
		if status, answer := do("GET", "/g/none/tools", ""); status != 404 || !strings.Contains(answer, api.CodeUnknownGateway) {
			t.Errorf("%s: an unknown gateway: %d, %s", name, status, answer)
		}
	}
	_, err := c.Controller("c1").Client.Delete(t.Context(), "two", api.WriteOptions{})
	if answer, ok := errors.AsType[*api.Error](err); !ok || answer.Code != api.CodeConflict || !strings.Contains(answer.Detail, "team") {
		t.Errorf("a server of a gateway was deleted: %v", err)
	}
	servers, err := c.Controller("c2").Client.List(t.Context(), api.ReadOptions{})
	if err != nil || !strings.Contains(string(servers.Gateways["team"]), `"rename":"repeat"`) {
		t.Errorf("gateways %s, %v", servers.Gateways, err)
	}
}
