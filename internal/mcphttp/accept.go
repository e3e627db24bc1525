package mcphttp

import (
	"net/http"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/web"
)

const (
	typeJSON  = "application/json"
	typeEvent = "text/event-stream"
)

// accepts are the forms of an answer that a client takes.
type accepts struct{ json, events bool }

// acceptsOf reads the Accept headers. A client without one takes everything.
func acceptsOf(r *http.Request) accepts {
	headers := r.Header["Accept"]
	if len(headers) == 0 {
		return accepts{true, true}
	}
	var a accepts
	for _, header := range headers {
		for item := range strings.SplitSeq(header, ",") {
			media, params, _ := strings.Cut(item, ";")
			if refuses(params) {
				continue
			}
			switch media = strings.TrimSpace(media); {
			case media == "*/*":
				return accepts{true, true}
			case strings.EqualFold(media, typeJSON), strings.EqualFold(media, "application/*"):
				a.json = true
			case strings.EqualFold(media, typeEvent), strings.EqualFold(media, "text/*"):
				a.events = true
			}
		}
	}
	return a
}

// refuses reports whether the parameters of a media type have a weight of zero.
func refuses(params string) bool {
	if params == "" {
		return false
	}
	for param := range strings.SplitSeq(params, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(param), "=")
		if strings.EqualFold(key, "q") {
			return strings.Trim(value, "0.") == ""
		}
	}
	return false
}

// errAccept answers a request whose client takes neither form.
var errAccept = &web.Error{
	Status: http.StatusNotAcceptable, Code: nameNotAcceptable,
	Detail: "the Accept header must list application/json and text/event-stream",
}
