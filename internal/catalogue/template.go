package catalogue

import (
	"regexp"
	"strings"
)

// maxTemplate is how long a URI template may be to be matched. A longer one matches
// what begins as it does.
const maxTemplate = 4 << 10

// template is a URI template (RFC 6570) that URIs are compared with.
type template struct {
	text    string
	literal string         // what every URI of it begins with
	pattern *regexp.Regexp // nil: any URI that begins with literal
}

func newTemplate(text string) *template {
	t := &template{text: text}
	literal, rest, expression := strings.Cut(text, "{")
	t.literal = literal
	if !expression || len(text) > maxTemplate {
		return t
	}
	var b strings.Builder
	b.WriteString("(?s)^" + regexp.QuoteMeta(literal))
	for expression {
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return t
		}
		b.WriteString(expansions(name))
		literal, rest, expression = strings.Cut(after, "{")
		b.WriteString(regexp.QuoteMeta(literal))
	}
	t.pattern, _ = regexp.Compile(b.String() + "$")
	return t
}

// expansions returns a pattern for what the expression of a template may become. A
// simple one stays within a segment of a path. Others may become anything, and those
// with an operator nothing.
func expansions(expression string) string {
	switch {
	case strings.IndexAny(expression, "/.;?&") == 0:
		return ".*"
	case strings.IndexAny(expression, "+#") == 0, strings.HasSuffix(expression, "*"):
		return ".+"
	}
	return "[^/]+"
}

// matches reports whether a URI may be one of the template's.
func (t *template) matches(uri string) bool {
	if t.pattern == nil {
		return strings.HasPrefix(uri, t.literal)
	}
	return strings.HasPrefix(uri, t.literal) && t.pattern.MatchString(uri)
}

// overlaps reports whether the two may have a URI in common. It goes by what they
// begin with, so it may report true for two that have none.
func (t *template) overlaps(o *template) bool {
	return strings.HasPrefix(t.literal, o.literal) || strings.HasPrefix(o.literal, t.literal)
}
