package mcp

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const headerKeyword = "x-mcp-header"

// ParamHeader is an argument of a tool that modern clients repeat in the header Mcp-Param-Name.
type ParamHeader struct {
	Name string
	Path []string // of property names, from the arguments
}

// maxSchemaDepth bounds the nesting of subschemas that are searched for headers.
const maxSchemaDepth = 100

// ParamHeaders returns the headers that the raw inputSchema of a tool asks for with x-mcp-header. An
// error says in words for the log which rule the schema breaks. Clients must not see such a tool.
func ParamHeaders(inputSchema []byte) ([]ParamHeader, error) {
	// A key may be ASCII and yet be written with an escape.
	if !bytes.Contains(inputSchema, []byte(headerKeyword)) && !bytes.Contains(inputSchema, []byte(`\u00`)) {
		return nil, nil
	}
	var s headerSearch
	if err := s.schema(inputSchema, nil, true, 0); err != nil {
		return nil, err
	}
	return s.found, nil
}

type headerSearch struct {
	found []ParamHeader
}

// schema searches one schema. direct means that only properties lead to it from the root.
func (s *headerSearch) schema(raw []byte, path []string, direct bool, depth int) error {
	if TypeOf(raw) != "object" {
		return nil // true and false are schemas too
	}
	if depth > maxSchemaDepth {
		if !bytes.Contains(raw, []byte(headerKeyword)) {
			return nil
		}
		return fmt.Errorf("%s: %s stands deeper than %d schemas", pathText(path), headerKeyword, maxSchemaDepth)
	}
	found, err := Fields(raw, headerKeyword, "type")
	if err != nil {
		return err
	}
	if found[0] != nil {
		if !direct || len(path) == 0 {
			return fmt.Errorf("%s: %s stands where not only properties lead", pathText(path), headerKeyword)
		}
		if err := s.header(found[0], found[1], path); err != nil {
			return fmt.Errorf("%s: %w", pathText(path), err)
		}
	}
	return lastMembers(raw, func(key string, value []byte) error { return s.keyword(key, value, path, direct, depth) })
}

// lastMembers calls visit with each member of an object, of duplicates with the last, until an error.
func lastMembers(raw []byte, visit func(key string, value []byte) error) error {
	type member struct {
		key   string
		value []byte
	}
	var all []member
	if err := Members(raw, func(key, value []byte) bool {
		all = append(all, member{string(key), value})
		return true
	}); err != nil {
		return err
	}
	for _, m := range lastOfEach(all, func(m member) string { return m.key }) {
		if err := visit(m.key, m.value); err != nil {
			return err
		}
	}
	return nil
}

// keyword searches the subschemas below one keyword of a schema. What is not listed here holds none:
// an enum, a default or an example may look like a schema without being one.
func (s *headerSearch) keyword(key string, value []byte, path []string, direct bool, depth int) error {
	switch key {
	case "properties":
		return s.named(value, path, direct, depth)
	case "patternProperties", "dependentSchemas", "dependencies", "$defs", "definitions":
		return s.named(value, append(slices.Clip(path), "<"+key+">"), false, depth)
	case "items", "prefixItems", "additionalItems", "contains", "unevaluatedItems",
		"additionalProperties", "unevaluatedProperties", "propertyNames",
		"oneOf", "anyOf", "allOf", "not", "if", "then", "else", "contentSchema":
		path = append(slices.Clip(path), "<"+key+">")
		if TypeOf(value) != "array" {
			return s.schema(value, path, false, depth+1)
		}
		var wrong error
		err := Elements(value, func(element []byte) bool {
			wrong = s.schema(element, path, false, depth+1)
			return wrong == nil
		})
		return errors.Join(err, wrong)
	}
	return nil
}

// named searches schemas that have names, which may look like keywords.
func (s *headerSearch) named(raw []byte, path []string, direct bool, depth int) error {
	if TypeOf(raw) != "object" {
		return nil
	}
	return lastMembers(raw, func(name string, value []byte) error {
		return s.schema(value, append(slices.Clip(path), name), direct, depth+1)
	})
}

