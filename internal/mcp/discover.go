package mcp

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// DiscoverResult describes a server of the modern era.
type DiscoverResult struct {
	Versions     []string
	Capabilities []byte // raw object
	ServerInfo   []byte // raw object, nil if the server does not tell
	Instructions string
	Hint         CacheHint
}

// DiscoverParams returns the params of server/discover, in our own name and without capabilities.
func DiscoverParams(version string, client Implementation) []byte {
	params, err := ParamsToModern(nil, version, Client{Info: client.append(nil)})
	if err != nil {
		return nil // cannot happen: there are no params to be wrong
	}
	return params
}

// ParseDiscoverResult decodes the result of server/discover. Instructions, a server's description and
// a cache hint of a wrong type count as absent.
func ParseDiscoverResult(raw []byte) (*DiscoverResult, error) {
	members, err := Fields(raw, "supportedVersions", "capabilities", "_meta", "instructions", "ttlMs", "cacheScope")
	if err != nil {
		return nil, fmt.Errorf("result: %w", err)
	}
	r := new(DiscoverResult)
	if members[0] == nil {
		return nil, errors.New(`result without "supportedVersions"`)
	}
	var wrong error
	err = Elements(members[0], func(value []byte) bool {
		var version string
		version, wrong = String(value)
		r.Versions = append(r.Versions, version)
		return wrong == nil
	})
	if err = errors.Join(err, wrong); err != nil {
		return nil, fmt.Errorf("supportedVersions: %w", err)
	}
	if TypeOf(members[1]) != "object" {
		return nil, fmt.Errorf("capabilities: %w", &TypeError{Want: "object", Got: TypeOf(members[1])})
	}
	r.Capabilities = bytes.Clone(members[1])
	if meta, err := Fields(members[2], MetaServerInfo); err == nil && TypeOf(meta[0]) == "object" {
		r.ServerInfo = bytes.Clone(meta[0])
	}
	r.Instructions = text(members[3])
	r.Hint = ParseCacheHint(members[4], members[5])
	return r, nil
}

// ParseCacheHint reads a result's raw ttlMs and cacheScope. A hint that is absent or wrong is the
// cautious one: stale at once, and private.
func ParseCacheHint(ttl, scope []byte) CacheHint {
	h := CacheHint{Scope: ScopePrivate}
	if ms, ok := parseInteger(ttl); ok && ms > 0 {
		h.TTL = ms
	}
	if text(scope) == ScopePublic {
		h.Scope = ScopePublic
	}
	return h
}

// Append appends the result as a modern client expects it.
func (r *DiscoverResult) Append(dst []byte) []byte {
	dst = append(dst, `{"resultType":"`+ResultComplete+`","supportedVersions":`...)
	dst = appendStrings(dst, r.Versions)
	dst = appendRawObject(append(dst, `,"capabilities":`...), r.Capabilities)
	if len(r.ServerInfo) > 0 {
		dst = append(append(append(dst, `,"_meta":{"`+MetaServerInfo+`":`...), r.ServerInfo...), '}')
	}
	if r.Instructions != "" {
		dst = AppendString(append(dst, `,"instructions":`...), r.Instructions)
	}
	dst = strconv.AppendInt(append(dst, `,"ttlMs":`...), r.Hint.TTL, 10)
	return append(AppendString(append(dst, `,"cacheScope":`...), r.Hint.Scope), '}')
}

func appendRawObject(dst, raw []byte) []byte {
	if len(raw) == 0 {
		return append(dst, `{}`...)
	}
	return append(dst, raw...)
}

// Newest returns the newest of versions that we speak in the modern era, "" if there is none.
func Newest(versions []string) string {
	newest := ""
	for _, version := range versions {
		if IsModern(version) && version > newest {
			newest = version
		}
	}
	return newest
}

// Capabilities differ between the eras in two places. The core tasks of 2025-11-25 are no part of the
// modern era, whose tasks are an extension with the same method names and another protocol: neither is
// offered in place of the other. And a modern client has no notice of changed roots. All else has the
// same shape: resources.subscribe and listChanged mean subscriptions/listen in the modern era, logging
// the level in _meta, and an empty elicitation its form mode. Extensions and experimental capabilities
// pass as they are.

// CapabilitiesToModern returns the capabilities of a legacy server as a modern client may see them.
func CapabilitiesToModern(raw []byte) []byte { return WithoutTasks(raw) }

// WithoutTasks returns the capabilities of a server without the tasks of either era.
func WithoutTasks(raw []byte) []byte {
	return edited(raw, Remove("tasks"), Within("extensions", Remove(TasksExtension)))
}

// WithoutCoreTasks returns the capabilities of servers of both eras as a modern client may see them.
func WithoutCoreTasks(raw []byte) []byte { return edited(raw, Remove("tasks")) }

// WithoutTasksExtension returns the capabilities of a server as a legacy client may see them.
func WithoutTasksExtension(raw []byte) []byte {
	return edited(raw, Within("extensions", Remove(TasksExtension)))
}

// WithoutTasksList returns the capabilities of a server whose core tasks cannot be listed.
func WithoutTasksList(raw []byte) []byte { return edited(raw, Within("tasks", Remove("list"))) }

// ClientCapabilitiesToModern returns the capabilities of a legacy client as a modern server may see
// them.
func ClientCapabilitiesToModern(raw []byte) []byte {
	return edited(raw, Remove("tasks"), Within("roots", Remove("listChanged")), Within("extensions", Remove(TasksExtension)))
}

// edited returns raw with the changes, or an empty object if raw is none.
func edited(raw []byte, changes ...Change) []byte {
	changed, err := Edit(raw, changes...)
	if err != nil || TypeOf(changed) != "object" {
		return []byte("{}")
	}
	return changed
}

// ToModern returns the description of a legacy server as server/discover gives it.
func (r *InitializeResult) ToModern(versions []string, hint CacheHint) *DiscoverResult {
	return &DiscoverResult{
		Versions:     versions,
		Capabilities: CapabilitiesToModern(r.Capabilities),
		ServerInfo:   r.ServerInfo,
		Instructions: r.Instructions,
		Hint:         hint,
	}
}

// ToLegacy returns the description of a modern server as initialize gives it, for a client that asked
// for version. Every capability of the modern era has its legacy form under the same name. A server
// that does not tell its name gets that of fallback.
func (r *DiscoverResult) ToLegacy(version string, fallback Implementation) *InitializeResult {
	legacy := &InitializeResult{
		ProtocolVersion: Negotiate(version, LatestLegacy),
		Capabilities:    r.Capabilities,
		ServerInfo:      r.ServerInfo,
		Instructions:    r.Instructions,
	}
	if len(legacy.ServerInfo) == 0 {
		legacy.ServerInfo = fallback.append(nil)
	}
	return legacy
}
