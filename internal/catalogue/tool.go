package catalogue

import (
	"bytes"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// tool is one tool with what is shown of it, raw.
type tool struct {
	fleet.Tool
	title, description, inputSchema, outputSchema, annotations []byte
}

// parseTools takes the raw tools of a server. What is no tool, having no name,
// is left out, and of two with one name the first stays: nobody could call the
// other.
func parseTools(name fleet.ServerName, raw [][]byte) ([]*tool, map[string]*tool) {
	order := make([]*tool, 0, len(raw))
	byName := make(map[string]*tool, len(raw))
	for _, r := range raw {
		f, err := mcp.Fields(r, "name", "title", "description", "inputSchema", "outputSchema", "annotations")
		if err != nil || f[0] == nil {
			continue
		}
		toolName, err := mcp.String(f[0])
		if err != nil || byName[toolName] != nil {
			continue
		}
		t := &tool{
			Tool:  fleet.Tool{Server: name, Name: toolName},
			title: f[1], description: f[2], inputSchema: f[3], outputSchema: f[4], annotations: f[5],
		}
		// Without annotations, or with some that are no object, nothing is promised.
		if hints, err := mcp.Fields(f[5], "readOnlyHint", "idempotentHint"); err == nil {
			t.ReadOnly = bytes.Equal(hints[0], []byte("true"))
			t.Idempotent = bytes.Equal(hints[1], []byte("true"))
		}
		order = append(order, t)
		byName[toolName] = t
	}
	return order, byName
}

// appendTo renders the tool under a name.
func (t *tool) appendTo(b []byte, name string) []byte {
	b = append(b, `{"name":`...)
	b = mcp.AppendString(b, name)
	if t.title != nil {
		b = append(append(b, `,"title":`...), t.title...)
	}
	b = append(append(b, `,"description":`...), orNull(t.description)...)
	b = append(append(b, `,"input_schema":`...), orNull(t.inputSchema)...)
	if t.outputSchema != nil {
		b = append(append(b, `,"output_schema":`...), t.outputSchema...)
	}
	if t.annotations != nil {
		b = append(append(b, `,"annotations":`...), t.annotations...)
	}
	b = append(b, `,"server":`...)
	b = mcp.AppendString(b, string(t.Server))
	return append(b, '}')
}

func orNull(raw []byte) []byte {
	if raw == nil {
		return []byte("null")
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
