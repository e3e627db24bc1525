package catalogue

import (
	"bytes"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// tool is one tool with its members, raw.
type tool struct {
	fleet.Tool
	members []member
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
	t := &tool{}
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

// appendTo renders the tool under a name: first the members that every tool has
// here, then all others byte for byte, in the order of the server. It leaves out
// those whose keys are ours.
func (t *tool) appendTo(b []byte, name string) []byte {
	b = append(b, '{')
	b = mcp.AppendString(append(b, `"name":`...), name)
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
		b = t.appendTo(b, t.Name)
	}
	return append(b, `]}`...)
}
