// Package breaking compares the tools of two revisions of a server, and finds
// the changes that callers of the old revision may trip over: a tool that is
// gone, an argument that is required or takes less than before, an annotation
// that promises less.
//
// It reports only what surely takes something away. What a schema allows is
// read from the keywords that MCP servers use. Where keywords are combined in
// ways that it does not follow (not, if, several alternatives of an anyOf), it
// says nothing about them. Descriptions, defaults, output schemas and new tools
// break nobody and are not compared.
//
// The package is pure, and its functions may be called at any time. Catalogues
// come from servers and may hold anything: what has another form than it should
// is taken to allow everything.
package breaking

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Change is one change that may break callers.
type Change struct {
	Tool string
	// Path is the argument, with dots before its members, [] for the items of an
	// array, and * for members of any name. It is "" for the tool as a whole.
	Path string
	What string // in words, as what follows the tool: "argument limit is required now"
}

// String returns the change in words: "tool search: argument limit is required
// now".
func (c Change) String() string { return "tool " + plain(c.Tool) + ": " + c.What }

// Summary returns changes in one line, and no more than the given number of
// them.
func Summary(changes []Change, most int) string {
	var out []string
	for _, c := range changes[:min(most, len(changes))] {
		out = append(out, c.String())
	}
	if more := len(changes) - len(out); more > 0 {
		out = append(out, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(out, "; ")
}

// Changes returns what the new catalogue takes away from callers of the old one,
// tool by tool in the old one's order. Tools that callers cannot call, as offers
// says, are left out. A catalogue that is nil is not known, and compares with
// nothing.
func Changes(old, new *fleet.Catalogue, offers func(tool string) bool) (out []Change) {
	if old == nil || new == nil {
		return nil
	}
	later := make(map[string]tool)
	for _, t := range parseTools(new.Tools) {
		later[t.name] = t
	}
	for _, before := range parseTools(old.Tools) {
		after, there := later[before.name]
		switch {
		case !offers(before.name):
		case !there:
			out = append(out, Change{Tool: before.name, What: "it is gone"})
		default:
			out = append(out, compareHints(before, after)...)
			out = append(out, compareSchemas(before.name, before.schema, after.schema)...)
		}
	}
	return out
}

// tool is the part of a tool that is compared.
type tool struct {
	name   string
	hints  map[string]any
	schema any // of its arguments; nil: they may be anything
}

// parseTools parses the tools of a catalogue. It leaves out entries without a
// name, and the second of two with one name.
func parseTools(list [][]byte) []tool {
	var out []tool
	seen := make(map[string]bool)
	for _, raw := range list {
		var members map[string]any
		if json.Unmarshal(raw, &members) != nil {
			continue
		}
		name, _ := members["name"].(string)
		if name == "" || seen[name] {
			continue
		}
		seen[name] = true
		hints, _ := members["annotations"].(map[string]any)
		out = append(out, tool{name: name, hints: hints, schema: members["inputSchema"]})
	}
	return out
}

// compareHints compares the annotations. Those that say how a tool writes mean
// nothing for one that only reads.
func compareHints(old, new tool) (out []Change) {
	lost := func(what string) { out = append(out, Change{Tool: old.name, What: what}) }
	is := func(t tool, hint string, value bool) bool { return t.hints[hint] == value }
	readsOnly := is(new, "readOnlyHint", true)
	if is(old, "readOnlyHint", true) && !readsOnly {
		lost("it does not declare itself read-only any more (readOnlyHint)")
	}
	if is(old, "idempotentHint", true) && !is(new, "idempotentHint", true) && !readsOnly {
		lost("it does not declare itself safe to repeat any more (idempotentHint)")
	}
	if is(old, "destructiveHint", false) && !is(new, "destructiveHint", false) && !readsOnly {
		lost("it may be destructive now (destructiveHint)")
	}
	if is(old, "openWorldHint", false) && !is(new, "openWorldHint", false) {
		lost("it may reach things outside its own domain now (openWorldHint)")
	}
	return out
}

// compareSchemas compares the schemas of a tool's arguments.
func compareSchemas(name string, old, new any) []Change {
	c := comparison{tool: name, old: &document{root: old}, new: &document{root: new}, seen: make(map[string]bool)}
	c.compare([]node{{old, ""}}, []node{{new, ""}}, "")
	slices.SortStableFunc(c.out, func(a, b Change) int { return cmp.Compare(a.Path, b.Path) })
	return c.out
}

// plain returns a name as it is, or in quotes if it would not read as one word.
func plain(name string) string {
	odd := func(r rune) bool { return !unicode.IsPrint(r) || unicode.IsSpace(r) || r == '"' }
	switch {
	case len(name) > maxName:
		return strconv.Quote(strings.ToValidUTF8(name[:maxName], "")) + "..."
	case name == "" || strings.ContainsFunc(name, odd):
		return strconv.Quote(name)
	}
	return name
}

// maxName is how much of a name a message shows, in bytes.
const maxName = 128
