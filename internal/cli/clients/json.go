package clients

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tailscale/hujson"
)

// addJSON sets the fields of the object at path in a text of JSON, which may have
// comments and trailing commas.
func addJSON(text string, path []string, fields []field) (string, error) {
	if strings.TrimSpace(text) == "" {
		text = "{}\n"
	}
	style := styleOf(text)
	steps := []func(string) (string, error){}
	existing, err := lookup(text, path)
	if err != nil {
		return "", err
	}
	if existing == nil {
		return setJSON(text, path, object(fields), style)
	}
	for _, f := range fields {
		steps = append(steps, func(text string) (string, error) {
			return setJSON(text, append(slices.Clone(path), f.key), compact(f.value), style)
		})
	}
	for _, key := range transport { // those of another way to reach the server
		if !slices.ContainsFunc(fields, func(f field) bool { return f.key == key }) {
			steps = append(steps, func(text string) (string, error) { return removeJSON(text, path, key) })
		}
	}
	for _, step := range steps {
		if text, err = step(text); err != nil {
			return "", err
		}
	}
	return text, nil
}

// lookup returns the object at path, nil if there is none yet. Anything else there
// is an error.
func lookup(text string, path []string) (*hujson.Object, error) {
	at, value, err := descend(text, path)
	if err != nil || at < len(path) {
		return nil, err
	}
	return value.Value.(*hujson.Object), nil
}

// descend returns the innermost object that exists on the way along path, and how
// many steps lead to it.
func descend(text string, path []string) (at int, value *hujson.Value, err error) {
	root, err := hujson.Parse([]byte(text))
	if err != nil {
		return 0, nil, jsonError(err)
	}
	value = &root
	for {
		obj, ok := value.Value.(*hujson.Object)
		if !ok {
			line, column := position(text, value.StartOffset)
			where := "the file"
			if at > 0 {
				where = strconv.Quote(path[at-1])
			}
			return 0, nil, &ParseError{line, column, where + " must be an object"}
		}
		if at == len(path) {
			return at, value, nil
		}
		i := member(obj, path[at])
		if i < 0 {
			return at, value, nil
		}
		value = &obj.Members[i].Value
		at++
	}
}

// member returns the index of the member that counts, the last one of that name.
func member(obj *hujson.Object, name string) int {
	for i, m := range slices.Backward(obj.Members) {
		if literal, ok := m.Name.Value.(hujson.Literal); ok && literal.String() == name {
			return i
		}
	}
	return -1
}

// setJSON sets the value at path, which is compact JSON.
func setJSON(text string, path []string, value string, style style) (string, error) {
	last := len(path) - 1
	at, holder, err := descend(text, path[:last])
	if err != nil {
		return "", err
	}
	obj := holder.Value.(*hujson.Object)
	if at == last {
		if i := member(obj, path[last]); i >= 0 {
			return replaceJSON(text, &obj.Members[i].Value, value, style), nil
		}
	}
	for i := last; i > at; i-- { // objects on the way
		value = `{` + quote(path[i]) + `:` + value + `}`
	}
	return insertJSON(text, holder, path[at], value, style), nil
}

// replaceJSON replaces a value unless it is equal.
func replaceJSON(text string, old *hujson.Value, value string, style style) string {
	was := old.Clone()
	was.Standardize()
	var a, b any
	if json.Unmarshal(was.Pack(), &a) == nil && json.Unmarshal([]byte(value), &b) == nil && reflect.DeepEqual(a, b) {
		return text
	}
	return text[:old.StartOffset] + style.render(value, lineIndent(text, old.StartOffset)) + text[old.EndOffset:]
}

// insertJSON adds a member at the end of an object.
func insertJSON(text string, holder *hujson.Value, name, value string, style style) string {
	obj := holder.Value.(*hujson.Object)
	begin, end := holder.StartOffset+1, holder.EndOffset-1 // of what is between the brackets
	n, trailing := len(obj.Members), trailingComma(obj)
	after, indent := begin, lineIndent(text, begin)+style.unit
	if n > 0 {
		after = obj.Members[n-1].Value.EndOffset
	}
	rest := strings.TrimRight(text[after:end], " \t\r\n") // comments, and a trailing comma
	space := text[after+len(rest) : end]
	if n > 0 && !strings.Contains(text[begin:end], "\n") { // all on one line
		more := " " + quote(name) + ": " + spaced(value)
		if !trailing {
			rest = "," + rest
		}
		return text[:after] + rest + more + space + text[end:]
	}
	if n > 0 {
		indent = lineIndent(text, obj.Members[0].Name.StartOffset)
	}
	if !strings.Contains(space, "\n") {
		space = style.newline + lineIndent(text, begin)
	}
	more := style.newline + indent + quote(name) + ": " + style.render(value, indent)
	switch {
	case trailing:
		more += "," // as the author likes it
	case n > 0:
		rest = "," + rest
	}
	return text[:after] + rest + more + space + text[end:]
}

