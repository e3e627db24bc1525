package web

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/nearest"
)

// Params reads a query. The first thing that is wrong is kept until the end.
type Params struct {
	values url.Values
	known  []string
	err    error
}

func ParamsOf(r *http.Request) *Params {
	values, err := url.ParseQuery(r.URL.RawQuery)
	p := &Params{values: values}
	if err != nil {
		p.err = BadRequest("query: %v", err)
	}
	return p
}

func (p *Params) Wrong(format string, args ...any) {
	if p.err == nil {
		p.err = BadRequest(format, args...)
	}
}

func (p *Params) Get(name string) (text string, given bool) {
	p.known = append(p.known, name)
	if v := p.values[name]; len(v) > 0 {
		return v[0], true
	}
	return "", false
}

// Has reports whether a parameter is given.
func (p *Params) Has(name string) bool { return p.values.Has(name) }

// All returns all values of a parameter.
func (p *Params) All(name string) []string {
	p.known = append(p.known, name)
	return p.values[name]
}

// Flag is true also when the name stands alone.
func (p *Params) Flag(name string) bool {
	text, given := p.Get(name)
	if text == "" {
		return given
	}
	v, err := strconv.ParseBool(text)
	if err != nil {
		p.Wrong("%s must be 1 or 0, got %s", name, Shorten(text))
	}
	return v
}

// Number returns -1 for one that is not given.
func (p *Params) Number(name string, most uint64) int64 {
	text, given := p.Get(name)
	if !given {
		return -1
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || n > most {
		p.Wrong("%s must be a number from 0 to %d, got %s", name, most, Shorten(text))
		return -1
	}
	return int64(n)
}

func (p *Params) Duration(name string, least, most, def time.Duration) time.Duration {
	text, given := p.Get(name)
	if !given {
		return def
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < least || d > most {
		p.Wrong("%s must be a duration from %v to %v, like 30s, got %s", name, least, most, Shorten(text))
		return def
	}
	return d
}

// End returns what was wrong. A write takes no parameter that it does not know:
// ?dryrun=1 must not be done for real.
func (p *Params) End(write bool) error {
	if write {
		for _, name := range slices.Sorted(maps.Keys(p.values)) {
			if !slices.Contains(p.known, name) {
				p.Wrong("unknown query parameter %s%s", Shorten(name), nearest.Hint(name, p.known, nil))
			}
		}
	}
	return p.err
}
