package fleetfile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// entry is one key of a mapping with its value.
type entry struct {
	key     string
	keyNode *yaml.Node
	value   *yaml.Node
}

const (
	maxVisited    = 100_000 // entries of mappings in one file, merges counted each time
	maxMergeDepth = 8
)

// mapping returns the entries of a mapping in their order, with merge keys (<<)
// resolved. It refuses duplicate keys.
func (p *parser) mapping(n *yaml.Node, path string) ([]entry, bool) {
	return p.mergedMapping(n, path, 0)
}

func (p *parser) mergedMapping(n *yaml.Node, path string, depth int) ([]entry, bool) {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		p.malformed(n, path, "must be a mapping of keys to values, not %s", describe(n))
		return nil, false
	}
	var own []entry
	var merges []*yaml.Node
	index := map[string]int{} // key to the line of its first use
	for i := 0; i+1 < len(n.Content); i += 2 {
		if p.visited++; p.visited > maxVisited {
			p.errorf(n, "", "the file has too many keys")
			return nil, false
		}
		key, value := resolve(n.Content[i]), n.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode:
			p.malformed(key, path, "a key must be a string, not %s", describe(key))
			continue
		case key.ShortTag() == "!!merge":
			merges = append(merges, value)
			continue
		}
		if first, seen := index[key.Value]; seen {
			if !p.clients {
				p.malformed(n.Content[i], join(path, key.Value), "duplicate key, first seen in line %d", first)
				continue
			}
			p.warnf(n.Content[i], join(path, key.Value), "duplicate key, first seen in line %d; the last one counts", first)
			own = slices.DeleteFunc(own, func(e entry) bool { return e.key == key.Value })
		}
		index[key.Value] = key.Line
		own = append(own, entry{key: key.Value, keyNode: n.Content[i], value: value})
	}
	for _, m := range merges {
		if depth == maxMergeDepth {
			p.errorf(m, path, "merge keys are nested too deeply")
			return nil, false
		}
		sources := []*yaml.Node{m}
		if seq := resolve(m); seq.Kind == yaml.SequenceNode {
			sources = seq.Content
		}
		for _, source := range sources {
			merged, ok := p.mergedMapping(source, path, depth+1)
			if !ok {
				return nil, false
			}
			for _, e := range merged {
				if _, seen := index[e.key]; !seen {
					index[e.key] = e.keyNode.Line
					own = append(own, e)
				}
			}
		}
	}
	return own, true
}

// resolve follows aliases. YAML has no alias of an alias, but following a short
// chain costs nothing.
func resolve(n *yaml.Node) *yaml.Node {
	for range 8 {
		if n.Kind != yaml.AliasNode || n.Alias == nil {
			break
		}
		n = n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool {
	n = resolve(n)
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// describe describes a node for an error. It shows the text of a scalar as in the
// file, before variables are replaced, so that no secret is shown.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		if n.ShortTag() == "!!null" {
			return "empty"
		}
		const longest = 40
		if r := []rune(n.Value); len(r) > longest {
			return strconv.Quote(string(r[:longest]) + "...")
		}
		return strconv.Quote(n.Value)
	}
	return "this"
}

// item is one string of a list with its position.
type item struct {
	text string
	node *yaml.Node
	path string
}

// items decodes a list of strings. A key without a value is an empty list.
func (p *parser) items(n *yaml.Node, path string) ([]item, bool) {
	n = resolve(n)
	if isNull(n) {
		return nil, true
	}
	if n.Kind != yaml.SequenceNode {
		p.malformed(n, path, "must be a list of strings, not %s", describe(n))
		return nil, false
	}
	ok := true
	list := make([]item, 0, len(n.Content))
	for i, c := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		s, valid := p.text(c, at, "a string")
		ok = ok && valid
		list = append(list, item{text: s, node: c, path: at})
	}
	return list, ok
}

func (p *parser) strings(n *yaml.Node, path string) ([]string, bool) {
	list, ok := p.items(n, path)
	if !ok || len(list) == 0 {
		return nil, ok
	}
	return texts(list), true
}

func texts(list []item) []string {
	out := make([]string, len(list))
	for i, it := range list {
		out[i] = it.text
	}
	return out
}

// pairs decodes a mapping of names to strings, or a list of NAME=VALUE. bare
// returns the value for a name without one.
func (p *parser) pairs(n *yaml.Node, path string, bare func(name string) (string, error)) (map[string]string, bool) {
	n = resolve(n)
	if isNull(n) {
		return nil, true
	}
	ok := true
	out := map[string]string{}
	withoutValue := func(name string, at *yaml.Node, where string) {
		v, err := bare(name)
		if err != nil {
			p.errorf(at, where, "%s", err)
			ok = false
		}
		out[name] = v
	}
	if n.Kind == yaml.SequenceNode {
		list, valid := p.items(n, path)
		if !valid {
			return nil, false
		}
		for _, it := range list {
			name, value, has := strings.Cut(it.text, "=")
			if _, twice := out[name]; twice {
				// The name is not shown, since it may come from a variable.
				p.errorf(it.node, it.path, "has the name of an earlier item")
				ok = false
			} else if has {
				out[name] = value
			} else {
				withoutValue(name, it.node, it.path)
			}
		}
		return out, ok
	}
	entries, valid := p.mapping(n, path)
	if !valid {
		return nil, false
	}
	if p.foreign {
		entries = withValue(entries)
	}
	for _, e := range entries {
		at := join(path, e.key)
		if isNull(e.value) {
			withoutValue(e.key, e.keyNode, at)
			continue
		}
		v, valid := p.text(e.value, at, "a string")
		ok = ok && valid
		out[e.key] = v
	}
	return out, ok
}

// keyNode returns the node of a key of a mapping, or the mapping if there is none.
func keyNode(n *yaml.Node, key string) *yaml.Node {
	m := resolve(n)
	for i := 0; i+1 < len(m.Content); i += 2 {
		if resolve(m.Content[i]).Value == key {
			return m.Content[i]
		}
	}
	return n
}
