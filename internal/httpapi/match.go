package httpapi

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// matchOf reads the condition of a write. Only a PUT can demand that nothing is
// stored yet.
func matchOf(r *http.Request) (desired.Match, error) {
	var m desired.Match
	if values, given := r.Header["If-None-Match"]; given {
		if text := strings.TrimSpace(strings.Join(values, ",")); text != "*" || r.Method != http.MethodPut {
			return m, web.BadRequest("If-None-Match of a write can only be * on a PUT, got %s on a %s", web.Shorten(text), r.Method)
		}
		m.New = true
	}
	values, given := r.Header["If-Match"]
	if !given {
		return m, nil
	}
	tags, err := etagsOf(strings.Join(values, ","))
	if err != nil {
		return m, web.BadRequest("If-Match: %v", err)
	}
	m.ETags = tags
	return m, nil
}

const maxETags = 100

// etagsOf reads a list of ETags, or *. It accepts them without quotes too, as they
// stand in bodies. Weak ones keep their prefix W/, and so match nothing.
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
			return nil, fmt.Errorf("%s is not an ETag, such as \"1.17\"", web.Shorten(item))
		case len(tags) == maxETags:
			return nil, fmt.Errorf("more than %d ETags", maxETags)
		case weak:
			tag = item
		}
		tags = append(tags, tag)
	}
	if len(tags) == 0 {
		return nil, fmt.Errorf("it has no ETag")
	}
	return tags, nil
}
