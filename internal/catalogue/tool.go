package catalogue

import (
	"bytes"
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// tool is one tool with its members, raw.
type tool struct {
	fleet.Tool        // Name is the server's own
	listed     string // the name under which it is listed; the server's own if it is not renamed
	raw        []byte // as it is shown, but for its name
	members    []member
	ui         []string // URIs of its user interfaces (MCP Apps)
	asks       bool     // for headers, with x-mcp-header
	headers    error    // why it asks wrongly
}

// member is one member of a tool as its server sent it.
type member struct {
	key   string
	value []byte
}

// parseTools parses the tools of a server. It leaves out entries without a name, and
// the second of two with one name, which nobody could call.
func parseTools(name fleet.ServerName, raw [][]byte) []*tool {
	order := make([]*tool, 0, len(raw))
	seen := make(map[string]bool, len(raw))
	for _, r := range raw {
		t, err := parseTool(r)
		if err != nil || seen[t.Name] {
			continue
		}
		t.Server = name
		order = append(order, t)
		seen[t.Name] = true
	}
	return order
}

// parseTool parses a tool with all its members. Of members with the same key the
// last counts, as in most decoders.
func parseTool(raw []byte) (*tool, error) {
	t := &tool{raw: raw}
	index := make(map[string]int)
	err := mcp.Members(raw, func(key, value []byte) bool {
		i, twice := index[string(key)]
		if !twice {
			i = len(t.members)
			index[string(key)] = i
			t.members = append(t.members, member{key: string(key)})
		}
		t.members[i].value = value
		return true
	})
	if err != nil {
		return nil, err
	}
	if t.Name, err = mcp.String(t.member("name")); err != nil {
		return nil, err
	}
	t.listed = t.Name
	t.ui = uiResources(raw)
	headers, err := mcp.ParamHeaders(t.inputSchema())
	t.asks, t.headers = len(headers) > 0, err
	// Without annotations, or if they are not an object, the tool promises nothing.
	if hints, err := mcp.Fields(t.member("annotations"), "readOnlyHint", "idempotentHint"); err == nil {
		t.ReadOnly = bytes.Equal(hints[0], []byte("true"))
		t.Idempotent = bytes.Equal(hints[1], []byte("true"))
	}
	return t, nil
}

// member returns the value of a member, or nil.
func (t *tool) member(key string) []byte {
	for _, m := range t.members {
		if m.key == key {
			return m.value
		}
	}
	return nil
}

// uiResources returns the URIs of a tool's user interfaces (MCP Apps), without
// duplicates.
func uiResources(raw []byte) (uris []string) {
	for _, path := range uiPaths {
		if uri, err := mcp.String(valueAt(raw, path)); err == nil && !slices.Contains(uris, uri) {
			uris = append(uris, uri)
		}
	}
	return uris
}

// valueAt returns the value at a path in an object, or nil.
func valueAt(raw []byte, path []string) []byte {
	for _, key := range path {
		if mcp.TypeOf(raw) != "object" {
			return nil
		}
		found, err := mcp.Fields(raw, key)
		if err != nil {
			return nil
		}
		raw = found[0]
	}
	return raw
}

// set returns the object raw with the member at path set.
func set(raw, value []byte, path ...string) ([]byte, error) {
	last := len(path) - 1
	change := mcp.Set(path[last], value)
	for _, key := range slices.Backward(path[:last]) {
		change = mcp.Within(key, change)
	}
	return mcp.Edit(raw, change)
}

// uiPaths are where a tool names its user interface: where the extension says, and
// where its first drafts said.
var uiPaths = [][]string{{"_meta", "ui/resourceUri"}, {"_meta", "ui", "resourceUri"}}

// protocol returns the tool as the protocol lists it: as its server sent it, but for
// what is overridden, its name, and URIs of its user interface.
func (t *tool) protocol(uri func(own string) string) []byte {
	raw := t.raw
	put := func(value string, path ...string) {
		if next, err := set(raw, mcp.AppendString(nil, value), path...); err == nil {
			raw = next
		}
	}
	if t.listed != t.Name {
		put(t.listed, "name")
	}
	if len(t.ui) == 0 {
		return raw
	}
	for _, path := range uiPaths {
		if own, err := mcp.String(valueAt(t.raw, path)); err == nil && uri(own) != own {
			put(uri(own), path...)
		}
	}
	return raw
}

// appendTo renders the tool: first the members that every tool has here, then all
// others byte for byte, in the order of the server. It leaves out those whose keys
// are ours.
func (t *tool) appendTo(b []byte) []byte {
	b = append(b, '{')
	b = mcp.AppendString(append(b, `"name":`...), t.listed)
	b = append(append(b, `,"description":`...), orElse(t.member("description"), "null")...)
	b = append(append(b, `,"input_schema":`...), t.inputSchema()...)
	if schema := t.member("outputSchema"); schema != nil {
		b = append(append(b, `,"output_schema":`...), schema...)
	}
	b = mcp.AppendString(append(b, `,"server":`...), string(t.Server))
	for _, m := range t.members {
		switch m.key {
		case "name", "description", "input_schema", "output_schema", "server":
			continue
		}
		b = append(mcp.AppendString(append(b, ','), m.key), ':')
		b = append(b, m.value...)
	}
	return append(b, '}')
}

// inputSchema returns the schema of the tool's arguments. They are always an object,
// whatever the server says.
func (t *tool) inputSchema() []byte {
	if schema := t.member("inputSchema"); mcp.TypeOf(schema) == "object" {
		return schema
	}
	return []byte(`{"type":"object"}`)
}

func orElse(raw []byte, other string) []byte {
	if raw == nil {
		return []byte(other)
	}
	return raw
}

func renderServer(tools []*tool) []byte {
	b := []byte(`{"tools":[`)
	for i, t := range tools {
		if i > 0 {
			b = append(b, ',')
		}
		b = t.appendTo(b)
	}
	return append(b, `]}`...)
}
