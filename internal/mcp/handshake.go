package mcp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Error is a JSON-RPC error.
type Error struct {
	Code    Code            `json:"code"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data,omitempty"`
}

func (e *Error) Error() string { return fmt.Sprintf("JSON-RPC error %d: %s", e.Code, e.Message) }

// ParseError decodes a raw error object. A malformed one becomes an internal error that quotes it.
func ParseError(raw []byte) *Error {
	e := new(Error)
	if err := json.Unmarshal(raw, e); err != nil {
		return &Error{Code: CodeInternalError, Message: string(raw)}
	}
	return e
}

// Implementation names a program.
type Implementation struct {
	Name    string `json:"name"`
	Title   string `json:"title,omitempty"`
	Version string `json:"version"`
}

// InitializeParams returns the params of initialize. We offer no client capabilities, because in a
// shared conversation nobody knows which caller a server's request is for.
func InitializeParams(version string, client Implementation) []byte {
	p := append([]byte(`{"protocolVersion":`), AppendString(nil, version)...)
	p = append(p, `,"capabilities":{},"clientInfo":{"name":`...)
	p = AppendString(p, client.Name)
	if client.Title != "" {
		p = AppendString(append(p, `,"title":`...), client.Title)
	}
	p = AppendString(append(p, `,"version":`...), client.Version)
	return append(p, `}}`...)
}

// InitializeResult describes a server.
type InitializeResult struct {
	ProtocolVersion string          `json:"protocolVersion"`
	Capabilities    json.RawMessage `json:"capabilities"`
	ServerInfo      json.RawMessage `json:"serverInfo"`
	Instructions    string          `json:"instructions,omitempty"`
}

// ParseInitializeResult decodes the result of initialize. Instructions that are
// not a string are ignored.
func ParseInitializeResult(raw []byte) (*InitializeResult, error) {
	members, err := Fields(raw, "protocolVersion", "capabilities", "serverInfo", "instructions")
	if err != nil {
		return nil, fmt.Errorf("result: %w", err)
	}
	r := &InitializeResult{Capabilities: bytes.Clone(members[1]), ServerInfo: bytes.Clone(members[2])}
	if members[0] == nil {
		return nil, errors.New(`result without "protocolVersion"`)
	}
	if r.ProtocolVersion, err = String(members[0]); err != nil {
		return nil, fmt.Errorf("protocolVersion: %w", err)
	}
	if members[3] != nil {
		r.Instructions, _ = String(members[3])
	}
	return r, nil
}

// NewestSupported returns the newest version of the legacy era that a server lists when it refuses the
// one that it was offered, or "".
func NewestSupported(refusal *Error) string {
	var data struct {
		Supported []string `json:"supported"`
	}
	if json.Unmarshal(refusal.Data, &data) != nil {
		return ""
	}
	for _, version := range slices.Backward(LegacyVersions()) {
		if slices.Contains(data.Supported, version) {
			return version
		}
	}
	return ""
}

// Has reports whether the server has a capability, such as "tools" or "prompts".
func (r *InitializeResult) Has(capability string) bool {
	found, err := Fields(r.Capabilities, capability)
	return err == nil && found[0] != nil && !IsNull(found[0])
}

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
