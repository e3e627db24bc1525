package events

import (
	"errors"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/desired"
)

func TestApplied(t *testing.T) {
	change := desired.Change{Server: "s", Kind: desired.Scaled}
	for _, tt := range []struct {
		name          string
		result        desired.Result
		kind, message string // "": nothing is recorded
	}{
		{"a server", desired.Result{Changes: []desired.Change{{
			Server: "s", Kind: desired.Updated, Revision: 3, Fields: []desired.Difference{{Field: "image"}, {Field: "args"}},
		}}}, "server_updated", "server s updated: revision 3 (image, args)"},
		{"in two words", desired.Result{Changes: []desired.Change{{Server: "s", Kind: desired.RolledBack, Revision: 4}}}, "server_rolled_back", "server s rolled back: revision 4"},
		{"without a revision", desired.Result{Changes: []desired.Change{change}}, "server_scaled", "server s scaled"},
		{"a node", desired.Result{Changes: []desired.Change{{Node: "n", Kind: desired.Cordoned}}}, "node_cordoned", "node n cordoned"},
		{"nothing changed", desired.Result{}, "", ""},
		{"refused", desired.Result{Err: errors.New("no"), Changes: []desired.Change{change}}, "", ""},
		{"repeated", desired.Result{Repeated: true, Changes: []desired.Change{change}}, "", ""},
	} {
		l := New(10)
		l.Lead(1)
		l.Applied(tt.result)
		var got Event
		if list, _ := l.Since(""); len(list) > 0 {
			got = list[0]
		}
		if string(got.Kind) != tt.kind || got.Message != tt.message {
			t.Errorf("%s: recorded %q %q, want %q %q", tt.name, got.Kind, got.Message, tt.kind, tt.message)
		}
	}
}
