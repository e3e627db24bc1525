// Package mcp knows the Model Context Protocol as bytes: versions, error codes, and how to find the
// parts of a JSON-RPC message without decoding it.
//
// Valid, Scan, Members and Fields accept exactly the texts that both encoding/json.Valid and
// utf8.Valid accept (a fuzz test compares them). Every span that they return is a part of the input,
// byte for byte. Payloads pass through mcpfleet as such spans, so unknown fields, number precision and
// key order survive.
//
// The package does no I/O, holds no state and starts no goroutine. Every function may be called at any
// time from anywhere. Package stdio reads lines and matches replies to calls.
package mcp

import "slices"

// Protocol versions of the legacy era, in which a conversation begins with initialize.
const (
	Version20241007 = "2024-10-07" // a draft that some early servers still answer with
	Version20241105 = "2024-11-05"
	Version20250326 = "2025-03-26"
	Version20250618 = "2025-06-18"
	Version20251125 = "2025-11-25"

	// LatestLegacy is what we offer in initialize.
	LatestLegacy = Version20251125
)

// LegacyVersions returns the versions of the legacy era that we speak, oldest first.
func LegacyVersions() []string {
	return []string{Version20241007, Version20241105, Version20250326, Version20250618, Version20251125}
}

// IsLegacy reports whether version is one of LegacyVersions.
func IsLegacy(version string) bool { return slices.Contains(LegacyVersions(), version) }

// Code is the code of a JSON-RPC error.
type Code int

// The codes that JSON-RPC 2.0 and MCP define.
const (
	CodeParseError       Code = -32700
	CodeInvalidRequest   Code = -32600
	CodeMethodNotFound   Code = -32601
	CodeInvalidParams    Code = -32602
	CodeInternalError    Code = -32603
	CodeResourceNotFound Code = -32002
)

// The methods that mcpfleet itself sends or answers.
const (
	MethodInitialize           = "initialize"
	MethodInitialized          = "notifications/initialized"
	MethodPing                 = "ping"
	MethodCancelled            = "notifications/cancelled"
	MethodProgress             = "notifications/progress"
	MethodToolsList            = "tools/list"
	MethodToolsCall            = "tools/call"
	MethodResourcesList        = "resources/list"
	MethodResourceTemplates    = "resources/templates/list"
	MethodPromptsList          = "prompts/list"
	MethodToolsListChanged     = "notifications/tools/list_changed"
	MethodResourcesListChanged = "notifications/resources/list_changed"
	MethodPromptsListChanged   = "notifications/prompts/list_changed"
)
