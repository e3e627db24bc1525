package web

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/nearest"
)

// Param is a query parameter: its name, and how to read it. A parameter that is
// not given leaves its variable as it is.
type Param struct {
	name  string
	parse func(texts []string) error
}

// Query reads the query of a request. It returns the first error, in the order of
// the parameters. Unknown parameters are ignored, but not those of a write:
// ?dryrun=1 must not change anything. Of a repeated parameter the first value
// counts.
func Query(r *http.Request, params ...Param) error {
	if r.URL.RawQuery == "" {
		return nil
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return BadRequest("query: %v", err)
	}
	var names []string
	for _, p := range params {
		names = append(names, p.name)
		if texts := values[p.name]; len(texts) > 0 {
			if err := p.parse(texts); err != nil {
				return err
			}
		}
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !slices.Contains(names, name) {
			return BadRequest("unknown query parameter %s%s", Shorten(name), nearest.Hint(name, names, nil))
		}
	}
	return nil
}

// Text is a parameter that is any text.
func Text(name string, to *string) Param {
	return Param{name, func(texts []string) error {
		*to = texts[0]
		return nil
	}}
}

// List is a parameter that may be repeated, or be a list with commas.
func List(name string, to *[]string) Param {
	return Param{name, func(texts []string) error {
		*to = strings.Split(strings.Join(texts, ","), ",")
		return nil
	}}
}

// Flag is a parameter that is true or false. Its name alone means true.
func Flag(name string, to *bool) Param {
	return Param{name, func(texts []string) (err error) {
		*to = true
		if texts[0] == "" {
			return nil
		}
		if *to, err = strconv.ParseBool(texts[0]); err != nil {
			return BadRequest("%s must be true or false, got %s", name, Shorten(texts[0]))
		}
		return nil
	}}
}

// Number is a parameter that is a number between two others.
func Number(name string, to *int64, least, most int64) Param {
	return Param{name, func(texts []string) error {
		n, err := strconv.ParseUint(texts[0], 10, 63)
		if errors.Is(err, strconv.ErrRange) {
			err = nil // n is then the largest possible number
		}
		if err != nil || int64(n) < least || int64(n) > most {
			return BadRequest("%s must be a number from %d to %d, got %s", name, least, most, Shorten(texts[0]))
		}
		*to = int64(n)
		return nil
	}}
}

// Duration is a parameter that is a duration between two others.
func Duration(name string, to *time.Duration, least, most time.Duration) Param {
	return Param{name, func(texts []string) error {
		d, err := time.ParseDuration(texts[0])
		if err != nil || d < least || d > most {
			return BadRequest("%s must be a duration from %v to %v, like 30s, got %s", name, least, most, Shorten(texts[0]))
		}
		*to = d
		return nil
	}}
}
