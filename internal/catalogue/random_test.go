package catalogue

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// However names, URIs and templates of servers collide: what is listed leads back, a
// URI made from a template leads to the template's server, and so does a link in a
// result once it has been mapped.
func TestRandomCollisions(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		some := func(most int, of ...string) (out []string) {
			for range r.IntN(most + 1) {
				one := of[r.IntN(len(of))]
				if !slices.Contains(out, one) {
					out = append(out, one)
				}
			}
			return out
		}
		w, c := world{}, New(nil)
		source := Source{Lookup: w.lookup, Default: fleet.ServerName([]string{"", "s0", "s1"}[r.IntN(3)]), Gateways: map[fleet.GatewayName]fleet.Gateway{"g": {}}}
		n := 1 + r.IntN(4)
		if source.Default != "" {
			n = max(n, 2)
		}
		for i := range n {
			name := fleet.ServerName(fmt.Sprint("s", i))
			capabilities := []byte(`{"resources":{}}`)
			if r.IntN(4) == 0 {
				capabilities = nil
			}
			server := w.full(name, fleet.Catalogue{
				Capabilities: capabilities,
				Tools:        tools(some(4, "a", "b", "c", "s1__a", "s2__b")...),
				Prompts:      prompts(some(3, "a", "b", "s1__a")...),
				Resources:    resources(some(4, "f:1", "f:2", "F:1", "g:x/1", "ui://v", "ui://w", "mcpfleet+s1:f:1", "ui://mcpfleet+s0/v", "mcpfleet+sx:f:1")...),
				Templates:    templates(some(3, "f:{n}", "g:x/{n}", "g:{+n}", "ui://{v}", "mcpfleet+s1:f:{n}", "h:{n}{?q}")...),
			})
			if r.IntN(2) == 0 {
				server.Tools.Deny = some(1, "a", "b")
				server.Tools.Overrides = map[string]fleet.ToolOverride{"c": {Rename: []string{"b", "d", "s1__a"}[r.IntN(3)]}, "a": {Rename: "c"}}
			}
			source.Servers = append(source.Servers, server)
			g := source.Gateways["g"]
			g.Servers = append(g.Servers, name)
			g.Tools.Overrides = map[string]fleet.ToolOverride{"s1__a": {Rename: "b"}, "s0__b": {Rename: "x"}}
			source.Gateways["g"] = g
		}
		c.Update(source)
		for _, scope := range []fleet.Scope{"", "g/g"} {
			v, err := c.View(scope)
			if err != nil {
				t.Fatal(err)
			}
			leadBack(t, v, w)
			checkTemplates(t, v)
			checkLinks(t, v)
		}
		if t.Failed() {
			t.Fatalf("seed %d: %+v", seed, source.Servers)
		}
	}
}

// checkTemplates expands what is listed, with values that URIs of other servers have.
func checkTemplates(t *testing.T, v *View) {
	t.Helper()
	for _, text := range listed(t, v, mcp.MethodResourceTemplates) {
		d, err := v.Ref("ref/resource", text)
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range []string{"1", "2", "x", "v"} {
			uri := strings.NewReplacer("{n}", value, "{+n}", "x/"+value, "{v}", value, "{?q}", "").Replace(text)
			all, err := v.Resources(uri)
			if err != nil || all[0].Server != d.Server {
				t.Errorf("%s, made from %s of %s, leads to %+v, %v", uri, text, d.Server, all, err)
			}
		}
	}
}

// checkLinks has every server link to listed and to other URIs.
func checkLinks(t *testing.T, v *View) {
	t.Helper()
	for _, srv := range v.servers {
		d := v.to(srv, "tool")
		for _, uri := range []string{"f:1", "f:9", "g:x/1", "ui://v", "none:1", "mcpfleet+s0:f:1", "mcpfleet+s9:f:1"} {
			result := fmt.Appendf(nil, `{"content":[{"type":"resource_link","uri":%q,"n":1e400},{"type":"text","uri":"f:1"}], "x": 1}`, uri)
			mapped := result
			if d.Result != nil {
				mapped = d.Result(mcp.MethodToolsCall, result)
			}
			var link string
			content, err := mcp.Fields(mapped, "content")
			if err != nil {
				t.Fatal(err)
			}
			_ = mcp.Elements(content[0], func(raw []byte) bool {
				found, _ := mcp.Fields(raw, "uri")
				link, _ = mcp.String(found[0])
				return false
			})
			if want := strings.Replace(string(result), fmt.Sprintf("%q", uri), fmt.Sprintf("%q", link), 1); string(mapped) != want {
				t.Errorf("%s became %s", result, mapped)
			}
			if !srv.hasResources() {
				continue // it can only mean a resource of another server
			}
			all, err := v.Resources(link)
			if err != nil || all[0].Server != srv.name || all[0].Name != uri {
				t.Errorf("%s of %s, linked as %s, leads to %+v, %v", uri, srv.name, link, all, err)
			}
		}
	}
}
