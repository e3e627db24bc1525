package mcp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/unicode"
)

// Valid returns nil if raw is exactly one JSON value in valid UTF-8, else a *SyntaxError.
func Valid(raw []byte) error {
	_, end, why := skipValue(raw, 0, 0)
	if why == "" {
		if end = skipSpace(raw, end); end < len(raw) {
			why = whyTrailing
		}
	}
	if why != "" {
		return syntaxError(raw, end, why)
	}
	return nil
}

// RepairUTF8 returns raw with U+FFFD in place of each ill-formed sequence, as WHATWG defines it and as
// JavaScript and Python do. Well-formed text is returned as it is.
func RepairUTF8(raw []byte) []byte {
	if utf8.Valid(raw) {
		return raw
	}
	repaired, err := unicode.UTF8.NewDecoder().Bytes(raw)
	if err != nil {
		return bytes.ToValidUTF8(raw, []byte("\uFFFD")) // cannot happen: that decoder returns no errors
	}
	return repaired
}

// OneLine returns raw with spaces in place of line ends, so that it can become a part of one line and
// nobody can forge a second message. If raw is valid that does not change its meaning, because a valid
// string has no bare CR or LF. raw is neither checked nor written to. Without line ends OneLine
// returns raw itself.
func OneLine(raw []byte) []byte {
	if bytes.IndexByte(raw, '\n') < 0 && bytes.IndexByte(raw, '\r') < 0 {
		return raw
	}
	line := bytes.Clone(raw)
	for i, c := range line {
		if c == '\n' || c == '\r' {
			line[i] = ' '
		}
	}
	return line
}

// TypeError means that a value has the wrong type.
type TypeError struct {
	Want, Got string // as TypeOf names them
}

func (e *TypeError) Error() string {
	return fmt.Sprintf("must be %s, not %s", article(e.Want), article(e.Got))
}

func article(name string) string {
	switch name {
	case "null", "nothing":
		return name
	case "object", "array":
		return "an " + name
	}
	return "a " + name
}

// TypeOf returns the JSON type of a valid value, judged by its first byte: "object", "array", "string",
// "number", "boolean" or "null". It returns "nothing" if there is no value.
func TypeOf(raw []byte) string {
	i := skipSpace(raw, 0)
	if i == len(raw) {
		return "nothing"
	}
	switch raw[i] {
	case '{':
		return "object"
	case '[':
		return "array"
	case '"':
		return "string"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	}
	return "number"
}

// IsNull reports whether raw is the literal null.
func IsNull(raw []byte) bool { return TypeOf(raw) == "null" }

// Members calls yield with each member of the object raw, in order, until yield returns false. The key
// is decoded, and the value is a span of raw. Members checks raw at the same time: after an early stop
// the rest is unchecked, and yield may be called with members before a fault. A fault is a
// *SyntaxError. A valid value that is not an object is a *TypeError.
func Members(raw []byte, yield func(key, value []byte) bool) error {
	i := skipSpace(raw, 0)
	if i == len(raw) || raw[i] != '{' {
		if err := Valid(raw); err != nil {
			return err
		}
		return &TypeError{Want: "object", Got: TypeOf(raw)}
	}
	stopped, end, why := members(raw, i, func(key []byte, _, start, end int) bool {
		return yield(key, raw[start:end:end])
	})
	if why == "" && !stopped {
		if end = skipSpace(raw, end); end < len(raw) {
			why = whyTrailing
		}
	}
	if why != "" {
		return syntaxError(raw, end, why)
	}
	return nil
}

// members walks the object that begins at i. It yields each decoded key, where the member starts, and
// where its value starts and ends. Scan and the splicing share it with Members.
func members(b []byte, i int, yield func(key []byte, at, start, end int) bool) (stopped bool, end int, why string) {
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == '}' {
		return false, i + 1, ""
	}
	for {
		keyStart, keyEnd, next, why := skipKey(b, i)
		if why != "" {
			return false, next, why
		}
		start, end, why := skipValue(b, next, 1)
		if why != "" {
			return false, end, why
		}
		if !yield(unquote(b[keyStart:keyEnd]), keyStart, start, end) {
			return true, end, ""
		}
		i = skipSpace(b, end)
		if i == len(b) {
			return false, i, whyEnd
		}
		if b[i] == '}' {
			return false, i + 1, ""
		}
		if b[i] != ',' {
			return false, i, whyUnexpected
		}
		i++
	}
}

// Fields checks the whole of raw and returns the values of the named members of that object, in the
// order of names, nil for an absent member. Of duplicates the last counts, as in most decoders. Its
// errors are those of Members.
func Fields(raw []byte, names ...string) ([][]byte, error) {
	values := make([][]byte, len(names))
	err := Members(raw, func(key, value []byte) bool {
		for i, name := range names {
			if string(key) == name {
				values[i] = value
			}
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	return values, nil
}

// Elements calls yield with each element of the array raw until it returns false. It checks raw like
// Members.
func Elements(raw []byte, yield func(value []byte) bool) error {
	i := skipSpace(raw, 0)
	if i == len(raw) || raw[i] != '[' {
		if err := Valid(raw); err != nil {
			return err
		}
		return &TypeError{Want: "array", Got: TypeOf(raw)}
	}
	if i = skipSpace(raw, i+1); i < len(raw) && raw[i] == ']' {
		return trailing(raw, i+1)
	}
	for {
		start, end, why := skipValue(raw, i, 1)
		if why != "" {
			return syntaxError(raw, end, why)
		}
		if !yield(raw[start:end:end]) {
			return nil
		}
		i = skipSpace(raw, end)
		switch {
		case i == len(raw):
			return syntaxError(raw, i, whyEnd)
		case raw[i] == ']':
			return trailing(raw, i+1)
		case raw[i] != ',':
			return syntaxError(raw, i, whyUnexpected)
		}
		i++
	}
}

func trailing(raw []byte, i int) error {
	if i = skipSpace(raw, i); i < len(raw) {
		return syntaxError(raw, i, whyTrailing)
	}
	return nil
}

// String decodes a raw JSON string. Any other value is a *TypeError.
func String(raw []byte) (string, error) {
	if err := Valid(raw); err != nil {
		return "", err
	}
	if t := TypeOf(raw); t != "string" {
		return "", &TypeError{Want: "string", Got: t}
	}
	return string(unquote(bytes.TrimSpace(raw))), nil
}

// unquote decodes a valid string literal. If that has no escapes, as most keys and methods, the result
// is a part of it.
func unquote(literal []byte) []byte {
	inner := literal[1 : len(literal)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return inner
	}
	var s string
	if err := json.Unmarshal(literal, &s); err != nil {
		return inner // cannot happen: the literal was checked
	}
	return []byte(s)
}

// AppendString appends s as a JSON string, without the escapes for HTML that encoding/json adds.
func AppendString(dst []byte, s string) []byte {
	before := len(dst)
	dst = append(append(append(dst, '"'), s...), '"')
	if end, why := skipString(dst, before+1); why == "" && end == len(dst) && strings.IndexByte(s, '\\') < 0 {
		return dst
	}
	dst = dst[:before]
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return append(dst, `""`...) // cannot happen: every string has an encoding
	}
	return append(dst, bytes.TrimSuffix(out.Bytes(), []byte{'\n'})...)
}
