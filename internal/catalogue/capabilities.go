package catalogue

import (
	"bytes"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// mergedBase are the capabilities of every view that merges servers. Its lists change
// whenever servers come and go, so that clients must be able to learn of it, even
// those that connected before any server had prompts or resources.
const mergedBase = `{"tools":{"listChanged":true},"resources":{"listChanged":true},"prompts":{"listChanged":true}}`

// mergeCapabilities returns what at least one of the servers can do. Members that are
// objects on both sides are merged. A flag is set if one server sets it. Of anything
// else the first counts.
func mergeCapabilities(servers []*server) []byte {
	merged := []byte(mergedBase)
	for _, srv := range servers {
		if srv.shown != nil && !srv.stopped {
			merged = merge(merged, mergeable(srv), maxMergeDepth)
		}
	}
	return merged
}

// mergeable returns the capabilities of a server without the tasks of the other era, which
// it cannot have, and without the list of tasks: nobody can say whose tasks they are.
func mergeable(srv *server) []byte {
	if srv.shown.IsModern() {
		return mcp.WithoutCoreTasks(srv.shown.Capabilities)
	}
	return mcp.WithoutTasksExtension(mcp.WithoutTasksList(srv.shown.Capabilities))
}

// maxMergeDepth is how deep capabilities are merged. Below that the first counts.
const maxMergeDepth = 8

// merge returns a with the members of b.
func merge(a, b []byte, depth int) []byte {
	if depth == 0 || mcp.TypeOf(b) != "object" {
		return a
	}
	err := mcp.Members(b, func(key, value []byte) bool {
		name := string(key)
		have := valueAt(a, []string{name})
		switch {
		case !given(value):
			return true
		case !given(have) || bytes.Equal(have, []byte("false")):
			have = value
		case mcp.TypeOf(have) == "object":
			have = merge(have, value, depth-1)
		default:
			return true
		}
		if next, err := set(a, have, name); err == nil {
			a = next
		}
		return true
	})
	_ = err // what came before the fault counts
	return a
}

// maxInstructions bounds the instructions of endpoints that merge servers, in bytes.
const maxInstructions = 32 << 10

// mergeInstructions returns the instructions of all servers under their names. Those
// that do not fit are left out, and their servers named.
func mergeInstructions(servers []*server) string {
	var parts, left []string
	room := maxInstructions
	for _, srv := range servers {
		if srv.shown == nil || srv.stopped || srv.shown.Instructions == "" {
			continue
		}
		part := "# " + string(srv.name) + "\n\n" + strings.TrimSpace(srv.shown.Instructions)
		if room -= len(part); room < 0 {
			left = append(left, string(srv.name))
			room += len(part)
			continue
		}
		parts = append(parts, part)
	}
	if len(left) > 0 {
		parts = append(parts, "Left out for their length: the instructions of "+strings.Join(left, ", "))
	}
	return strings.Join(parts, "\n\n")
}
