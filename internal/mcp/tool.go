package mcp

import "fmt"

// Tool is a tool as its server describes it, with the members that mcpfleet uses.
type Tool struct {
	Raw        []byte // the whole description, byte for byte
	Name       string
	ReadOnly   bool // annotations.readOnlyHint
	Idempotent bool // annotations.idempotentHint
}

// ParseTool parses one element of tools/list. Hints of a wrong type count as absent. A missing name is
// an error, because nobody could call the tool. The tool keeps raw.
func ParseTool(raw []byte) (Tool, error) {
	found, err := Fields(raw, "name", "annotations")
	if err != nil {
		return Tool{}, fmt.Errorf("tool: %w", err)
	}
	name, err := String(found[0])
	if err != nil || name == "" {
		return Tool{}, fmt.Errorf("tool without a name: %.200s", raw)
	}
	t := Tool{Raw: raw, Name: name}
	if hints, err := Fields(found[1], "readOnlyHint", "idempotentHint"); err == nil {
		t.ReadOnly = string(hints[0]) == "true"
		t.Idempotent = string(hints[1]) == "true"
	}
	return t, nil
}
