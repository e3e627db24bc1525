package catalogue

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// corpus returns the catalogues of real servers from npm, by name. Each file has the
// answers to initialize and to the list methods, as the server sent them.
func corpus(t *testing.T) map[fleet.ServerName]fleet.Catalogue {
	t.Helper()
	files, err := filepath.Glob("testdata/*.jsonl")
	if err != nil || len(files) < 8 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	out := make(map[fleet.ServerName]fleet.Catalogue)
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var results [][]byte
		for line := range bytes.Lines(data) {
			found, err := mcp.Fields(line, "result")
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			results = append(results, found[0])
		}
		list := func(i int, key string) (items [][]byte) {
			found, err := mcp.Fields(results[i], key)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if found[0] != nil {
				if err := mcp.Elements(found[0], func(raw []byte) bool { items = append(items, raw); return true }); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
			return items
		}
		init, err := mcp.ParseInitializeResult(results[0])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out[fleet.ServerName(strings.TrimSuffix(filepath.Base(name), ".jsonl"))] = fleet.Catalogue{
			Protocol: init.ProtocolVersion, ServerInfo: init.ServerInfo, Capabilities: init.Capabilities, Instructions: init.Instructions,
			Tools: list(1, "tools"), Resources: list(2, "resources"), Templates: list(3, "resourceTemplates"), Prompts: list(4, "prompts"),
		}
	}
	return out
}

// The lists of one server have its bytes. At the root nothing but names differs, and
// whatever is listed leads back to where it came from.
func TestCorpus(t *testing.T) {
	w, c := world{}, New(nil)
	source := Source{Default: "memory", Lookup: w.lookup}
	all := corpus(t)
	all["twin"] = all["everything"] // all its URIs are those of another server
	for name, catalogue := range all {
		source.Servers = append(source.Servers, w.full(name, catalogue))
	}
	source.Gateways = map[fleet.GatewayName]fleet.Gateway{"both": {Servers: []fleet.ServerName{"everything", "twin"}}}
	c.Update(source)
	for name, catalogue := range all {
		v, err := c.View(fleet.Scope(name))
		if err != nil {
			t.Fatal(err)
		}
		for method, want := range map[string][][]byte{
			mcp.MethodToolsList: catalogue.Tools, mcp.MethodResourcesList: catalogue.Resources,
			mcp.MethodResourceTemplates: catalogue.Templates, mcp.MethodPromptsList: catalogue.Prompts,
		} {
			if got := v.List(method, true).Items; !bytes.Equal(got, array(want)) {
				t.Errorf("%s of %s differs: %.300s", method, name, got)
			}
		}
		if i := v.Info(); !bytes.Equal(i.Capabilities, mcp.WithoutTasksList(catalogue.Capabilities)) || !bytes.Equal(i.ServerInfo, catalogue.ServerInfo) || i.Instructions != catalogue.Instructions {
			t.Errorf("%s: got %+v", name, i)
		}
	}
	for _, scope := range []fleet.Scope{"", "g/both"} {
		v, err := c.View(scope)
		if err != nil {
			t.Fatal(err)
		}
		leadBack(t, v, w)
	}
	root, err := c.View("")
	if err != nil {
		t.Fatal(err)
	}
	listed := 0
	for _, catalogue := range all {
		listed += len(catalogue.Tools)
	}
	got := 0
	_ = mcp.Elements(root.List(mcp.MethodToolsList, false).Items, func([]byte) bool { got++; return true })
	if got != listed {
		t.Errorf("%d tools at the root, want %d", got, listed)
	}
}

// leadBack checks that every name and URI that a view lists leads to the server that
// listed it, under its own name, and that nothing else in the lists has changed.
func leadBack(t *testing.T, v *View, w world) {
	t.Helper()
	check := func(method, key string, raws func(*fleet.Catalogue) [][]byte, find func(string) (fleet.Destination, error)) {
		t.Helper()
		seen := make(map[string]bool)
		err := mcp.Elements(v.List(method, false).Items, func(raw []byte) bool {
			found, err := mcp.Fields(raw, key)
			if err != nil {
				t.Fatal(err)
			}
			id, err := mcp.String(found[0])
			if err != nil || seen[id] {
				t.Errorf("%s lists %q twice, or %v", method, id, err)
			}
			seen[id] = true
			d, err := find(id)
			if err != nil {
				t.Errorf("%s: %q leads nowhere: %v", method, id, err)
				return true
			}
			own, err := mcp.Edit(raw, mcp.Set(key, mcp.AppendString(nil, d.Name)))
			if err != nil {
				t.Fatal(err)
			}
			for _, sent := range raws(w[string(d.Server)]) {
				if bytes.Equal(own, sent) || d.Name == id && bytes.Equal(raw, sent) {
					return true
				}
			}
			t.Errorf("%s: %q leads to %s of %s, which did not send %.300s", method, id, d.Name, d.Server, own)
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	check(mcp.MethodToolsList, "name", func(c *fleet.Catalogue) [][]byte { return c.Tools }, v.Tool)
	check(mcp.MethodPromptsList, "name", func(c *fleet.Catalogue) [][]byte { return c.Prompts }, v.Prompt)
	check(mcp.MethodResourcesList, "uri", func(c *fleet.Catalogue) [][]byte { return c.Resources }, func(uri string) (fleet.Destination, error) {
		all, err := v.Resources(uri)
		if err != nil || len(all) != 1 {
			t.Errorf("%q may be at %d servers, %v", uri, len(all), err)
		}
		return all[0], err
	})
	check(mcp.MethodResourceTemplates, "uriTemplate", func(c *fleet.Catalogue) [][]byte { return c.Templates }, func(text string) (fleet.Destination, error) {
		return v.Ref("ref/resource", text)
	})
}
