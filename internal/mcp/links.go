package mcp

import "bytes"

// MapURIs returns result with each URI of a resource replaced by what rename returns for it. The result is
// one of tools/call, prompts/get or resources/read: links and embedded resources in its content, in the
// content of its messages, and its contents have URIs. rename gets and returns decoded strings. Every other
// byte stays as it is, and a result that is not as the specification says is returned as it is, as is one
// without such URIs. result is not written to.
func MapURIs(method string, result []byte, rename func(uri string) string) []byte {
	if TypeOf(result) != "object" || !bytes.Contains(result, []byte(`"uri"`)) {
		return result
	}
	m := uriMap{b: result, rename: rename}
	switch method {
	case MethodToolsCall:
		m.each(0, "content", m.content)
	case MethodPromptsGet:
		m.each(0, "messages", func(at int) { m.inside(at, "content", m.content) })
	case MethodResourcesRead:
		m.each(0, "contents", m.uri)
	}
	if m.out == nil {
		return result
	}
	return append(m.out, result[m.done:]...)
}

// uriMap is a text whose URIs are being replaced, from front to back.
type uriMap struct {
	b      []byte
	rename func(string) string
	out    []byte // nil until the first replacement
	done   int    // how much of b is in out
}

// content maps a content block that begins at at.
func (m *uriMap) content(at int) {
	start, end, _, err := field(m.b, at, "type")
	if err != nil || end == 0 {
		return
	}
	switch string(m.b[start:end]) {
	case `"resource_link"`:
		m.uri(at)
	case `"resource"`:
		m.inside(at, "resource", m.uri)
	}
}

// uri maps the member uri of the object that begins at at.
func (m *uriMap) uri(at int) {
	start, end, _, err := field(m.b, at, "uri")
	if err != nil || end == 0 || m.b[start] != '"' || start < m.done {
		return
	}
	own := string(unquote(m.b[start:end]))
	if uri := m.rename(own); uri != own {
		m.out = AppendString(append(m.out, m.b[m.done:start]...), uri)
		m.done = end
	}
}

// inside calls do with where a member of the object at at begins, if it has that member.
func (m *uriMap) inside(at int, name string, do func(at int)) {
	if start, end, _, err := field(m.b, at, name); err == nil && end > 0 {
		do(start)
	}
}

// each calls do with where each element of an array, a member of the object at at, begins.
func (m *uriMap) each(at int, name string, do func(at int)) {
	start, end, _, err := field(m.b, at, name)
	if err != nil || end == 0 || m.b[start] != '[' {
		return
	}
	for i := skipSpace(m.b, start+1); i < end-1; i = skipSpace(m.b, i+1) {
		from, to, why := skipValue(m.b, i, 1)
		if why != "" {
			return
		}
		do(from)
		if i = skipSpace(m.b, to); m.b[i] != ',' {
			return
		}
	}
}
