package catalogue

import (
	"fmt"
	"slices"
	"testing"

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
			Capabilities: []byte(`{"tools":{"listChanged":false},"resources":{},"prompts":{},"completions":{},"tasks":{"list":{}},"extensions":{"a/b":{},"io.modelcontextprotocol/tasks":{}}}`),
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
	want := `{"extensions":{"a/b":{}},"completions":{},"tools":{"listChanged":true},"resources":{"subscribe":true,"listChanged":true},"prompts":{"listChanged":true}}`
	if got := string(v.Info().Capabilities); got != want {
		t.Errorf("capabilities: got %s, want %s", got, want)
	}
	if got := v.Info().Instructions; got != "# main\n\nSearch first." {
		t.Errorf("instructions: got %q", got)
	}
	if d, err := v.Resource("mcpfleet+zoo:file:///a"); err != nil || d.Server != "zoo" || d.Name != "file:///a" {
		t.Errorf("got %+v, %v", d, err)
	}
}
