package catalogue

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// An override replaces what it names, and leaves every other byte as it is.
func TestOverrideBytes(t *testing.T) {
	const raw = `{ "name":"a", "inputSchema":{"type":"object" ,"big":12345678901234567890},"annotations":{"readOnlyHint":true, "q":[1e400]},"x":"\u00fc" }`
	for _, tt := range []struct {
		name, raw string
		override  fleet.ToolOverride
		want      string
		safe      bool // to run twice
	}{
		{"nothing", raw, fleet.ToolOverride{}, raw, true},
		{"its name", raw, fleet.ToolOverride{Rename: "b"}, strings.Replace(raw, `"name":"a"`, `"name":"b"`, 1), true},
		{"a hint", raw, fleet.ToolOverride{Annotations: fleet.ToolAnnotations{ReadOnly: new(false)}}, strings.Replace(raw, `Hint":true`, `Hint":false`, 1), false},
		{"a new hint", raw, fleet.ToolOverride{Annotations: fleet.ToolAnnotations{Destructive: new(false)}}, strings.Replace(raw, `{"readOnly`, `{"destructiveHint":false,"readOnly`, 1), true},
		{"a new description", raw, fleet.ToolOverride{Description: new("<\"ü\">\n")}, `{"description":"<\"ü\">\n",` + raw[1:], true},
		{
			"an old one", `{"name":"a","description":"old","title":null}`, fleet.ToolOverride{Description: new("new"), Title: new("T")},
			`{"name":"a","description":"new","title":"T"}`, false,
		},
		{
			"annotations that are none", `{"name":"a","annotations":7}`, fleet.ToolOverride{Annotations: fleet.ToolAnnotations{Title: new("T"), Idempotent: new(true)}},
			`{"name":"a","annotations":{"idempotentHint":true,"title":"T"}}`, true,
		},
		{"a duplicate", `{"name":"x","name":"a","description":"1","description":"2"}`, fleet.ToolOverride{Description: new("3"), Rename: "b"}, `{"name":"b","description":"3"}`, false},
	} {
		w, c := world{}, New(nil)
		server := w.full("s", fleet.Catalogue{Tools: [][]byte{[]byte(tt.raw)}})
		server.Tools.Overrides = map[string]fleet.ToolOverride{"a": tt.override}
		c.Update(Source{Lookup: w.lookup, Servers: []Server{server}})
		for _, scope := range []fleet.Scope{"", "s"} {
			v, err := c.View(scope)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(v.List(mcp.MethodToolsList, true).Items); got != "["+tt.want+"]" {
				t.Errorf("%s at %q: got  %s\nwant %s", tt.name, scope, got, tt.want)
			}
			tool, err := c.Resolve(scope, "a") // also once it is renamed
			d, errOfView := v.Tool("a")
			if err != nil || errOfView != nil || tool.Name != "a" || tool.Repeatable() != tt.safe || d.Idempotent != tt.safe {
				t.Errorf("%s at %q: got %+v, %+v, %v, %v", tt.name, scope, tool, d, err, errOfView)
			}
		}
	}
}

// Two tools never get one name, and none is lost.
func TestRenames(t *testing.T) {
	rename := func(pairs ...string) map[string]fleet.ToolOverride {
		out := make(map[string]fleet.ToolOverride)
		for i := 0; i < len(pairs); i += 2 {
			out[pairs[i]] = fleet.ToolOverride{Rename: pairs[i+1]}
		}
		return out
	}
	for _, tt := range []struct {
		name  string
		tools fleet.Tools
		want  string // listed names
	}{
		{"a free name", fleet.Tools{Overrides: rename("a", "x")}, "[x b c]"},
		{"a taken name", fleet.Tools{Overrides: rename("a", "b")}, "[a b c]"},
		{"a name that is switched off", fleet.Tools{Deny: []string{"b"}, Overrides: rename("a", "b")}, "[b c]"},
		{"two that swap", fleet.Tools{Overrides: rename("a", "b", "b", "a")}, "[b a c]"},
		{"a ring", fleet.Tools{Overrides: rename("a", "b", "b", "c", "c", "a")}, "[b c a]"},
		{"a chain that ends at a taken name", fleet.Tools{Overrides: rename("a", "b", "b", "c")}, "[a b c]"},
		{"twice the same", fleet.Tools{Overrides: rename("a", "x", "b", "x")}, "[x b c]"},
		{"its own name", fleet.Tools{Overrides: rename("a", "a")}, "[a b c]"},
		{"no tool of that name", fleet.Tools{Overrides: rename("z", "a")}, "[a b c]"},
	} {
		w, c := world{}, New(nil)
		server := w.full("s", fleet.Catalogue{Tools: tools("a", "b", "c")})
		server.Tools = tt.tools
		c.Update(Source{Lookup: w.lookup, Servers: []Server{server}})
		list, err := c.Tools("s")
		if got := fmt.Sprint(toolNames(t, list)); err != nil || got != tt.want {
			t.Errorf("%s: got %s, %v; want %s", tt.name, got, err, tt.want)
		}
	}
}

