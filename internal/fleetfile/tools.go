package fleetfile

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	// maxOverrides bounds the overrides of a server or a gateway.
	maxOverrides = 1000
	// toolPattern is what the protocol recommends for the name of a tool. It is
	// demanded of names that the fleet file gives.
	toolPattern = `^[A-Za-z0-9_./-]{1,128}$`
)

var toolName = regexp.MustCompile(toolPattern)

// toolNames decodes a list of tools into a field, without duplicates.
func (p *parser) toolNames(n *yaml.Node, at string, field *[]string) bool {
	list, ok := p.items(n, at)
	for _, it := range list {
		name := it.text
		if p.foreign {
			name, _, _ = strings.Cut(name, "(") // gemini-cli allows arguments after it
		}
		if name == "" {
			p.errorf(it.node, it.path, "must be the name of a tool")
			ok = false
			continue
		}
		if !slices.Contains(*field, name) {
			*field = append(*field, name)
		}
	}
	return ok
}

// tools decodes which tools are offered, and how they are shown.
func (p *parser) tools(n *yaml.Node, at string, t *fleet.Tools) {
	var overrides *yaml.Node
	p.section(n, at, toolsShape, nil, func(e entry, at string, _ keyShape) {
		switch e.key {
		case "allow":
			p.toolNames(e.value, at, &t.Allow)
			p.checkAllow(e.value, at)
		case "deny":
			p.toolNames(e.value, at, &t.Deny)
		case "overrides":
			overrides = e.value
		}
	})
	if overrides != nil && !isNull(overrides) {
		p.overrides(overrides, join(at, "overrides"), t) // after allow, whatever the order of the keys
	}
}

// checkAllow refuses an empty list of the only tools that are offered.
func (p *parser) checkAllow(n *yaml.Node, at string) {
	if !isNull(n) && resolve(n).Kind == yaml.SequenceNode && len(resolve(n).Content) == 0 {
		p.errorf(n, at, "must name a tool; leave it out to offer all of them")
	}
}

// overrides decodes how single tools are shown. Names that two tools would have are
// refused.
func (p *parser) overrides(n *yaml.Node, at string, t *fleet.Tools) {
	entries, ok := p.mapping(n, at)
	if !ok {
		return
	}
	if len(entries) > maxOverrides {
		p.errorf(n, at, "must have at most %d tools, not %d", maxOverrides, len(entries))
		return
	}
	taken := make(map[string]string) // names, and why they are taken
	for _, name := range t.Allow {
		taken[name] = "allow names a tool that has this name"
	}
	renames := make(map[string]*yaml.Node)
	for _, e := range entries {
		o, rename := p.override(e, join(at, e.key))
		if o == (fleet.ToolOverride{}) {
			continue
		}
		if t.Overrides == nil {
			t.Overrides = make(map[string]fleet.ToolOverride)
		}
		t.Overrides[e.key] = o
		renames[e.key] = rename
	}
	for name, o := range t.Overrides {
		if o.Rename != "" && o.Rename != name {
			delete(taken, name)
		} else {
			taken[name] = "the tool that overrides names so has this name"
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Overrides)) {
		to := t.Overrides[name].Rename
		if to == "" || to == name {
			continue
		}
		if why := taken[to]; why != "" {
			p.errorf(renames[name], join(join(at, name), "rename"), "%s", why)
			continue
		}
		taken[to] = "the tool " + name + " is renamed to this as well"
	}
}

// override decodes how one tool is shown. rename is where its new name is.
func (p *parser) override(e entry, at string) (o fleet.ToolOverride, rename *yaml.Node) {
	p.section(e.value, at, overrideShape, nil, func(e entry, at string, _ keyShape) {
		switch e.key {
		case "rename":
			name, ok := p.str(e.value, at)
			if ok && !toolName.MatchString(name) {
				p.errorf(e.value, at, "the name of a tool has at most 128 letters, digits, hyphens, underscores, dots and slashes")
			} else if ok {
				o.Rename, rename = name, e.value
			}
		case "title":
			o.Title = p.given(e.value, at)
		case "description":
			o.Description = p.given(e.value, at)
		case "annotations":
			p.annotations(e.value, at, &o.Annotations)
		}
	})
	return o, rename
}

// given decodes a string, nil if it is invalid.
func (p *parser) given(n *yaml.Node, at string) *string {
	if s, ok := p.str(n, at); ok {
		return &s
	}
	return nil
}

func (p *parser) annotations(n *yaml.Node, at string, a *fleet.ToolAnnotations) {
	p.section(n, at, annotationsShape, nil, func(e entry, at string, _ keyShape) {
		flag := func(field **bool) {
			if v, ok := p.boolean(e.value, at); ok {
				*field = &v
			}
		}
		switch e.key {
		case "title":
			a.Title = p.given(e.value, at)
		case "readOnlyHint":
			flag(&a.ReadOnly)
		case "destructiveHint":
			flag(&a.Destructive)
		case "idempotentHint":
			flag(&a.Idempotent)
		case "openWorldHint":
			flag(&a.OpenWorld)
		}
	})
}

// serverTools decodes the tools of a server. In a client's file the key may be the
// client's own, a list.
func (d *serverDecoder) serverTools(e entry, at string) {
	if d.foreign && !d.ownTools(e.value) {
		if resolve(e.value).Kind == yaml.MappingNode { // fastmcp changes tools with it
			d.ignore(e)
			return
		}
		d.clientTools(e.value, at)
		return
	}
	s := &d.spec
	t := fleet.Tools{Allow: s.EnabledTools, Deny: s.DisabledTools}
	d.tools(e.value, at, &t)
	s.EnabledTools, s.DisabledTools, s.ToolOverrides = t.Allow, t.Deny, t.Overrides
}

// ownTools reports whether a value has the form of this fleet file.
func (*serverDecoder) ownTools(n *yaml.Node) bool {
	m := resolve(n)
	if m.Kind != yaml.MappingNode {
		return false
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		if toolsShape.has(resolve(m.Content[i]).Value) {
			return true
		}
	}
	return false
}

// formerToolKeys are former names of keys of tools.
var formerToolKeys = []struct{ former, now string }{{"enabled_tools", "allow"}, {"disabled_tools", "deny"}}

// checkTools refuses a default tool that is switched off, an empty list of enabled
// tools, and lists that are given twice.
func (d *serverDecoder) checkTools() {
	s := &d.spec
	if n, given := d.given["enabled_tools"]; given {
		d.checkAllow(n, join(d.path, "enabled_tools"))
	}
	for _, key := range formerToolKeys {
		n, given := d.given[key.former]
		if tools := d.given["tools"]; given && tools != nil && child(tools, key.now) != nil {
			d.errorf(n, join(d.path, key.former), "is the same as tools.%s; leave one of the two out", key.now)
		}
	}
	tools := s.Tools()
	if key := tools.SwitchedOffBy(tools.Own(s.DefaultTool)); s.DefaultTool != "" && key != "" {
		d.errorf(d.given["default_tool"], join(d.path, "default_tool"), "the tool is switched off by %s", key)
	}
}
