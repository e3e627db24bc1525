package catalogue

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// full returns a server with a whole catalogue.
func (w world) full(name fleet.ServerName, c fleet.Catalogue) Server {
	c.Hash = string(name)
	w[c.Hash] = &c
	return Server{Name: name, Offers: []Offer{{Revision: 1, Hash: c.Hash}}}
}

func raws(format string, of ...string) (list [][]byte) {
	for _, one := range of {
		list = append(list, fmt.Appendf(nil, format, one))
	}
	return list
}

func tools(names ...string) [][]byte {
	return raws(`{"name":%q,"inputSchema":{"type":"object"}}`, names...)
}
func prompts(names ...string) [][]byte   { return raws(`{"name":%q}`, names...) }
func resources(uris ...string) [][]byte  { return raws(`{"uri":%q,"name":"n"}`, uris...) }
func templates(texts ...string) [][]byte { return raws(`{"uriTemplate":%q,"name":"n"}`, texts...) }

// listed returns the names or URIs of a list.
func listed(t *testing.T, v *View, method string) (ids []string) {
	t.Helper()
	err := mcp.Elements(v.List(method, false).Items, func(raw []byte) bool {
		for _, key := range []string{"uriTemplate", "uri", "name"} {
			if found, err := mcp.Fields(raw, key); err == nil && found[0] != nil {
				id, _ := mcp.String(found[0])
				ids = append(ids, id)
				return true
			}
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// codeOf returns the code of an error, "" for none.
func codeOf(err error) string {
	if err == nil {
		return ""
	}
	_, code := api.Outcome(err)
	return code
}

func TestMergedView(t *testing.T) {
	w := world{}
	c := New(nil)
	c.Update(Source{Default: "main", Lookup: w.lookup, Servers: []Server{
		w.full("main", fleet.Catalogue{
			Tools: tools("search"), Prompts: prompts("ask"), Resources: resources("file:///a", "mem://1"), Templates: templates("file:///{path}"),
			Capabilities: []byte(`{"tools":{},"resources":{"subscribe":true},"prompts":{}}`), Instructions: "Search first.\n",
		}),
		w.full("zoo", fleet.Catalogue{
			Tools: tools("search", "feed"), Prompts: prompts("ask", "pet"), Resources: resources("file:///a", "zoo://1"), Templates: templates("file:///{name}", "zoo://{id}"),
			Capabilities: []byte(`{"tools":{"listChanged":false},"resources":{},"prompts":{},"completions":{},"tasks":{"list":{},"cancel":{}},"extensions":{"a/b":{},"io.modelcontextprotocol/tasks":{}}}`),
		}),
		{Name: "slow", Reason: "1 starting"},
	}})
	v, err := c.View("")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		method string
		want   []string
	}{
		{mcp.MethodToolsList, []string{"search", "zoo__search", "zoo__feed"}},
		{mcp.MethodPromptsList, []string{"ask", "zoo__ask", "zoo__pet"}},
		{mcp.MethodResourcesList, []string{"file:///a", "mem://1", "mcpfleet+zoo:file:///a", "zoo://1"}},
		{mcp.MethodResourceTemplates, []string{"file:///{path}", "mcpfleet+zoo:file:///{name}", "zoo://{id}"}},
	} {
		if got := listed(t, v, tt.method); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.method, got, tt.want)
		}
		if got, want := string(v.List(tt.method, true).Meta), `"mcpfleet/missing":[{"server":"slow","reason":"1 starting"}]`; got != want {
			t.Errorf("%s: got %s, want %s", tt.method, got, want)
		}
	}
	want := `{"extensions":{"a/b":{}},"tasks":{"cancel":{}},"completions":{},"tools":{"listChanged":true},"resources":{"subscribe":true,"listChanged":true},"prompts":{"listChanged":true}}`
	if got := string(v.Info().Capabilities); got != want {
		t.Errorf("capabilities: got %s, want %s", got, want)
	}
	if got := v.Info().Instructions; got != "# main\n\nSearch first." {
		t.Errorf("instructions: got %q", got)
	}
	if all, err := v.Resources("mcpfleet+zoo:file:///a"); err != nil || all[0].Server != "zoo" || all[0].Name != "file:///a" {
		t.Errorf("got %+v, %v", all, err)
	}
	all, err := v.Resources("mcpfleet+none:file:///a") // what has the form of a prefix may be a server's own
	if err != nil || all[0].Server != "zoo" && all[0].Server != "main" || all[0].Name != "mcpfleet+none:file:///a" {
		t.Errorf("a prefix that names no server: got %+v, %v", all, err)
	}
}

// Instructions that do not fit are left out, and those of other servers stay.
func TestLongInstructions(t *testing.T) {
	w, c := world{}, New(nil)
	server := func(name fleet.ServerName, length int) Server {
		return w.full(name, fleet.Catalogue{Instructions: strings.Repeat("x", length)})
	}
	c.Update(Source{Lookup: w.lookup, Servers: []Server{server("a", 20<<10), server("b", 20<<10), server("c", 5)}})
	v, err := c.View("")
	if err != nil {
		t.Fatal(err)
	}
	got := v.Info().Instructions
	if !strings.HasPrefix(got, "# a\n\nxxx") || !strings.HasSuffix(got, "# c\n\nxxxxx\n\nLeft out for their length: the instructions of b") {
		t.Errorf("got %.20s ... %s", got, got[len(got)-80:])
	}
}

// Hints are the least that all servers allow.
func TestMergedHints(t *testing.T) {
	modern := func(ttl int64, scope string) fleet.Catalogue {
		return fleet.Catalogue{Era: fleet.EraModern, Versions: []string{"2026-07-28"}, Hints: map[string]fleet.CacheHint{mcp.MethodToolsList: {TTLMs: ttl, Scope: scope}}}
	}
	for _, tt := range []struct {
		name    string
		servers []fleet.Catalogue
		private bool // of the first one
		missing bool
		want    fleet.CacheHint
	}{
		{"one", []fleet.Catalogue{modern(500, "public")}, false, false, fleet.CacheHint{TTLMs: 500, Scope: "public"}},
		{"the least", []fleet.Catalogue{modern(500, "public"), modern(20, "public")}, false, false, fleet.CacheHint{TTLMs: 20, Scope: "public"}},
		{"one is private", []fleet.Catalogue{modern(500, "public"), modern(900, "private")}, false, false, fleet.CacheHint{TTLMs: 500, Scope: "private"}},
		{"one says nothing", []fleet.Catalogue{modern(500, "public"), modern(500, "")}, false, false, fleet.CacheHint{TTLMs: 500, Scope: "private"}},
		{"a negative one", []fleet.Catalogue{modern(-5, "public")}, false, false, fleet.CacheHint{Scope: "public"}},
		{"a legacy one", []fleet.Catalogue{modern(500, "public"), {}}, false, false, fleet.CacheHint{Scope: "public"}},
		{"sessions of its own", []fleet.Catalogue{{}}, true, false, fleet.CacheHint{Scope: "private"}},
		{"one is missing", []fleet.Catalogue{modern(500, "public")}, false, true, fleet.CacheHint{Scope: "public"}},
	} {
		w, c := world{}, New(nil)
		source := Source{Lookup: w.lookup}
		for i, catalogue := range tt.servers {
			server := w.full(fleet.ServerName(fmt.Sprint("s", i)), catalogue)
			server.Private = tt.private
			source.Servers = append(source.Servers, server)
		}
		if tt.missing {
			source.Servers = append(source.Servers, Server{Name: "slow"})
		}
		c.Update(source)
		v, err := c.View("")
		if err != nil {
			t.Fatal(err)
		}
		if got := v.List(mcp.MethodToolsList, true).Hint; got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// A session's own replica may offer other tools than the one whose catalogue is known.
// What the fleet file says of tools holds for them, too.
func TestToolsOfSessions(t *testing.T) {
	w, c := world{}, New(nil)
	text := "mine"
	server := w.full("s", fleet.Catalogue{Tools: tools("a", "b", "c")})
	server.Private = true
	server.Tools = fleet.Tools{Deny: []string{"a", "later"}, Overrides: map[string]fleet.ToolOverride{"b": {Rename: "x", Description: &text}}}
	c.Update(Source{Lookup: w.lookup, Servers: []Server{server}})
	v, err := c.View("s")
	if err != nil {
		t.Fatal(err)
	}
	for name, own := range map[string]string{"c": "c", "x": "b", "new": "new", "a": "", "later": ""} {
		d, err := v.Tool(name)
		if own == "" {
			if !errors.Is(err, fleet.ErrUnknownTool) {
				t.Errorf("%s: got %+v, %v", name, d, err)
			}
		} else if err != nil || d.Name != own || !d.PerSession {
			t.Errorf("%s: got %+v, %v; want %s", name, d, err, own)
		}
	}
	d, _ := v.Only()
	result := d.Result(mcp.MethodToolsList, []byte(`{"_meta":{"n":9007199254740993},"tools":[{"name":"a"},{"name":"b","n":1.0},{"name":"new","n":9007199254740993}],"nextCursor":"y"}`))
	if want := `{"_meta":{"n":9007199254740993},"tools":[{"description":"mine","name":"x","n":1.0},{"name":"new","n":9007199254740993}],"nextCursor":"y"}`; string(result) != want {
		t.Errorf("got %s\nwant %s", result, want)
	}
	for _, same := range []string{`{"tools":7}`, `{}`, `[]`} {
		if got := string(d.Result(mcp.MethodToolsList, []byte(same))); got != same {
			t.Errorf("%s became %s", same, got)
		}
	}
	server.Private = false
	c.Update(Source{Lookup: w.lookup, Servers: []Server{server}})
	if v, err = c.View("s"); err != nil {
		t.Fatal(err)
	}
	if d, err := v.Tool("new"); !errors.Is(err, fleet.ErrUnknownTool) {
		t.Errorf("shared: got %+v, %v", d, err)
	}
}

// Tools that ask for headers wrongly are not for modern clients. All others show which
// headers they ask for.
func TestHeadersOfTools(t *testing.T) {
	const schema = `{"type":"object","properties":{"r":{"type":"string","x-mcp-header":"Region"}}}`
	w, c := world{}, New(nil)
	c.Update(Source{Lookup: w.lookup, Servers: []Server{w.full("s", fleet.Catalogue{Tools: [][]byte{
		[]byte(`{"name":"asks","inputSchema":` + schema + `}`),
		[]byte(`{"name":"wrong","inputSchema":{"type":"object","properties":{"r":{"type":"number","x-mcp-header":"Region"}}}}`),
		[]byte(`{"name":"plain","inputSchema":{"type":"object"}}`),
	}})}})
	for _, scope := range []fleet.Scope{"", "s"} {
		v, err := c.View(scope)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(listed(t, v, mcp.MethodToolsList)); got != "[asks wrong plain]" {
			t.Errorf("%q: legacy clients see %s", scope, got)
		}
		if got := string(v.List(mcp.MethodToolsList, true).Items); strings.Contains(got, "wrong") || !strings.Contains(got, "asks") || !strings.Contains(got, "plain") {
			t.Errorf("%q: modern clients see %s", scope, got)
		}
		for name, want := range map[string]string{"asks": schema, "plain": ""} {
			if d, err := v.Tool(name); err != nil || string(d.Schema) != want {
				t.Errorf("%q: %s has schema %s, %v; want %s", scope, name, d.Schema, err, want)
			}
		}
	}
}

// The user interface of a tool is found where the tool says, whatever other servers
// have.
func TestUserInterfaces(t *testing.T) {
	w, c := world{}, New(nil)
	server := func(name fleet.ServerName, tool string) Server {
		return w.full(name, fleet.Catalogue{Capabilities: []byte(`{"resources":{}}`), Tools: [][]byte{[]byte(tool)}})
	}
	const a = `{"name":"show","_meta":{"ui":{"resourceUri":"ui://view/1.html","visibility":["app"]},"ui/resourceUri":"ui://view/1.html","n":1e400}}`
	const b = `{"name":"draw","_meta": {"ui": {"resourceUri" : "ui://other"}}}`
	c.Update(Source{Default: "a", Lookup: w.lookup, Servers: []Server{server("a", a), server("b", a), server("c", b)}})
	v, err := c.View("")
	if err != nil {
		t.Fatal(err)
	}
	want := "[" + a + "," + strings.ReplaceAll(strings.Replace(a, `"show"`, `"b__show"`, 1), "ui://view", "ui://mcpfleet+b/view") + "," + strings.Replace(b, `"draw"`, `"c__draw"`, 1) + "]"
	if got := string(v.List(mcp.MethodToolsList, true).Items); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for uri, want := range map[string]string{"ui://view/1.html": "a ui://view/1.html", "ui://mcpfleet+b/view/1.html": "b ui://view/1.html", "ui://other": "c ui://other"} {
		if all, err := v.Resources(uri); err != nil || len(all) != 1 || fmt.Sprint(all[0].Server, " ", all[0].Name) != want {
			t.Errorf("%s: got %+v, %v; want %s", uri, all, err, want)
		}
	}
	if d, err := v.Tool("draw"); err != nil || d.Server != "c" {
		t.Errorf("the app of c calls its tool: %+v, %v", d, err)
	}
}

// A URI that nobody lists is asked for where it is likely, and at no more than
// maxCandidates servers. What is not known yet is not denied.
func TestUnlistedURIs(t *testing.T) {
	w, c := world{}, New(nil)
	source := Source{Lookup: w.lookup}
	for i := range 12 {
		source.Servers = append(source.Servers, w.full(fleet.ServerName(fmt.Sprintf("s%02d", i)), fleet.Catalogue{
			Resources: resources(fmt.Sprintf("x%d:1", i%6)), Templates: templates(fmt.Sprintf("t:%d/{n}", i)),
		}))
	}
	source.Servers = append(source.Servers, w.full("tools-only", fleet.Catalogue{Tools: tools("t")}))
	ask := func(uri string) string {
		v, err := c.View("")
		if err != nil {
			t.Fatal(err)
		}
		all, err := v.Resources(uri)
		var names []string
		for _, d := range all {
			name := strings.TrimPrefix(string(d.Server), "s")
			if d.Guess {
				name += "?"
			}
			names = append(names, name)
			if d.Name != uri && !strings.Contains(uri, "+") {
				t.Errorf("%s is asked for as %s", uri, d.Name)
			}
		}
		return strings.TrimSpace(strings.Join(names, " ") + " " + codeOf(err))
	}
	c.Update(source)
	for uri, want := range map[string]string{
		"x3:1":             "03",
		"x3:2":             "03? 09? 00? 01? 02? 04? 05? 06?",
		"X3:2":             "03? 09? 00? 01? 02? 04? 05? 06?",
		"t:7/a":            "07 00? 01? 02? 03? 04? 05? 06?",
		"else":             "00? 01? 02? 03? 04? 05? 06? 07?",
		"mcpfleet+s11:any": "11",
	} {
		if got := ask(uri); got != want {
			t.Errorf("%s: got %s, want %s", uri, got, want)
		}
	}
	source.Servers = []Server{w.full("tools-only", fleet.Catalogue{Tools: tools("t")}), w.full("more", fleet.Catalogue{})}
	c.Update(source)
	if got := ask("a:1"); got != api.CodeUnknownResource {
		t.Errorf("no server has resources: %s", got)
	}
	source.Servers = append(source.Servers, Server{Name: "slow", Reason: "1 starting"})
	c.Update(source)
	if got := ask("a:1"); got != api.CodeNoReplica {
		t.Errorf("one may have resources: %s", got)
	}
	if got := ask("mcpfleet+slow:a:1"); got != api.CodeNoReplica {
		t.Errorf("its own URI: %s", got)
	}
}
