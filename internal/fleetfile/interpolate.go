package fleetfile

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// maxDefaults bounds how deeply variables in defaults are nested.
const maxDefaults = 8

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*`)

// interpolate replaces variables as Compose does: $VAR, ${VAR}, ${VAR:-default},
// ${VAR-default}, ${VAR:?message}, ${VAR?message}, ${VAR:+other}, ${VAR+other},
// and $$ for a dollar sign. Unlike in Compose, a missing variable is an error. In
// the mcpServers form, whose clients mostly know no variables, only the forms
// with braces count, and every other dollar sign is literal.
func (p *parser) interpolate(s string) (string, error) {
	if p.literal {
		return s, nil
	}
	return p.interpolateDepth(s, 0)
}

func (p *parser) interpolateDepth(s string, depth int) (string, error) {
	if depth > maxDefaults {
		return "", errors.New("defaults of variables are nested too deeply")
	}
	var out strings.Builder
	for {
		plain, rest, found := strings.Cut(s, "$")
		out.WriteString(plain)
		if !found {
			return out.String(), nil
		}
		name := variable.FindString(rest)
		switch {
		case strings.HasPrefix(rest, "{"):
			body, after, err := cutBraces(rest)
			if err != nil {
				return "", err
			}
			v, err := p.expand(body, depth)
			if err != nil {
				return "", err
			}
			out.WriteString(v)
			s = after
		case p.foreign:
			out.WriteByte('$')
			s = rest
		case strings.HasPrefix(rest, "$"):
			out.WriteByte('$')
			s = rest[1:]
		case name != "":
			v, ok := p.opts.Lookup(name)
			if !ok {
				return "", missing(name)
			}
			out.WriteString(v)
			s = rest[len(name):]
		default:
			return "", errors.New("a $ must begin a variable; write $$ for a dollar sign")
		}
	}
}

func missing(name string) error {
	return fmt.Errorf("the environment has no variable %s", name)
}

// cutBraces splits "{body}after" at the brace that closes the first one.
func cutBraces(s string) (body, after string, err error) {
	open := 0
	for i := range len(s) {
		switch {
		case s[i] == '{' && (i == 0 || s[i-1] == '$'):
			open++
		case s[i] == '}':
			if open--; open == 0 {
				return s[1:i], s[i+1:], nil
			}
		}
	}
	return "", "", errors.New("${ without its }; write $$ for a dollar sign")
}

// expand evaluates the text between ${ and }.
func (p *parser) expand(body string, depth int) (string, error) {
	if p.foreign {
		if value, ok, err := p.expandEditor(body); ok {
			return value, err
		}
		body = strings.TrimPrefix(body, "env:") // as VS Code spells it
	}
	name := variable.FindString(body)
	op := body[len(name):]
	if name == "" {
		return "", fmt.Errorf("${%s} does not name a variable; write $$ for a dollar sign", body)
	}
	value, set := p.opts.Lookup(name)
	if op == "" {
		if !set {
			return "", missing(name)
		}
		return value, nil
	}
	if strings.HasPrefix(op, ":") { // an empty variable counts as not set
		op = op[1:]
		set = set && value != ""
	}
	if op == "" {
		return "", fmt.Errorf("${%s} is not understood", body)
	}
	switch operand := op[1:]; op[0] {
	case '-':
		if set {
			return value, nil
		}
		return p.interpolateDepth(operand, depth+1)
	case '+':
		if !set {
			return "", nil
		}
		return p.interpolateDepth(operand, depth+1)
	case '?':
		if set {
			return value, nil
		}
		if operand == "" {
			return "", missing(name)
		}
		return "", fmt.Errorf("%w: %s", missing(name), operand)
	}
	return "", fmt.Errorf("${%s} is not understood", body)
}
