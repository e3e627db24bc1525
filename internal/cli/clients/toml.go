package clients

import (
	"errors"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// addTOML sets the fields of the table at path in a text of TOML.
func addTOML(text string, path []string, fields []field) (string, error) {
	was, err := parseTOML(text)
	if err != nil {
		return "", err
	}
	newline := "\n"
	if strings.Contains(text, "\r\n") {
		newline = "\r\n"
	}
	var lines strings.Builder
	for _, f := range fields {
		lines.WriteString(f.key + " = " + tomlValue(f.value) + newline)
	}
	var out string
	switch header, found := findTable(text, path); {
	case found && holds(was, path, fields):
		return text, nil
	case found:
		out = header.set(text, lines.String(), newline)
	case text == "":
		out = tableHeader(path) + newline + lines.String()
	default:
		gap := newline
		if !strings.HasSuffix(text, "\n") {
			gap += newline
		}
		out = text + gap + tableHeader(path) + newline + lines.String()
	}
	now, err := parseTOML(out)
	if err != nil || !holds(now, path, fields) || !reflect.DeepEqual(without(was, path), without(now, path)) {
		return "", &ParseError{Reason: strings.Join(path[:len(path)-1], ".") + " is written in a form that this command cannot extend; add this by hand:\n\n" +
			tableHeader(path) + newline + lines.String()}
	}
	return out, nil
}

func parseTOML(text string) (map[string]any, error) {
	var values map[string]any
	err := toml.Unmarshal([]byte(text), &values)
	if wrong, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, column := wrong.Position()
		return nil, &ParseError{line, column, strings.TrimPrefix(wrong.Error(), "toml: ")}
	}
	if err != nil {
		return nil, &ParseError{Reason: err.Error()}
	}
	return values, nil
}

// table is a table with a header of its own.
type table struct {
	after int      // the offset after the line of the header
	keys  [][2]int // where the transport keys with their values begin and end
}

// findTable finds the table [path] in a valid text.
func findTable(text string, path []string) (t table, found bool) {
	var p unstable.Parser
	p.Reset([]byte(text))
	inside := false
	for p.NextExpression() {
		e := p.Expression()
		key, start := keyOf(e)
		switch e.Kind {
		case unstable.Table:
			if inside = slices.Equal(key, path); inside {
				found = true
				t.after = lineEnd(text, start)
			}
		case unstable.ArrayTable:
			inside = false
		case unstable.KeyValue:
			if inside && len(key) == 1 && slices.Contains(transport, key[0]) {
				t.keys = append(t.keys, [2]int{int(e.Raw.Offset), int(e.Raw.Offset + e.Raw.Length)})
			}
		}
	}
	return t, found
}

// keyOf returns the parts of a key, and where it begins.
func keyOf(e *unstable.Node) (key []string, start int) {
	for it := e.Key(); it.Next(); {
		if n := it.Node(); len(key) == 0 {
			start = int(n.Raw.Offset)
		}
		key = append(key, string(it.Node().Data))
	}
	return key, start
}

// set removes the transport keys and adds lines in their place.
func (t *table) set(text, lines, newline string) string {
	for _, span := range slices.Backward(t.keys) {
		text = text[:span[0]] + text[lineEnd(text, span[1]):]
	}
	head := text[:t.after]
	if !strings.HasSuffix(head, "\n") {
		head += newline // the header was the last line
	}
	return head + lines + text[t.after:]
}

// lineEnd returns the offset after the line that offset is in.
func lineEnd(text string, offset int) int {
	if i := strings.IndexByte(text[offset:], '\n'); i >= 0 {
		return offset + i + 1
	}
	return len(text)
}

func tableHeader(path []string) string {
	var parts []string
	for _, part := range path {
		if strings.Trim(part, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" || part == "" {
			part = tomlValue(part)
		}
		parts = append(parts, part)
	}
	return "[" + strings.Join(parts, ".") + "]"
}

// tomlValue returns a string or a list of strings. TOML's basic strings have all
// escapes of JSON that the encoder writes.
func tomlValue(v any) string {
	if list, ok := v.([]string); ok {
		var parts []string
		for _, s := range list {
			parts = append(parts, quote(s))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return compact(v)
}

// holds reports whether the table at path has the fields, and no other key that
// says how to reach the server.
func holds(values map[string]any, path []string, fields []field) bool {
	at := values
	for _, key := range path {
		next, ok := at[key].(map[string]any)
		if !ok {
			return false
		}
		at = next
	}
	for _, key := range transport {
		i := slices.IndexFunc(fields, func(f field) bool { return f.key == key })
		value, has := at[key]
		if has != (i >= 0) {
			return false
		}
		if has && tomlValue(plain(value)) != tomlValue(fields[i].value) {
			return false
		}
	}
	return true
}

// plain returns a decoded list of strings as one.
func plain(value any) any {
	list, ok := value.([]any)
	if !ok {
		return value
	}
	var out []string
	for _, v := range list {
		s, ok := v.(string)
		if !ok {
			return value
		}
		out = append(out, s)
	}
	return out
}

// without returns a copy of the values without the transport keys of the table at
// path, to compare what must not change.
func without(values map[string]any, path []string) map[string]any {
	out := map[string]any{}
	for key, value := range values {
		inner, ok := value.(map[string]any)
		switch {
		case len(path) == 0 && slices.Contains(transport, key):
		case len(path) > 0 && key == path[0] && ok:
			if below := without(inner, path[1:]); len(below) > 0 {
				out[key] = below
			}
		default:
			out[key] = value
		}
	}
	return out
}
