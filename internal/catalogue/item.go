package catalogue

import (
	"bytes"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// item is a prompt, resource or resource template as its server lists it.
type item struct {
	raw []byte
	id  string // its name, URI or URI template
}

// parseItems parses a list whose elements are known by the member key. It leaves out
// those that have none, and the second of two with the same, which nobody could ask
// for.
func parseItems(list [][]byte, key string) []item {
	seen := make(map[string]bool, len(list))
	var items []item
	for _, raw := range list {
		if mcp.TypeOf(raw) != "object" {
			continue
		}
		found, err := mcp.Fields(raw, key)
		if err != nil {
			continue
		}
		id, err := mcp.String(found[0])
		if err != nil || seen[id] {
			continue
		}
		seen[id] = true
		items = append(items, item{raw, id})
	}
	return items
}

// as returns the item with another id under its key. If the id is the same, it is
// what the server sent.
func (it *item) as(key, id string) []byte {
	if id == it.id {
		return it.raw
	}
	raw, err := set(it.raw, mcp.AppendString(nil, id), key)
	if err != nil {
		return it.raw // cannot happen: it was parsed before
	}
	return raw
}

// array returns raw values as an array.
func array(values [][]byte) []byte {
	return append(append([]byte{'['}, bytes.Join(values, []byte{','})...), ']')
}
