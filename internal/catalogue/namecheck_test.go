package catalogue

import (
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// A tool that a spec names and the server does not list is most likely
// mistyped. It is reported once, with the nearest name.
func TestUnlistedTools(t *testing.T) {
	var got []string
	names := &NameCheck{Log: slog.New(slog.DiscardHandler), Record: func(kind fleet.EventKind, server fleet.ServerName, revision fleet.Revision, message string) {
		if kind != fleet.EventUnknownTool || server != "files" || revision != 1 {
			t.Errorf("event of server %s, revision %d", server, revision)
		}
		got = append(got, message)
	}}
	catalogue := &fleet.Catalogue{Hash: "1", Tools: [][]byte{[]byte(`{"name":"read_file"}`), []byte(`{"name":"delete_file"}`)}}
	writes := uint64(0)
	look := func(c *fleet.Catalogue, spec fleet.Spec) {
		writes++
		names.check(&desired.State{Servers: map[fleet.ServerName]*desired.Server{
			"files": {Spec: spec, Written: writes, Revision: 1, Revisions: []desired.Revision{{Number: 1, Catalogue: c}}},
		}})
	}
	expect := func(want ...string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("got %q\nwant %q", got, want)
		}
		got = nil
	}
	mistyped := fleet.Spec{DisabledTools: []string{"delete_fil", "read_file"}}
	look(nil, mistyped) // its tools are not known
	expect()
	look(catalogue, fleet.Spec{DefaultTool: "read_file", EnabledTools: []string{"read_file"}, DisabledTools: []string{"delete_file"}})
	look(catalogue, fleet.Spec{})
	expect()
	look(catalogue, mistyped)
	look(catalogue, mistyped)
	expect(`server files: tools.deny names "delete_fil", which is not listed; did you mean "delete_file"?`)
	look(catalogue, fleet.Spec{DefaultTool: "x", EnabledTools: []string{"red_file"}})
	expect(`server files: default_tool names "x", which is not listed, ` +
		`tools.allow names "red_file", which is not listed; did you mean "read_file"?`)
	look(&fleet.Catalogue{Hash: "2", Tools: [][]byte{[]byte(`{"name":"y"}`)}}, mistyped)
	expect(`server files: tools.deny names "delete_fil", which is not listed, ` +
		`tools.deny names "read_file", which is not listed`)
}

// What a gateway or an override cannot do is reported, and so are tools that modern
// clients do not see.
func TestProblemsOfNames(t *testing.T) {
	var got []string
	names := &NameCheck{Log: slog.New(slog.DiscardHandler), Record: func(kind fleet.EventKind, server fleet.ServerName, _ fleet.Revision, message string) {
		got = append(got, string(kind)+" "+string(server)+" "+message)
	}}
	server := func(spec fleet.Spec, tools ...string) *desired.Server {
		c := &fleet.Catalogue{Hash: tools[0]}
		for _, tool := range tools {
			c.Tools = append(c.Tools, []byte(tool))
		}
		return &desired.Server{Spec: spec, Revision: 1, Revisions: []desired.Revision{{Number: 1, Catalogue: c}}}
	}
	st := &desired.State{DefaultServer: "a", Written: 1, Servers: map[fleet.ServerName]*desired.Server{
		"a": server(fleet.Spec{DefaultTool: "get", ToolOverrides: map[string]fleet.ToolOverride{"fetch": {Rename: "get"}, "read": {Rename: "write"}, "gone": {Title: new("x")}}},
			`{"name":"fetch"}`, `{"name":"read"}`, `{"name":"write"}`),
		"b": server(fleet.Spec{}, `{"name":"ask","inputSchema":{"type":"object","properties":{"q":{"type":"string","x-mcp-header":""}}}}`),
	}, Gateways: map[fleet.GatewayName]fleet.Gateway{
		"fine": {Servers: []fleet.ServerName{"a", "b"}, Tools: fleet.Tools{Allow: []string{"get", "a__read", "b__ask"}, Deny: []string{"a__get"}}},
		"g": {Servers: []fleet.ServerName{"a", "b"}, Tools: fleet.Tools{
			Allow: []string{"b__ask", "read", "get"}, Deny: []string{"b__aks"}, Overrides: map[string]fleet.ToolOverride{"b__ask": {Rename: "read"}},
		}},
	}}
	names.check(st)
	want := []string{
		`unknown_tool a server a: tools.overrides names "gone", which is not listed, tools.overrides.read.rename: another tool has the name "write"`,
		`invalid_tool b server b: tool "ask" is left out for modern clients: `,
		`unknown_tool  gateway g: tools.deny names "b__aks", which is not listed; did you mean "b__ask"?, tools.overrides.b__ask.rename: another tool has the name "read"`,
	}
	if len(got) != len(want) {
		t.Fatalf("got %q\nwant %q", got, want)
	}
	for i, w := range want {
		if !strings.HasPrefix(got[i], w) {
			t.Errorf("got %q\nwant %q", got[i], w)
		}
	}
	names.check(st)
	if len(got) != len(want) {
		t.Errorf("reported again: %q", got[len(want):])
	}
}
