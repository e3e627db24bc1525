package catalogue

import (
	"maps"
	"slices"
	"strconv"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// overridden returns the tool as an override shows it, except for its name.
// Everything that is not overridden stays byte for byte.
func (t *tool) overridden(o fleet.ToolOverride) *tool {
	raw := t.raw
	put := func(value []byte, path ...string) {
		if next, err := set(raw, value, path...); err == nil {
			raw = next
		}
	}
	text := func(value *string, path ...string) {
		if value != nil {
			put(mcp.AppendString(nil, *value), path...)
		}
	}
	hint := func(value *bool, name string) {
		if value != nil {
			put(strconv.AppendBool(nil, *value), "annotations", name)
		}
	}
	if o.Annotations != (fleet.ToolAnnotations{}) && mcp.TypeOf(t.member("annotations")) != "object" {
		put([]byte(`{}`), "annotations")
	}
	text(o.Title, "title")
	text(o.Description, "description")
	text(o.Annotations.Title, "annotations", "title")
	hint(o.Annotations.ReadOnly, "readOnlyHint")
	hint(o.Annotations.Destructive, "destructiveHint")
	hint(o.Annotations.Idempotent, "idempotentHint")
	hint(o.Annotations.OpenWorld, "openWorldHint")
	next, err := parseTool(raw)
	if err != nil {
		return t // cannot happen: raw was parsed before
	}
	next.Server, next.listed = t.Server, t.listed
	return next
}

// chosen returns the answer of a session's own replica to tools/list, with the tools that
// the fleet file offers, as it shows them. Tools that it does not name stay as they are.
func (s *server) chosen(result []byte) []byte {
	found, err := mcp.Fields(result, "tools")
	if err != nil {
		return result
	}
	var raw [][]byte
	if err := mcp.Elements(found[0], func(one []byte) bool { raw = append(raw, one); return true }); err != nil {
		return result
	}
	tools := slices.DeleteFunc(parseTools(s.name, raw), func(t *tool) bool { return !s.choice.Offers(t.Name) })
	list := []byte{'['}
	for i, t := range override(tools, s.choice.Overrides) {
		if i > 0 {
			list = append(list, ',')
		}
		list = append(list, t.protocol(func(own string) string { return own })...)
	}
	if shown, err := mcp.Edit(result, mcp.Set("tools", append(list, ']'))); err == nil {
		return shown
	}
	return result
}

// override returns tools as overrides, by their listed names, show them. A tool that
// gets another name is listed under it, unless another one has that name.
func override(tools []*tool, overrides map[string]fleet.ToolOverride) []*tool {
	if len(overrides) == 0 {
		return tools
	}
	out := slices.Clone(tools)
	names := make(map[string]int, len(tools)) // the tool that has each name
	var renamed []int
	for i, t := range tools {
		o, ok := overrides[t.listed]
		if ok {
			out[i] = t.overridden(o)
		}
		if o.Rename == "" || o.Rename == t.listed {
			names[t.listed] = i
		} else {
			renamed = append(renamed, i)
		}
	}
	// A tool that keeps its name because another one is in its way may be in the way
	// of the next.
	for again := true; again; {
		again = false
		claimed := maps.Clone(names)
		for at, i := range renamed {
			to := overrides[tools[i].listed].Rename
			if _, taken := claimed[to]; taken {
				names[tools[i].listed] = i
				renamed = slices.Delete(renamed, at, at+1)
				again = true
				break
			}
			claimed[to] = i
		}
	}
	for _, i := range renamed {
		out[i].listed = overrides[tools[i].listed].Rename
	}
	return out
}
