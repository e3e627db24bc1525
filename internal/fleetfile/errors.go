package fleetfile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mcpfleet/mcpfleet/internal/nearest"
)

// maxShown bounds how many problems one message lists.
const maxShown = 10

// maxErrors bounds how many problems are recorded. Each one is compared with all
// others.
const maxErrors = 1000

// Error is one problem in a fleet file.
type Error struct {
	File   string
	Line   int    // from 1; 0 when unknown
	Column int    // from 1; 0 when unknown
	Path   string // of the key, such as servers.brave-search.resources.memory; may be ""
	Msg    string
	// Malformed is set if the text does not have the form of a fleet file: it is
	// not YAML or JSON, a key is unknown, missing or duplicate, or a value has
	// the wrong type. Otherwise the form is right, but a value is impossible.
	Malformed bool
}

// Error returns file:line:column: path: message.
func (e *Error) Error() string {
	return located(e.File, e.Line, e.Column, e.Path, e.Msg)
}

func located(file string, line, column int, path, msg string) string {
	var b strings.Builder
	b.WriteString(cmp.Or(file, "fleet file"))
	if line > 0 {
		fmt.Fprintf(&b, ":%d", line)
		if column > 0 {
			fmt.Fprintf(&b, ":%d", column)
		}
	}
	b.WriteString(": ")
	if path != "" {
		b.WriteString(path + ": ")
	}
	b.WriteString(msg)
	return b.String()
}

// Errors are all problems of a fleet file, in the order of their lines.
type Errors []*Error

// Error lists the problems, one per line. It lists ten, and counts the rest.
func (e Errors) Error() string {
	lines := make([]string, 0, maxShown+1)
	for i, one := range e {
		if i == maxShown {
			lines = append(lines, fmt.Sprintf("and %d more", len(e)-maxShown))
			break
		}
		lines = append(lines, one.Error())
	}
	return strings.Join(lines, "\n")
}

// Malformed reports whether any of the problems is malformed text.
func (e Errors) Malformed() bool {
	return slices.ContainsFunc(e, func(one *Error) bool { return one.Malformed })
}

func (e Errors) orNil() error {
	if len(e) == 0 {
		return nil
	}
	slices.SortStableFunc(e, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return e
}

// errorf records a problem with the value of a node.
func (p *parser) errorf(n *yaml.Node, path, format string, args ...any) {
	p.record(n, &Error{Path: path, Msg: fmt.Sprintf(format, args...)})
}

// malformed records a problem with the form of a node.
func (p *parser) malformed(n *yaml.Node, path, format string, args ...any) {
	p.record(n, &Error{Path: path, Msg: fmt.Sprintf(format, args...), Malformed: true})
}

// record adds a problem at a node. If the parser meets the same problem again
// through another alias of the node, it is recorded once.
func (p *parser) record(n *yaml.Node, e *Error) {
	if len(p.errs) == maxErrors {
		return
	}
	e.File = p.opts.Filename
	if n != nil {
		e.Line, e.Column = n.Line, n.Column
	}
	for _, old := range p.errs {
		if *old == *e {
			return
		}
	}
	p.errs = append(p.errs, e)
}

// unknownKey refuses a key as not supported yet, or as unknown with the nearest
// known key.
func (p *parser) unknownKey(e entry, path string, known, later []string) {
	if path != "" {
		path += "."
	}
	if slices.Contains(later, e.key) {
		p.malformed(e.keyNode, path+e.key, "not supported yet")
		return
	}
	p.malformed(e.keyNode, path+e.key, "unknown key%s", didYouMean(e.key, known))
}

// didYouMean returns a hint at the candidate most similar to word, or "".
func didYouMean(word string, candidates []string) string {
	near := nearest.Find(word, candidates)
	if len(near) == 0 {
		return ""
	}
	return "; did you mean " + candidates[near[0]] + "?"
}
