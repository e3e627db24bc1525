package bridge

import (
	"maps"
	"net/http"
	"slices"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

func TestModernHeader(t *testing.T) {
	const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}`
	var known tools
	known.learn([]byte(`{"tools":[{"name":"sql","inputSchema":{"type":"object","properties":{
		"region":{"type":"string","x-mcp-header":"Region"},
		"n":{"type":"integer","x-mcp-header":"N"},
		"dry":{"type":"boolean","x-mcp-header":"Dry-Run"},
		"at":{"type":"object","properties":{"zone":{"type":"string","x-mcp-header":"Zone"}}}}}}]}`))
	for _, tt := range []struct {
		name, line string
		want       map[string]string
	}{
		{"a list", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{` + meta + `}}`, map[string]string{"Mcp-Method": "tools/list"}},
		{"a resource", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///ä",` + meta + `}}`,
			map[string]string{"Mcp-Method": "resources/read", "Mcp-Name": "=?base64?ZmlsZTovLy/DpA==?="}},
		{"a task", `{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"t1",` + meta + `}}`, map[string]string{"Mcp-Method": "tasks/get", "Mcp-Name": "t1"}},
		{"a call", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"sql","arguments":{"region":"eu","n":4.2e1,"dry":true,"at":{"zone":" z"}},` + meta + `}}`,
			map[string]string{"Mcp-Method": "tools/call", "Mcp-Name": "sql", "Mcp-Param-Region": "eu", "Mcp-Param-N": "42", "Mcp-Param-Dry-Run": "true", "Mcp-Param-Zone": "=?base64?IHo=?="}},
		{"a call without them", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"sql","arguments":{"region":null,"n":-7,"at":5,"dry":[]},` + meta + `}}`,
			map[string]string{"Mcp-Method": "tools/call", "Mcp-Name": "sql", "Mcp-Param-N": "-7"}},
		{"a call without arguments", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"sql",` + meta + `}}`,
			map[string]string{"Mcp-Method": "tools/call", "Mcp-Name": "sql"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := parse([]byte(tt.line))
			if err != nil {
				t.Fatal(err)
			}
			name, _, _ := mcp.Target(m.method, m.env.Params)
			got := map[string]string{}
			for key := range modernHeader(m, known.of(name)) {
				got[key] = modernHeader(m, known.of(name)).Get(key)
			}
			tt.want["Content-Type"], tt.want["Accept"], tt.want[mcp.HeaderVersion] = "application/json", "application/json, text/event-stream", "2026-07-28"
			want := map[string]string{}
			for key, value := range tt.want {
				want[http.CanonicalHeaderKey(key)] = value
			}
			if !maps.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestToolsAreLearntAgain(t *testing.T) {
	var known tools
	known.learn([]byte(`{"tools":[{"name":"a","inputSchema":{"properties":{"p":{"type":"string","x-mcp-header":"P"}}}},{"name":5},{}]}`))
	if got := known.of("a"); len(got) != 1 || got[0].Name != "P" || !slices.Equal(got[0].Path, []string{"p"}) {
		t.Errorf("got %v", got)
	}
	known.learn([]byte(`{"tools":[{"name":"b"}]}`)) // another page
	if got := known.of("a"); len(got) != 1 {
		t.Errorf("got %v", got)
	}
	known.learn([]byte(`{"tools":[{"name":"a","inputSchema":{"properties":{"p":{"type":"string"}}}}]}`))
	if got := known.of("a"); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}