func (s *headerSearch) header(name, kind []byte, path []string) error {
	if t := TypeOf(name); t != "string" {
		return fmt.Errorf("%s %w", headerKeyword, &TypeError{Want: "string", Got: t})
	}
	h := ParamHeader{Name: text(name), Path: path}
	if !isToken(h.Name) {
		return fmt.Errorf("%s %q cannot be a part of a header's name", headerKeyword, h.Name)
	}
	switch text(kind) {
	case "string", "integer", "boolean":
	default:
		return fmt.Errorf("%s is only for one of the types string, integer and boolean, not for %s", headerKeyword, typeText(kind))
	}
	for _, other := range s.found {
		if strings.EqualFold(other.Name, h.Name) {
			return fmt.Errorf("%s %q is also that of %s", headerKeyword, h.Name, pathText(other.Path))
		}
	}
	s.found = append(s.found, h)
	return nil
}

func typeText(raw []byte) string {
	if raw == nil {
		return "one without a type"
	}
	return fmt.Sprintf("%.100s", raw)
}

func pathText(path []string) string {
	if len(path) == 0 {
		return "the schema itself"
	}
	return "property " + strings.Join(path, ".")
}

// CheckParamHeaders returns the fault of the headers with which a modern request repeats arguments, nil
// if they agree with the raw arguments. Headers that the tool does not ask for are ignored.
func CheckParamHeaders(headers Headers, wanted []ParamHeader, arguments []byte) *Error {
	for _, h := range wanted {
		name := HeaderParam + h.Name
		got, found, fault := headerValue(headers, name, true)
		if fault != nil {
			return fault
		}
		value := argument(arguments, h.Path)
		if fault := checkParam(name, got, found, value); fault != nil {
			return fault
		}
	}
	return nil
}

func checkParam(name, got string, found bool, value []byte) *Error {
	kind := TypeOf(value)
	switch {
	case kind == "nothing" || kind == "null":
		if found {
			return headerMismatch("%s header value '%.200s' has no value in the body", name, got)
		}
		return nil
	case kind == "object" || kind == "array":
		if found {
			return headerMismatch("%s header value '%.200s' does not match body value of type %s", name, got, kind)
		}
		return nil // the server refuses the arguments
	case !found:
		return headerMismatch("required %s header is missing", name)
	}
	agree := false
	switch kind {
	case "string":
		agree = got == text(value)
	case "boolean":
		agree = got == string(value)
	case "number":
		inBody, exact := parseInteger(value)
		if !exact {
			return headerMismatch("%s header stands for body value %.50s, which is no integer that a header can carry", name, value)
		}
		inHeader, exact := parseInteger([]byte(got))
		agree = exact && inHeader == inBody
	}
	if !agree {
		return headerMismatch("%s header value '%.200s' does not match body value '%.200s'", name, got, bodyText(value))
	}
	return nil
}

// Value returns the value of the header for the raw arguments of a call, encoded. There is none for an
// argument that is missing, null, an object or an array.
func (h *ParamHeader) Value(arguments []byte) (string, bool) {
	value := argument(arguments, h.Path)
	switch TypeOf(value) {
	case "string", "boolean":
		return EncodeHeader(bodyText(value)), true
	case "number":
		if n, exact := parseInteger(value); exact {
			return strconv.FormatInt(n, 10), true
		}
		return string(value), true // the server refuses it
	}
	return "", false
}

func bodyText(value []byte) string {
	if TypeOf(value) == "string" {
		return text(value)
	}
	return string(value)
}

// argument returns the raw value at a path of property names, nil if there is none.
func argument(arguments []byte, path []string) []byte {
	value := arguments
	for _, name := range path {
		if TypeOf(value) != "object" {
			return nil
		}
		found, err := Fields(value, name)
		if err != nil {
			return nil
		}
		value = found[0]
	}
	return value
}