// A gateway has its servers alone, on top of what they offer, and no way around it.
func TestGateway(t *testing.T) {
	w, c := world{}, New(nil)
	a := w.full("a", fleet.Catalogue{Tools: tools("find", "drop")})
	a.DefaultTool = "find"
	b := w.full("b", fleet.Catalogue{Tools: tools("find", "read", "write")})
	b.Tools = fleet.Tools{Deny: []string{"write"}, Overrides: map[string]fleet.ToolOverride{"read": {Rename: "get"}}}
	w["b-old"] = &fleet.Catalogue{Hash: "b-old", Tools: tools("old", "older")} // of replicas that an update has not replaced yet
	b.Offers = append(b.Offers, Offer{Revision: 0, Hash: "b-old"})
	source := Source{Default: "a", Lookup: w.lookup, Servers: []Server{a, b, w.full("c", fleet.Catalogue{Tools: tools("secret")})}}
	source.Gateways = map[fleet.GatewayName]fleet.Gateway{
		"ab": {Servers: []fleet.ServerName{"b", "a"}, Tools: fleet.Tools{
			Deny: []string{"a__drop", "b__old"}, Overrides: map[string]fleet.ToolOverride{"b__get": {Rename: "fetch", Description: new("D")}},
		}},
		"bc":   {Servers: []fleet.ServerName{"b", "c"}, Tools: fleet.Tools{Allow: []string{"b__find"}}},
		"lone": {Servers: []fleet.ServerName{"b"}, Tools: fleet.Tools{Allow: []string{"find", "b__get"}}},
	}
	c.Update(source)
	for _, tt := range []struct {
		scope fleet.Scope
		want  string
	}{{"g/ab", "[find b__find fetch]"}, {"g/bc", "[b__find]"}, {"g/lone", "[find get]"}, {"", "[find drop b__find b__get c__secret]"}} {
		list, err := c.Tools(tt.scope)
		if got := fmt.Sprint(toolNames(t, list)); err != nil || got != tt.want {
			t.Errorf("%s: got %s, %v; want %s", tt.scope, got, err, tt.want)
		}
		v, err := c.View(tt.scope)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(listed(t, v, mcp.MethodToolsList)); got != tt.want {
			t.Errorf("%s: MCP lists %s, want %s", tt.scope, got, tt.want)
		}
	}
	for _, tt := range []struct {
		scope fleet.Scope
		name  string
		want  string // server and own name; "" if there is none
	}{
		{"g/ab", "fetch", "b read"}, {"g/ab", "b__get", "b read"}, {"g/ab", "b__read", "b read"}, {"g/ab", "read", "b read"}, {"g/ab", "a__find", "a find"},
		{"g/ab", "b__older", "b older"}, {"g/ab", "b__old", ""}, {"g/bc", "b__old", ""}, {"", "b__old", "b old"},
		{"g/ab", "drop", ""}, {"g/ab", "a__drop", ""}, {"g/ab", "write", ""}, {"g/ab", "c__secret", ""}, {"g/ab", "secret", ""},
		{"g/bc", "find", "b find"}, {"g/bc", "b__get", ""}, {"g/bc", "get", ""}, {"g/bc", "c__secret", ""},
		{"g/lone", "get", "b read"}, {"g/lone", "b__find", "b find"},
	} {
		tool, err := c.Resolve(tt.scope, tt.name)
		v, _ := c.View(tt.scope)
		d, errOfView := v.Tool(tt.name)
		if tt.want == "" {
			if !errors.Is(err, fleet.ErrUnknownTool) || !errors.Is(errOfView, fleet.ErrUnknownTool) {
				t.Errorf("%s at %s: got %+v, %+v, %v, %v; want none", tt.name, tt.scope, tool, d, err, errOfView)
			}
			continue
		}
		if got := fmt.Sprint(tool.Server, " ", tool.Name); err != nil || got != tt.want || errOfView != nil || fmt.Sprint(d.Server, " ", d.Name) != tt.want {
			t.Errorf("%s at %s: got %s, %+v, %v, %v; want %s", tt.name, tt.scope, got, d, err, errOfView, tt.want)
		}
	}
	if tool, err := c.Default("g/ab"); err != nil || tool.Server != "a" || tool.Name != "find" {
		t.Errorf("default tool: got %+v, %v", tool, err)
	}
	if _, err := c.Default("g/bc"); !errors.Is(err, fleet.ErrNoDefaultTool) {
		t.Errorf("default tool without a default server: %v", err)
	}
	if _, err := c.Tools("g/ba"); !errors.Is(err, fleet.ErrUnknownGateway) || !strings.Contains(err.Error(), "ab") {
		t.Errorf("unknown gateway: %v", err)
	}
	before := c.snap.Load()
	c.Update(source)
	if c.snap.Load() != before {
		t.Error("nothing changed, and there is a new snapshot")
	}
}
