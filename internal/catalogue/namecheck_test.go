package catalogue

import (
	"log/slog"
	"slices"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// A tool that a spec names and the server does not list is most likely
// mistyped. It is reported once, with the nearest name.
func TestUnlistedTools(t *testing.T) {
	var got []string
	names := &NameCheck{Log: slog.New(slog.DiscardHandler), Record: func(server fleet.ServerName, revision fleet.Revision, message string) {
		if server != "files" || revision != 1 {
			t.Errorf("event of server %s, revision %d", server, revision)
		}
		got = append(got, message)
	}}
	catalogue := &fleet.Catalogue{Hash: "1", Tools: [][]byte{[]byte(`{"name":"read_file"}`), []byte(`{"name":"delete_file"}`)}}
	look := func(c *fleet.Catalogue, spec fleet.Spec) {
		names.check(&desired.State{Servers: map[fleet.ServerName]*desired.Server{
			"files": {Spec: spec, Revision: 1, Revisions: []desired.Revision{{Number: 1, Catalogue: c}}},
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
	expect(`server files: tools.deny names "delete_fil", which the server does not list; did you mean "delete_file"?`)
	look(catalogue, fleet.Spec{DefaultTool: "x", EnabledTools: []string{"red_file"}})
	expect(`server files: default_tool names "x", which the server does not list, ` +
		`tools.allow names "red_file", which the server does not list; did you mean "read_file"?`)
	look(&fleet.Catalogue{Hash: "2", Tools: [][]byte{[]byte(`{"name":"y"}`)}}, mistyped)
	expect(`server files: tools.deny names "delete_fil", which the server does not list, ` +
		`tools.deny names "read_file", which the server does not list`)
}
