package mcp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Implementation names a program.
type Implementation struct {
	Name    string `json:"name"`
	Title   string `json:"title,omitempty"`
	Version string `json:"version"`
}

func (i Implementation) append(dst []byte) []byte {
	dst = AppendString(append(dst, `{"name":`...), i.Name)
	if i.Title != "" {
		dst = AppendString(append(dst, `,"title":`...), i.Title)
	}
	return append(AppendString(append(dst, `,"version":`...), i.Version), '}')
}

// InitializeParams returns the params of initialize for a conversation of our own. We offer no client
// capabilities, because in a shared conversation nobody knows which caller a server's request is for.
func InitializeParams(version string, client Implementation) []byte {
	return appendInitialize(version, nil, client.append(nil))
}

// InitializeParamsOf returns the params of initialize for a modern client, from the _meta of its
// request. A client that does not tell its name gets that of fallback.
func InitializeParamsOf(m *Meta, fallback Implementation) []byte {
	info := m.ClientInfo
	if len(info) == 0 {
		info = fallback.append(nil)
	}
	return appendInitialize(LatestLegacy, m.Capabilities, info)
}

func appendInitialize(version string, capabilities, client []byte) []byte {
	p := AppendString([]byte(`{"protocolVersion":`), version)
	p = appendRawObject(append(p, `,"capabilities":`...), capabilities)
	return append(append(append(p, `,"clientInfo":`...), client...), '}')
}

// InitializeRequest is what a legacy client says of itself, as raw spans.
type InitializeRequest struct {
	ProtocolVersion string
	Capabilities    []byte
	ClientInfo      []byte
}

// ParseInitializeParams reads the params of initialize. Members of a wrong type are a *TypeError.
// Capabilities and a name may be absent.
func ParseInitializeParams(params []byte) (*InitializeRequest, error) {
	members, err := paramFields(params, "protocolVersion", "capabilities", "clientInfo")
	if err != nil {
		return nil, err
	}
	r := &InitializeRequest{Capabilities: members[1], ClientInfo: members[2]}
	if TypeOf(members[0]) != "string" {
		return nil, fmt.Errorf("protocolVersion: %w", &TypeError{Want: "string", Got: TypeOf(members[0])})
	}
	r.ProtocolVersion = text(members[0])
	for i, name := range []string{"capabilities", "clientInfo"} {
		if value := members[i+1]; given(value) && TypeOf(value) != "object" {
			return nil, fmt.Errorf("%s: %w", name, &TypeError{Want: "object", Got: TypeOf(value)})
		}
	}
	return r, nil
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

// Append appends the result as a legacy client expects it.
func (r *InitializeResult) Append(dst []byte) []byte {
	dst = AppendString(append(dst, `{"protocolVersion":`...), r.ProtocolVersion)
	dst = appendRawObject(append(dst, `,"capabilities":`...), r.Capabilities)
	dst = appendRawObject(append(dst, `,"serverInfo":`...), r.ServerInfo)
	if r.Instructions != "" {
		dst = AppendString(append(dst, `,"instructions":`...), r.Instructions)
	}
	return append(dst, '}')
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
