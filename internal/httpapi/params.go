package httpapi

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/nearest"
)

// params reads a query. The first thing that is wrong is kept until the end.
type params struct {
	values url.Values
	known  []string
	err    error
}

func paramsOf(r *http.Request) *params {
	values, err := url.ParseQuery(r.URL.RawQuery)
	p := &params{values: values}
	if err != nil {
		p.err = badRequest("query: %v", err)
	}
	return p
}

func (p *params) wrong(format string, args ...any) {
	if p.err == nil {
		p.err = badRequest(format, args...)
	}
}

func (p *params) get(name string) (text string, given bool) {
	p.known = append(p.known, name)
	if v := p.values[name]; len(v) > 0 {
		return v[0], true
	}
	return "", false
}

// flag is true also when the name stands alone.
func (p *params) flag(name string) bool {
	text, given := p.get(name)
	if text == "" {
		return given
	}
	v, err := strconv.ParseBool(text)
	if err != nil {
		p.wrong("%s must be 1 or 0, got %s", name, shorten(text))
	}
	return v
}

// number returns -1 for one that is not given.
func (p *params) number(name string, most uint64) int64 {
	text, given := p.get(name)
	if !given {
		return -1
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || n > most {
		p.wrong("%s must be a number from 0 to %d, got %s", name, most, shorten(text))
		return -1
	}
	return int64(n)
}

func (p *params) duration(name string, least, most, def time.Duration) time.Duration {
	text, given := p.get(name)
	if !given {
		return def
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < least || d > most {
		p.wrong("%s must be a duration from %v to %v, like 30s, got %s", name, least, most, shorten(text))
		return def
	}
	return d
}

// end returns what was wrong. A write takes no parameter that it does not know:
// ?dryrun=1 must not be done for real.
func (p *params) end(write bool) error {
	if write {
		for _, name := range slices.Sorted(maps.Keys(p.values)) {
			if !slices.Contains(p.known, name) {
				p.wrong("unknown query parameter %s%s", shorten(name), nearest.Hint(name, p.known, nil))
			}
		}
	}
	return p.err
}

// matchOf reads under which condition a write is wanted. Only a PUT can demand
// that there is nothing yet.
func matchOf(r *http.Request) (desired.Match, error) {
	var m desired.Match
	if values, given := r.Header["If-None-Match"]; given {
		if text := strings.TrimSpace(strings.Join(values, ",")); text != "*" || r.Method != http.MethodPut {
			return m, badRequest("If-None-Match of a write can only be * on a PUT, got %s on a %s", shorten(text), r.Method)
		}
		m.New = true
	}
	values, given := r.Header["If-Match"]
	if !given {
		return m, nil
	}
	tags, err := etagsOf(strings.Join(values, ","))
	if err != nil {
		return m, badRequest("If-Match: %v", err)
	}
	m.ETags = tags
	return m, nil
}

const maxETags = 100

// etagsOf reads a list of ETags, or *. Those without quotes are taken too, as
// the bodies of answers show them. Weak ones match nothing: they keep their W.
func etagsOf(list string) ([]string, error) {
	var tags []string
	for item := range strings.SplitSeq(list, ",") {
		item = strings.TrimSpace(item)
		tag, quoted := strings.CutPrefix(item, `"`)
		if quoted {
			tag, quoted = strings.CutSuffix(tag, `"`)
		}
		weak := strings.HasPrefix(item, `W/"`)
		switch {
		case item == "":
			continue
		case !weak && (strings.Contains(tag, `"`) || strings.HasPrefix(item, `"`) && !quoted), strings.ContainsAny(item, " \t"):
			return nil, fmt.Errorf("%s is no ETag, which is like \"1.17\"", shorten(item))
		case len(tags) == maxETags:
			return nil, fmt.Errorf("more than %d ETags", maxETags)
		case weak:
			tag = item
		}
		tags = append(tags, tag)
	}
	if len(tags) == 0 {
		return nil, fmt.Errorf("there is no ETag in it")
	}
	return tags, nil
}
