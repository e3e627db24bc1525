package fleetfile

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// toolNames decodes a list of tools into a field, without duplicates.
func (d *serverDecoder) toolNames(n *yaml.Node, at string, field *[]string) bool {
	list, ok := d.items(n, at)
	for _, it := range list {
		name := it.text
		if d.foreign {
			name, _, _ = strings.Cut(name, "(") // gemini-cli allows arguments after it
		}
		if name == "" {
			d.errorf(it.node, it.path, "must be the name of a tool")
			ok = false
			continue
		}
		if !slices.Contains(*field, name) {
			*field = append(*field, name)
		}
	}
	return ok
}

// checkTools refuses a default tool that is switched off, and an empty list of
// enabled tools.
func (d *serverDecoder) checkTools() {
	s := &d.spec
	if n, given := d.given["enabled_tools"]; given && !isNull(n) && resolve(n).Kind == yaml.SequenceNode && len(resolve(n).Content) == 0 {
		d.errorf(n, join(d.path, "enabled_tools"), "must name a tool; leave it out to offer all of them")
	}
	tools := s.Tools()
	if key := tools.SwitchedOffBy(s.DefaultTool); s.DefaultTool != "" && key != "" {
		d.errorf(d.given["default_tool"], join(d.path, "default_tool"), "the tool is switched off by %s", key)
	}
}
