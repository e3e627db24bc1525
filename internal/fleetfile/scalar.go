package fleetfile

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// text returns the text of a scalar with variables replaced. Numbers and booleans
// are allowed, and returned as written.
func (p *parser) text(n *yaml.Node, path, want string) (string, bool) {
	n = resolve(n)
	if n.Kind != yaml.ScalarNode {
		p.malformed(n, path, "must be %s, not %s", want, describe(n))
		return "", false
	}
	switch n.ShortTag() {
	case "!!null":
		p.malformed(n, path, "has no value; it must be %s", want)
		return "", false
	case "!!str", "!!int", "!!float", "!!bool", "!!timestamp":
	default:
		p.malformed(n, path, "must be %s, not a value with the tag %s", want, n.ShortTag())
		return "", false
	}
	s, err := p.interpolate(n.Value)
	if err != nil {
		p.errorf(n, path, "%s", err)
		return "", false
	}
	if why := badText(s); why != "" {
		p.errorf(n, path, "%s", why)
		return "", false
	}
	return s, true
}

// str is like text, but the scalar must be a string in the file.
func (p *parser) str(n *yaml.Node, path string) (string, bool) {
	r := resolve(n)
	if r.Kind == yaml.ScalarNode {
		switch r.ShortTag() {
		case "!!int", "!!float", "!!bool":
			p.malformed(n, path, "must be a string, not %s; quote it if a string is meant", r.Value)
			return "", false
		}
	}
	s, ok := p.text(n, path, "a string")
	if ok && s == "" {
		p.errorf(n, path, "must not be empty")
		return "", false
	}
	return s, ok
}

// word is like str, but refuses white space and a leading hyphen, so that the
// string can be an argument on a command line.
func (p *parser) word(n *yaml.Node, path string) (string, bool) {
	s, ok := p.str(n, path)
	if !ok {
		return "", false
	}
	if why := badWord(s); why != "" {
		p.errorf(n, path, "%s", why)
		return "", false
	}
	return s, true
}

func (p *parser) boolean(n *yaml.Node, path string) (bool, bool) {
	const want = "true or false"
	s, ok := p.text(n, path, want)
	if !ok {
		return false, false
	}
	switch s {
	case "true", "True", "TRUE":
		return true, true
	case "false", "False", "FALSE":
		return false, true
	}
	p.malformed(n, path, "must be %s, not %s", want, describe(resolve(n)))
	return false, false
}

func (p *parser) integer(n *yaml.Node, path string, k keyShape) (int64, bool) {
	return p.integerAs(n, path, k, "a whole number")
}

// count returns a whole number, or nil if it is not valid.
func (p *parser) count(n *yaml.Node, path string, k keyShape) *int {
	i, ok := p.integer(n, path, k)
	if !ok {
		return nil
	}
	return new(int(i))
}

func (p *parser) integerAs(n *yaml.Node, path string, k keyShape, want string) (int64, bool) {
	s, ok := p.text(n, path, want)
	if !ok {
		return 0, false
	}
	i, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		p.malformed(n, path, "must be %s, not %s", want, describe(resolve(n)))
		return 0, false
	}
	if i < k.low || i > k.high {
		p.errorf(n, path, "must be between %d and %d, not %s", k.low, k.high, describe(resolve(n)))
		return 0, false
	}
	return i, true
}

// number decodes a number above the key's lower bound.
func (p *parser) number(n *yaml.Node, path string, k keyShape) (float64, bool) {
	f, ok := scalarAs(p, n, path, "a number", func(s string) (float64, error) { return strconv.ParseFloat(s, 64) })
	if ok && !(f > float64(k.low) && f <= float64(k.high)) { // nor a NaN
		p.errorf(n, path, "must be above %d, and at most %d, not %s", k.low, k.high, describe(resolve(n)))
		return 0, false
	}
	return f, ok
}

// scalarAs decodes a scalar with a parse function.
func scalarAs[T any](p *parser, n *yaml.Node, path, want string, parse func(string) (T, error)) (T, bool) {
	var zero T
	s, ok := p.text(n, path, want)
	if !ok {
		return zero, false
	}
	v, err := parse(s)
	if err != nil {
		p.malformed(n, path, "must be %s, not %s", want, describe(resolve(n)))
		return zero, false
	}
	return v, true
}

const (
	wantCPUs     = "a number of cores above 0, such as 0.5"
	wantSize     = "an amount of memory, such as 512m or 1GiB"
	wantDuration = "a duration, such as 30s or 1m30s"
)

func (p *parser) cpus(n *yaml.Node, path string) (float64, bool) {
	return scalarAs(p, n, path, wantCPUs, parseCPUs)
}

func (p *parser) memory(n *yaml.Node, path string) (int64, bool) {
	size, ok := scalarAs(p, n, path, wantSize, ParseSize)
	if ok && size < resourcesShape.keys["memory"].low {
		p.errorf(n, path, "must be at least 6m, not %s: no container starts in less", describe(resolve(n)))
		return 0, false
	}
	return size, ok
}

// size decodes an amount of bytes within the key's bounds.
func (p *parser) size(n *yaml.Node, path string, k keyShape) (int64, bool) {
	size, ok := scalarAs(p, n, path, "an amount of bytes, such as 8m or 8388608", ParseSize)
	if ok && (size < k.low || size > k.high) {
		p.errorf(n, path, "must be between %d and %d bytes, not %s", k.low, k.high, describe(resolve(n)))
		return 0, false
	}
	return size, ok
}

func (p *parser) duration(n *yaml.Node, path string, k keyShape) (time.Duration, bool) {
	low, high := time.Duration(k.low), time.Duration(k.high)
	d, ok := scalarAs(p, n, path, wantDuration, parseDuration)
	if ok && (d < low || d > high) {
		p.errorf(n, path, "must be between %s and %s, not %s", low, high, describe(resolve(n)))
		return 0, false
	}
	return d, ok
}

// choice is like str, but the string must be one of the key's words.
func (p *parser) choice(n *yaml.Node, path string, k keyShape) (string, bool) {
	s, ok := p.str(n, path)
	if !ok || slices.Contains(k.choices, s) {
		return s, ok
	}
	want := k.choices[len(k.choices)-1]
	if before := k.choices[:len(k.choices)-1]; len(before) > 0 {
		want = strings.Join(before, ", ") + " or " + want
	}
	p.errorf(n, path, "must be %s, not %s", want, describe(resolve(n)))
	return "", false
}

func parseCPUs(s string) (float64, error) {
	f, err := strconv.ParseFloat(s, 64)
	k := resourcesShape.keys["cpus"]
	if err == nil && !(f > float64(k.low) && f <= float64(k.high)) { // nor a NaN
		err = strconv.ErrRange
	}
	return f, err
}
