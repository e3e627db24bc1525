package fleetfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// document parses the text of the file and returns its root node. It records an
// error and returns nil if it cannot. JSON has a parser of its own, since YAML
// parsers refuse parts of it (tabs between tokens, surrogate escapes), and
// clients allow comments in their JSON.
func (p *parser) document(data []byte) *yaml.Node {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	onlyJSON := strings.HasSuffix(p.opts.Filename, ".json") || strings.HasSuffix(p.opts.Filename, ".jsonc")
	trimmed := bytes.TrimSpace(data)
	if len(trimmed) == 0 {
		p.malformed(nil, "", "%s", p.emptyMsg())
		return nil
	}
	if onlyJSON || trimmed[0] == '{' || trimmed[0] == '/' {
		root, err := parseJSON(data)
		if err == nil {
			return root
		}
		if onlyJSON {
			p.errs = append(p.errs, &Error{File: p.opts.Filename, Line: err.line, Column: err.column, Msg: err.msg, Malformed: true})
			return nil
		}
	}
	return p.yamlDocument(data)
}

var yamlErrorLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?((?s).*)$`)

func (p *parser) yamlDocument(data []byte) *yaml.Node {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		p.malformed(nil, "", "%s", p.emptyMsg())
		return nil
	} else if err != nil {
		p.yamlError(err)
		return nil
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		p.malformed(&second, "", "only one document is allowed in a fleet file")
		return nil
	} else if !errors.Is(err, io.EOF) {
		p.yamlError(err)
		return nil
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 || isNull(doc.Content[0]) {
		p.malformed(nil, "", "%s", p.emptyMsg())
		return nil
	}
	return doc.Content[0]
}

// fromParser matches errors whose line the yaml package counts from 0, and omits
// if it is 0. The errors of its scanner count lines from 1.
var fromParser = regexp.MustCompile(`did not find expected (<|node content|key|'-' indicator|',' or)`)

func (p *parser) yamlError(err error) {
	m := yamlErrorLine.FindStringSubmatch(err.Error())
	line, _ := strconv.Atoi(m[1]) // 0 for "", which means unknown
	if fromParser.MatchString(m[2]) {
		line++
	}
	p.errs = append(p.errs, &Error{File: p.opts.Filename, Line: line, Msg: "not valid YAML: " + m[2], Malformed: true})
}

type jsonError struct {
	line, column int
	msg          string
}

// maxJSONDepth is far more than any fleet file needs, and bounds recursion.
const maxJSONDepth = 64

// parseJSON parses JSON into nodes with positions. It allows comments and
// trailing commas, as editors do.
func parseJSON(data []byte) (*yaml.Node, *jsonError) {
	r := &jsonReader{data: blankComments(data)}
	if at := firstInvalid(data); at >= 0 { // encoding/json would silently replace it by U+FFFD
		return nil, r.fail(at, "not valid JSON: not UTF-8")
	}
	var all json.RawMessage
	if err := json.Unmarshal(r.data, &all); err != nil {
		offset := len(r.data)
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			offset = max(int(syntax.Offset)-1, 0)
		}
		return nil, r.fail(offset, "not valid JSON: "+err.Error())
	}
	r.dec = json.NewDecoder(bytes.NewReader(r.data))
	r.dec.UseNumber()
	return r.value(0)
}

// firstInvalid returns the offset of the first byte that is not UTF-8, or -1.
func firstInvalid(data []byte) int {
	if utf8.Valid(data) {
		return -1
	}
	at := 0
	for {
		r, size := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && size == 1 {
			return at
		}
		at += size
	}
}

type jsonReader struct {
	data []byte
	dec  *json.Decoder
	// line and lineStart belong to offset. Positions are requested in order, so
	// they only move forward.
	offset, line, lineStart int
}

func (r *jsonReader) fail(offset int, msg string) *jsonError {
	line, column := r.position(offset)
	return &jsonError{line: line, column: column, msg: msg}
}

func (r *jsonReader) position(offset int) (line, column int) {
	for ; r.offset < min(offset, len(r.data)); r.offset++ {
		if r.data[r.offset] == '\n' {
			r.line++
			r.lineStart = r.offset + 1
		}
	}
	return r.line + 1, offset - r.lineStart + 1
}

// next returns the next token and a node with its position.
func (r *jsonReader) next() (json.Token, *yaml.Node, *jsonError) {
	start := int(r.dec.InputOffset())
	for start < len(r.data) && strings.IndexByte(" \t\r\n,:", r.data[start]) >= 0 {
		start++
	}
	tok, err := r.dec.Token()
	if err != nil {
		return nil, nil, r.fail(start, "not valid JSON: "+err.Error())
	}
	n := &yaml.Node{Kind: yaml.ScalarNode}
	n.Line, n.Column = r.position(start)
	return tok, n, nil
}

func (r *jsonReader) value(depth int) (*yaml.Node, *jsonError) {
	tok, n, err := r.next()
	if err != nil {
		return nil, err
	}
	if depth > maxJSONDepth {
		return nil, &jsonError{line: n.Line, column: n.Column, msg: "nested too deeply"}
	}
	return n, r.fill(n, tok, depth)
}

func (r *jsonReader) fill(n *yaml.Node, tok json.Token, depth int) *jsonError {
	switch tok := tok.(type) {
	case string:
		n.Tag, n.Value, n.Style = "!!str", tok, yaml.DoubleQuotedStyle
	case json.Number:
		n.Tag, n.Value = "!!int", tok.String()
		if strings.ContainsAny(n.Value, ".eE") {
			n.Tag = "!!float"
		}
	case bool:
		n.Tag, n.Value = "!!bool", fmt.Sprint(tok)
	case nil:
		n.Tag, n.Value = "!!null", "null"
	case json.Delim:
		n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		if tok == '{' {
			n.Kind, n.Tag = yaml.MappingNode, "!!map"
		}
		for r.dec.More() { // in an object, keys and values alternate
			child, err := r.value(depth + 1)
			if err != nil {
				return err
			}
			n.Content = append(n.Content, child)
		}
		if _, _, err := r.next(); err != nil { // the closing delimiter
			return err
		}
	}
	return nil
}

// blankComments replaces comments and trailing commas by spaces, which preserves
// all positions.
func blankComments(data []byte) []byte {
	out := bytes.Clone(data)
	comma := -1 // the last comma, if only space and comments have followed it
	blank := func(from, to int) {
		for ; from < to; from++ {
			if out[from] != '\n' {
				out[from] = ' '
			}
		}
	}
	for i := 0; i < len(out); i++ {
		switch c := out[i]; {
		case c == '"':
			comma = -1
			for i++; i < len(out) && out[i] != '"'; i++ {
				if out[i] == '\\' {
					i++
				}
			}
		case c == '/' && i+1 < len(out) && (out[i+1] == '/' || out[i+1] == '*'):
			end, terminator := len(out), "\n"
			if out[i+1] == '*' {
				terminator = "*/"
			}
			if j := bytes.Index(out[i+2:], []byte(terminator)); j >= 0 {
				end = i + 2 + j + len(terminator)
			}
			blank(i, end)
			i = end - 1
		case c == ',':
			comma = i
		case c == '}' || c == ']':
			if comma >= 0 {
				out[comma] = ' '
			}
			comma = -1
		case strings.IndexByte(" \t\r\n", c) < 0:
			comma = -1
		}
	}
	return out
}
