package fleetfile

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const toolsAndGateways = `
default_server: a
servers:
  a:
    image: x
    default_tool: get
    tools:
      overrides:
        fetch: {rename: get, title: T, description: "D $$1", annotations: {title: A, readOnlyHint: true, destructiveHint: "false", idempotentHint: True, openWorldHint: false}}
        b:
      allow: [fetch, b, b]
      deny: [c]
  b:
    image: x
    enabled_tools: [a]
    tools: {deny: [b]}
gateways:
  both:
    servers: [b, a]
    tools: {allow: [get, a__x, b__a], overrides: {b__a: {rename: get_all}}}
  lone: {servers: [b], tools: {deny: [a]}}
`

func TestToolsAndGateways(t *testing.T) {
	f := mustParse(t, "f.yaml", toolsAndGateways)
	want := fleet.Tools{Allow: []string{"fetch", "b"}, Deny: []string{"c"}, Overrides: map[string]fleet.ToolOverride{"fetch": {
		Rename: "get", Title: new("T"), Description: new("D $1"),
		Annotations: fleet.ToolAnnotations{Title: new("A"), ReadOnly: new(true), Destructive: new(false), Idempotent: new(true), OpenWorld: new(false)},
	}}}
	a, b := f.Servers["a"], f.Servers["b"]
	if got := a.Tools(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := b.Tools(); !slices.Equal(got.Allow, []string{"a"}) || !slices.Equal(got.Deny, []string{"b"}) {
		t.Errorf("got %+v", got)
	}
	if got, want := f.Gateways["both"], (fleet.Gateway{Servers: []fleet.ServerName{"b", "a"}, Tools: fleet.Tools{
		Allow: []string{"get", "a__x", "b__a"}, Overrides: map[string]fleet.ToolOverride{"b__a": {Rename: "get_all"}},
	}}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	data, err := Encode(f)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ParseLiteral(data, Options{}); err != nil || !reflect.DeepEqual(again, f) {
		t.Errorf("%v\ngot  %+v\nwant %+v\nfrom %s", err, again, f, data)
	}
	if strings.Contains(string(data), "abled_tools") {
		t.Errorf("a former name is shown: %s", data)
	}
}

func TestToolsErrors(t *testing.T) {
	tools := func(text string) string { return "servers: {x: {image: x, tools: " + text + "}}" }
	gateways := func(text string) string {
		return "default_server: a\nservers: {a: {image: x}, b: {image: x}, c: {image: x}}\ngateways: " + text
	}
	for _, tt := range []struct{ name, text, want string }{
		{"nothing allowed", tools("{allow: []}"), "1:40: servers.x.tools.allow: must name a tool; leave it out to offer all of them"},
		{"an unknown key", tools("{alow: [a]}"), "1:33: servers.x.tools.alow: unknown key; did you mean allow?"},
		{"a list", tools("[a]"), "1:32: servers.x.tools: must be a mapping of keys to values, not a list"},
		{"an unknown key of an override", tools("{overrides: {a: {name: b}}}"), "1:49: servers.x.tools.overrides.a.name: unknown key; did you mean rename?"},
		{"an unknown annotation", tools("{overrides: {a: {annotations: {readonlyHint: true}}}}"), "1:63: servers.x.tools.overrides.a.annotations.readonlyHint: unknown key; did you mean readOnlyHint?"},
		{"a hint that is no flag", tools("{overrides: {a: {annotations: {readOnlyHint: 7}}}}"), `1:77: servers.x.tools.overrides.a.annotations.readOnlyHint: must be true or false, not "7"`},
		{"no name", tools("{overrides: {a: {rename: b c}}}"), "1:57: servers.x.tools.overrides.a.rename: the name of a tool has at most 128 letters, digits, hyphens, underscores, dots and slashes"},
		{"two of one name", tools("{overrides: {a: {rename: c}, b: {rename: c}}}"), "1:73: servers.x.tools.overrides.b.rename: the tool a is renamed to this as well"},
		{"a name that is allowed", tools("{overrides: {a: {rename: b}}, allow: [a, b]}"), "1:57: servers.x.tools.overrides.a.rename: allow names a tool that has this name"},
		{"a name that another override has", tools("{overrides: {a: {rename: b}, b: {title: B}}}"), "1:57: servers.x.tools.overrides.a.rename: the tool that overrides names so has this name"},
		{"two that swap", tools("{overrides: {a: {rename: b}, b: {rename: a}}, allow: [a, b]}"), ""},
		{"one list by two names", "servers: {x: {image: x, disabled_tools: [a], tools: {deny: [b]}}}", "1:41: servers.x.disabled_tools: is the same as tools.deny; leave one of the two out"},
		{"a renamed default tool", "servers: {x: {image: x, default_tool: b, tools: {deny: [a], overrides: {a: {rename: b}}}}}", "1:39: servers.x.default_tool: the tool is switched off by tools.deny"},

		{"a gateway to nowhere", gateways("{g: {servers: [a, d]}}"), `3:29: gateways.g.servers[1]: there is no server named "d"; did you mean a?`},
		{"an empty gateway", gateways("{g: {servers: []}}"), "3:12: gateways.g.servers: is missing: a gateway needs a server"},
		{"a gateway of nothing", gateways("{g: {tools: {deny: [x]}}}"), "3:12: gateways.g.servers: is missing: a gateway needs a server"},
		{"a server twice", gateways("{g: {servers: [a, a]}}"), "3:29: gateways.g.servers[1]: is listed already"},
		{"a bad name", gateways("{G_1: {servers: [a]}}"), "3:12: gateways.G_1: a gateway's name consists of at most 63 lower case letters, digits and inner hyphens"},
		{"a later key", gateways("{g: {servers: [a], auth: x}}"), "3:30: gateways.g.auth: not supported yet"},
		{"a bare name without the default server", gateways("{g: {servers: [b, c], tools: {deny: [x]}}}"),
			"3:48: gateways.g.tools.deny[0]: must be server__tool, because the default server is not among the servers of the gateway"},
		{"a name of another server", gateways("{g: {servers: [b, c], tools: {overrides: {a__x: {title: T}}}}}"), `3:53: gateways.g.tools.overrides.a__x: the gateway has no server named "a"`},
		{"names of a lone server", gateways("{g: {servers: [b], tools: {deny: [x, b__y]}}}"), ""},
		{"a mistyped section", "servers: {a: {image: x}}\ngateway: {}", "2:1: gateway: unknown key; did you mean gateways?"},
		{"a server with an error is not missed", "servers: {a: {image: x, replicas: -1}}\ngateways: {g: {servers: [a]}}", `1:35: servers.a.replicas: must be between 0 and 10000, not "-1"`},
	} {
		_, err := Parse([]byte(tt.text), Options{Filename: "f.yaml"})
		got := ""
		if err != nil {
			got = strings.TrimPrefix(err.Error(), "f.yaml:")
		}
		if got != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

// A file of any size is refused before it has cost much.
func TestToolsAndGatewaysAreBounded(t *testing.T) {
	file := func(overrides, gateways int) string {
		var b strings.Builder
		b.WriteString("servers:\n  x:\n    image: x\n    tools:\n      overrides:\n")
		for i := range overrides {
			fmt.Fprintf(&b, "        t%d: {title: T}\n", i)
		}
		b.WriteString("gateways:\n")
		for i := range gateways {
			fmt.Fprintf(&b, "  g%d: {servers: [x]}\n", i)
		}
		return b.String()
	}
	if f := mustParse(t, "f.yaml", file(maxOverrides, maxGateways)); len(f.Gateways) != maxGateways || len(f.Servers["x"].ToolOverrides) != maxOverrides {
		t.Errorf("got %d gateways and %d overrides", len(f.Gateways), len(f.Servers["x"].ToolOverrides))
	}
	for text, want := range map[string]string{
		file(maxOverrides+1, 1): "must have at most 1000 tools, not 1001", file(1, maxGateways+1): "a fleet has at most 100 gateways, not 101",
	} {
		if _, err := parse(t, "f.yaml", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %.300v, want %q", err, want)
		}
	}
}

// In a client's file the key tools may be the client's list, or ours.
func TestToolsOfClients(t *testing.T) {
	for _, tt := range []struct {
		text string
		want fleet.Tools
		warn string
	}{
		{`{"tools": ["a", "b"], "disabledTools": ["c"]}`, fleet.Tools{Allow: []string{"a", "b"}, Deny: []string{"c"}}, ""},
		{`{"tools": "*"}`, fleet.Tools{}, ""},
		{`{"tools": {"deny": ["a"], "overrides": {"b": {"rename": "c"}}}, "disabledTools": ["d"]}`,
			fleet.Tools{Deny: []string{"a", "d"}, Overrides: map[string]fleet.ToolOverride{"b": {Rename: "c"}}}, ""},
		{`{"tools": {"a": {"enabled": false}}}`, fleet.Tools{}, "tools"}, // fastmcp
	} {
		text := `{"mcpServers": {"x": {"command": "y", ` + strings.TrimPrefix(tt.text, "{") + `}}`
		f, err := Parse([]byte(text), Options{Filename: "f.json"})
		if err != nil {
			t.Fatalf("%s: %v", tt.text, err)
		}
		spec, warned := f.Servers["x"], ""
		for _, w := range f.Warnings {
			warned += w.Msg
		}
		if got := spec.Tools(); !reflect.DeepEqual(got, tt.want) || strings.Contains(warned, "tools") != (tt.warn != "") {
			t.Errorf("%s: got %+v, %q; want %+v", tt.text, got, warned, tt.want)
		}
	}
	f, err := Parse([]byte(`{"mcpServers": {"My Files": {"command": "y"}, "far": {"url": "http://x"}}, "gateways": {"g": {"servers": ["My Files", "far"]}, "h": {"servers": ["far"]}}}`), Options{Filename: "f.json"})
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Gateways) != 1 || !slices.Equal(f.Gateways["g"].Servers, []fleet.ServerName{"my-files"}) {
		t.Errorf("got %+v, %v", f.Gateways, f.Warnings)
	}
}
