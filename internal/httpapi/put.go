package httpapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// servePutServers replaces the whole set of servers by that of a fleet file.
func (h *API) servePutServers(w *web.Response, r *http.Request) error {
	body, name, err := takeDocument(w, r)
	if err != nil {
		return err
	}
	o, err := writeOf(r)
	if err != nil {
		return err
	}
	file, err := fleetfile.ParseLiteral(body, fleetfile.Options{Filename: name})
	if err != nil {
		return specError(err)
	}
	if len(file.Servers) == 0 && len(o.match.ETags) == 0 {
		return &web.Error{
			Status: http.StatusPreconditionRequired, Code: api.CodeNeedsMatch,
			Detail: "no server is listed, so all would be deleted: to confirm, send If-Match with the ETag of GET /api/v1/servers",
		}
	}
	return h.atLeader(w, r, body, func(ctx context.Context) error {
		d, err := h.change(ctx, desired.PutServers{
			Servers: file.Servers, DefaultServer: file.DefaultServer, Gateways: file.Gateways, Match: o.match, Retry: o.retry,
		}, o.dry)
		switch {
		case err != nil:
			return err
		case o.dry:
			return dryRun(w, d, file.Warnings...)
		}
		return written(w, d.changes, d.state.ETag(), d.state.Index, api.Applied{
			Servers: h.servers(d.state), DefaultServer: d.state.Default(), Gateways: gatewaysOf(d.state), Changes: changesOf(d.changes), Warnings: warningsOf(file.Warnings, d.warnings),
			ETag: d.state.ETag(), Index: d.state.Index,
		})
	})
}

// servePutServer adds or replaces one server.
func (h *API) servePutServer(w *web.Response, r *http.Request) error {
	body, filename, err := takeDocument(w, r)
	if err != nil {
		return err
	}
	o, err := writeOf(r)
	if err != nil {
		return err
	}
	name := nameOf(r)
	spec, warnings, err := fleetfile.ParseServer(name, body, fleetfile.Options{Filename: filename})
	o.warnings = warnings
	if err != nil {
		return specError(err)
	}
	return h.writeServer(w, r, body, name, o, desired.PutServer{Name: name, Spec: spec, Match: o.match, Retry: o.retry})
}

// takeDocument reads a body in JSON or YAML. It returns the body with a file name
// from which package fleetfile knows which of the two it is.
func takeDocument(w *web.Response, r *http.Request) (body []byte, name string, err error) {
	media, _, err := mime.ParseMediaType(cmp.Or(r.Header.Get("Content-Type"), "none"))
	switch {
	case err == nil && (media == "application/yaml" || media == "application/x-yaml" || media == "text/yaml"):
		name, err = "body.yaml", web.CheckMedia(r, media)
	case err == nil && media == "application/json":
		name, err = "body.json", web.CheckMedia(r, media)
	default:
		err = web.UnsupportedMedia("Content-Type must be application/json or application/yaml, got %s", web.Shorten(r.Header.Get("Content-Type")))
	}
	if err != nil {
		return nil, "", w.RefuseBody(err)
	}
	b, err := w.ReadBody(r)
	return b.Keep(), name, err
}

const (
	maxFieldErrors = 100 // in an answer
	maxFieldsNamed = 5   // in its detail
)

// specError returns the answer to a spec or fleet file that was refused.
func specError(err error) error {
	var all fleetfile.Errors
	if !errors.As(err, &all) {
		return err
	}
	e := &web.Error{Status: http.StatusUnprocessableEntity, Code: api.CodeInvalid}
	if all.Malformed() {
		e.Status, e.Code = http.StatusBadRequest, api.CodeBadRequest
	}
	var lines []string
	for i, one := range all {
		if i < maxFieldErrors {
			e.Fields = append(e.Fields, api.FieldError{Path: one.Path, Line: one.Line, Column: one.Column, Message: one.Msg})
		}
		switch {
		case i < maxFieldsNamed:
			lines = append(lines, inWords(one))
		case i == maxFieldsNamed:
			lines = append(lines, fmt.Sprintf("and %d more", len(all)-i))
		}
	}
	e.Detail = strings.Join(lines, "; ")
	return e
}

// inWords returns the text of a problem without a file name: the file is a body.
func inWords(e *fleetfile.Error) string {
	text := e.Msg
	if e.Path != "" {
		text = e.Path + ": " + text
	}
	if e.Line > 0 {
		text += fmt.Sprintf(" (line %d, column %d)", e.Line, e.Column)
	}
	return text
}

// warningsOf returns the warnings about a document that was accepted, and about
// what it did.
func warningsOf(document []fleetfile.Warning, effect []desired.Warning) []api.FieldError {
	var out []api.FieldError
	for _, one := range document {
		out = append(out, api.FieldError{Path: one.Path, Line: one.Line, Column: one.Column, Message: one.Msg})
	}
	for _, one := range effect {
		out = append(out, api.FieldError{Path: "servers." + string(one.Server), Message: one.Text})
	}
	return out
}

// writeServer carries out a write to one server and answers.
func (h *API) writeServer(w *web.Response, r *http.Request, body []byte, name fleet.ServerName, o write, c desired.Command) error {
	return h.atLeader(w, r, body, func(ctx context.Context) error {
		d, err := h.change(ctx, c, o.dry)
		switch {
		case err != nil:
			return err
		case o.dry:
			return dryRun(w, d, o.warnings...)
		}
		s, ok := h.server(d.state, name)
		if !ok {
			// It was deleted, and no replica of it runs.
			s = api.Server{Name: name, State: fleet.StateDeleting, Reason: "the server was deleted", Spec: []byte("{}"), LastEnded: []api.Ended{}}
			s.Revision = d.state.LastRevision[name]
		}
		return written(w, d.changes, s.ETag, indexAfter(d.state, name), api.Written{Server: s, Changes: changesOf(d.changes), Warnings: warningsOf(o.warnings, d.warnings)})
	})
}

// indexAfter returns the index of a server, or that of the state if it is gone.
func indexAfter(st *desired.State, name fleet.ServerName) uint64 {
	if sv := st.Servers[name]; sv != nil {
		return sv.Index
	}
	return st.Index
}

func (h *API) serveDeleteServer(w *web.Response, r *http.Request) error {
	o, err := writeOf(r)
	if err != nil {
		return err
	}
	name := nameOf(r)
	return h.writeServer(w, r, nil, name, o, desired.DeleteServer{Name: name, Match: o.match})
}
