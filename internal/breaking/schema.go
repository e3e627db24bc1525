package breaking

import (
	"net/url"
	"strconv"
	"strings"
)

// document is a schema with the parts that its references name.
type document struct {
	root  any
	steps int // schemas that were read, with what they list
}

const (
	// maxSteps bounds the schemas of a document that are read, some of them many
	// times, and the members and values that they list. What is beyond it is unknown.
	maxSteps = 20_000
	// maxPlace bounds the length of the place of a schema, in bytes. Schemas that are
	// nested more deeply are unknown.
	maxPlace = 1000
)

// sizeOf returns how much a schema lists.
func sizeOf(schema map[string]any) (n int) {
	for _, key := range []string{"type", "enum", "required", "properties"} {
		switch list := schema[key].(type) {
		case []any:
			n += len(list)
		case map[string]any:
			n += len(list)
		}
	}
	return n
}

// node is a part of a document.
type node struct {
	value any
	at    string // a JSON pointer
}

func (n node) child(key string) node {
	object, _ := n.value.(map[string]any)
	return node{object[key], n.at + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key)}
}

// children returns the parts of an array.
func (n node) children(key string) (out []node) {
	list := n.child(key)
	values, _ := list.value.([]any)
	for i, v := range values {
		out = append(out, node{v, list.at + "/" + strconv.Itoa(i)})
	}
	return out
}

// resolve finds what a reference names in the same document.
func (d *document) resolve(ref string) (node, bool) {
	pointer, local := strings.CutPrefix(ref, "#")
	pointer, err := url.PathUnescape(pointer)
	if !local || err != nil || pointer != "" && pointer[0] != '/' {
		return node{}, false
	}
	value := d.root
	for _, key := range strings.Split(pointer, "/")[1:] {
		key = strings.NewReplacer("~1", "/", "~0", "~").Replace(key)
		switch v := value.(type) {
		case map[string]any:
			next, there := v[key]
			if !there {
				return node{}, false
			}
			value = next
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(v) {
				return node{}, false
			}
			value = v[i]
		default:
			return node{}, false
		}
	}
	return node{value, pointer}, true
}