// removeJSON removes a member of the object at path, if it is there.
func removeJSON(text string, path []string, name string) (string, error) {
	obj, err := lookup(text, path)
	if err != nil || obj == nil {
		return text, err
	}
	i := member(obj, name)
	if i < 0 {
		return text, nil
	}
	start, end := obj.Members[i].Name.StartOffset, obj.Members[i].Value.EndOffset
	last := i == len(obj.Members)-1
	switch {
	case !last || trailingComma(obj):
		end += strings.IndexByte(maskComments(text[end:]), ',') + 1
	case i > 0: // the comma before it goes, too
		before := obj.Members[i-1].Value.EndOffset
		comma := before + strings.IndexByte(maskComments(text[before:]), ',')
		text = text[:comma] + text[comma+1:]
		start, end = start-1, end-1
	}
	// The line goes if nothing else is in it.
	line := strings.LastIndexByte(text[:start], '\n') + 1
	if rest := text[end:]; strings.TrimSpace(text[line:start]) == "" {
		if next := strings.IndexByte(rest, '\n'); next >= 0 && strings.TrimSpace(rest[:next]) == "" {
			return text[:line] + rest[next+1:], nil
		}
	}
	return text[:start] + strings.TrimLeft(text[end:], " \t"), nil
}

var comment = regexp.MustCompile(`(?s)//[^\n]*|/\*.*?\*/`)

// maskComments replaces comments by spaces. There must be no string before what
// the caller looks for.
func maskComments(text string) string {
	return comment.ReplaceAllStringFunc(text, func(c string) string { return strings.Repeat(" ", len(c)) })
}

func trailingComma(obj *hujson.Object) bool {
	n := len(obj.Members)
	return n > 0 && obj.Members[n-1].Value.AfterExtra != nil
}

// style is how a file is laid out.
type style struct {
	unit    string // of indentation
	newline string
}

var indented = regexp.MustCompile(`(?m)^([ \t]+)"`)

func styleOf(text string) style {
	s := style{unit: "  ", newline: "\n"}
	if m := indented.FindStringSubmatch(text); m != nil {
		s.unit = m[1]
	}
	if strings.Contains(text, "\r\n") {
		s.newline = "\r\n"
	}
	return s
}

// render lays out compact JSON for a line with that indentation.
func (s style) render(value, indent string) string {
	var out bytes.Buffer
	if err := json.Indent(&out, []byte(value), indent, s.unit); err != nil {
		return value // cannot happen: the value is ours
	}
	return strings.ReplaceAll(out.String(), "\n", s.newline)
}

// spaced lays out compact JSON on one line.
func spaced(value string) string {
	lines := strings.Split(style{unit: "", newline: "\n"}.render(value, ""), "\n")
	out := strings.Join(lines, " ")
	return strings.NewReplacer("[ ", "[", " ]", "]").Replace(out)
}

// lineIndent returns the indentation of the line that offset is in.
func lineIndent(text string, offset int) string {
	line := text[strings.LastIndexByte(text[:offset], '\n')+1:]
	return line[:len(line)-len(strings.TrimLeft(line, " \t"))]
}

func object(fields []field) string {
	var parts []string
	for _, f := range fields {
		parts = append(parts, quote(f.key)+":"+compact(f.value))
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func compact(v any) string {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "null" // cannot happen: strings and lists of them have an encoding
	}
	return strings.TrimSuffix(out.String(), "\n")
}

func quote(s string) string { return compact(s) }

// jsonError returns the library's error as a ParseError.
func jsonError(err error) error {
	e := &ParseError{Reason: strings.TrimPrefix(err.Error(), "hujson: ")}
	var reason string
	if n, _ := fmt.Sscanf(e.Reason, "line %d, column %d:", &e.Line, &e.Column); n == 2 {
		_, reason, _ = strings.Cut(e.Reason, ": ")
		e.Reason = reason
	}
	return e
}

// position returns the line and the column of an offset, from 1.
func position(text string, offset int) (line, column int) {
	before := text[:offset]
	return strings.Count(before, "\n") + 1, utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
}
