// Package mcp knows the Model Context Protocol as bytes: versions, error codes, and how to find the
// parts of a JSON-RPC message without decoding it, and how to change them without encoding it again.
// It translates between the two eras: the legacy one, which begins with initialize, and the modern one,
// in which every request stands for itself.
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

// Protocol versions of the modern era, in which every request says its version in _meta.
const (
	Version20260728 = "2026-07-28"

	// LatestModern is what we offer in server/discover and put into requests that we translate.
	LatestModern = Version20260728
)

// LegacyVersions returns the versions of the legacy era that we speak, oldest first.
func LegacyVersions() []string {
	return []string{Version20241007, Version20241105, Version20250326, Version20250618, Version20251125}
}

// IsLegacy reports whether version is one of LegacyVersions.
func IsLegacy(version string) bool { return slices.Contains(LegacyVersions(), version) }

// ModernVersions returns the versions of the modern era that we speak, newest first, as a server lists
// them.
func ModernVersions() []string { return []string{Version20260728} }

// IsModern reports whether version is one of ModernVersions.
func IsModern(version string) bool { return slices.Contains(ModernVersions(), version) }

// Negotiate returns the version that answers a client's initialize: the older of what the client asked
// for and what the server behind speaks. If we do not know the client's version, it is the server's.
// A server of the modern era speaks LatestLegacy here, because requests are translated for it.
func Negotiate(client, server string) string {
	versions := LegacyVersions()
	s := slices.Index(versions, server)
	if s < 0 {
		s = len(versions) - 1
	}
	if c := slices.Index(versions, client); c >= 0 {
		s = min(s, c)
	}
	return versions[s]
}
