package events

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
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
		{"scaled by load", desired.Result{Changes: []desired.Change{{
			Server: "s", Kind: desired.Scaled, Revision: 3, Fields: []desired.Difference{{Field: "replicas", From: "1", To: "4"}}, Reason: "8 calls",
		}}}, "server_scaled", "server s scaled from 1 to 4: 8 calls"},
		{"a failure", desired.Result{Changes: []desired.Change{{
			Server: "s", Kind: desired.RolledBack, Revision: 1, Fields: []desired.Difference{{Field: "image"}}, Reason: "revision 2 failed: exit code 1",
		}}}, "server_rolled_back", "server s rolled back: revision 1 (image): revision 2 failed: exit code 1"},
		{"a hold", desired.Result{Changes: []desired.Change{{Server: "s", Kind: desired.RolloutHeld, Revision: 2, Reason: "tool t is gone"}}},
			"server_rollout_held", "server s rollout held: revision 2: tool t is gone"},
		{"a node", desired.Result{Changes: []desired.Change{{Node: "n", Kind: desired.Cordoned}}}, "node_cordoned", "node n cordoned"},
		{"a gateway", desired.Result{Changes: []desired.Change{{Gateway: "g", Kind: desired.GatewaySet, Fields: []desired.Difference{{Field: "servers"}}}}}, "gateway_set", "gateway g set (servers)"},
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

// Every kind of change has an event.
func TestKindsOfChanges(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../desired/change.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if name, ok := spec.Type.(*ast.Ident); !ok || name.Name != "ChangeKind" {
			return true
		}
		found++
		text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if event := kinds[desired.ChangeKind(text)]; err != nil || string(event) != "server_"+text && string(event) != "node_"+text && (string(event) != text || !strings.HasPrefix(text, "gateway_")) {
			t.Errorf("the event of %q is %q, %v", text, event, err)
		}
		return true
	})
	if found != len(kinds) {
		t.Errorf("found %d kinds of changes, want %d", found, len(kinds))
	}
}
