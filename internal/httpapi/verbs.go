package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/nearest"
)

// serveScale sets the target of a server.
func (h *Handler) serveScale(w *response, r *http.Request, arg string) {
	o, fields, ok := h.takeVerb(w, r, "replicas")
	if !ok {
		return
	}
	if fields.values["replicas"] == nil {
		w.fail(badRequest("must include 'replicas'"))
		return
	}
	replicas, err := integer[int](fields, "replicas")
	if err != nil {
		w.fail(err)
		return
	}
	name := fleet.ServerName(arg)
	// Whether a server may be scaled by hand is for its spec to say: package
	// desired refuses, with fleet.ErrConflict.
	h.writeServer(w, r, fields.body, name, o, desired.Command{Scale: &desired.Scale{Name: name, Replicas: replicas, Match: o.match}})
}

// serveRestart replaces all replicas of a server.
func (h *Handler) serveRestart(w *response, r *http.Request, arg string) {
	o, fields, ok := h.takeVerb(w, r)
	if !ok {
		return
	}
	name := fleet.ServerName(arg)
	h.writeServer(w, r, fields.body, name, o, desired.Command{Restart: &desired.Restart{Name: name, Key: o.key, Match: o.match}})
}

// serveRollback returns a server to an earlier revision.
func (h *Handler) serveRollback(w *response, r *http.Request, arg string) {
	o, fields, ok := h.takeVerb(w, r, "revision")
	if !ok {
		return
	}
	revision, err := integer[fleet.Revision](fields, "revision")
	if err != nil {
		w.fail(err)
		return
	}
	if fields.values["revision"] != nil && revision == 0 {
		w.fail(badRequest("'revision' must be 1 or more; leave it out for the one before the present"))
		return
	}
	name := fleet.ServerName(arg)
	h.writeServer(w, r, fields.body, name, o, desired.Command{Rollback: &desired.Rollback{Name: name, Revision: revision, Key: o.key, Match: o.match}})
}

// serveWake starts what rests of a server, as a call that waits does.
func (h *Handler) serveWake(w *response, r *http.Request, arg string) {
	err := paramsOf(r).end(true)
	if err == nil && (r.Header["If-Match"] != nil || r.Header["If-None-Match"] != nil) {
		err = badRequest("If-Match and If-None-Match do not go with this: it changes nothing that is stored")
	}
	if err != nil {
		w.fail(err)
		return
	}
	name := fleet.ServerName(arg)
	h.atLeader(w, r, nil, func(context.Context) error {
		if st := h.cfg.Desired.State(); st.Servers[name] == nil {
			return unknownServer(st, name)
		}
		h.cfg.Wake(name)
		w.json(http.StatusAccepted, api.Woken{Server: name})
		return nil
	})
}

// fields are the values of a small JSON object. Those that are null are left
// out.
type fields struct {
	body   []byte
	values map[string]json.RawMessage
}

// takeVerb reads a POST whose body may be left out, and which may have no keys
// but these. It answers if something is wrong.
func (h *Handler) takeVerb(w *response, r *http.Request, keys ...string) (write, fields, bool) {
	f := fields{values: map[string]json.RawMessage{}}
	var o write
	var err error
	if r.ContentLength != 0 {
		if err = checkPost(r); err == nil {
			f.body, err = h.takeBody(w, r)
		}
		if err == nil && len(f.body) > 0 {
			err = checkForm(r, f.body)
		}
	}
	if err != nil {
		h.refuse(w, r, err)
		return o, f, false
	}
	if o, err = writeOf(r); err == nil {
		err = f.parse(keys)
	}
	if err != nil {
		w.fail(err)
	}
	return o, f, err == nil
}

func (f *fields) parse(keys []string) error {
	if len(f.body) == 0 {
		return nil
	}
	values, err := mcp.Fields(f.body, keys...)
	if err != nil {
		if wrong := new(mcp.TypeError); errors.As(err, &wrong) {
			return badRequest("the body must be an object, got %s", wrong.Got)
		}
		return badRequest("%v", err)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(f.body, &all); err != nil {
		return badRequest("%v", err)
	}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if !slices.Contains(keys, key) {
			return badRequest("unknown key %s%s", shorten(key), nearest.Hint(key, keys, nil))
		}
	}
	for i, key := range keys {
		if values[i] != nil && !mcp.IsNull(values[i]) {
			f.values[key] = values[i]
		}
	}
	return nil
}

// integer returns 0 for a key that is not there.
func integer[T int | fleet.Revision](f fields, key string) (T, error) {
	raw, given := f.values[key]
	if !given {
		return 0, nil
	}
	var n T
	if err := json.Unmarshal(raw, &n); err != nil {
		return 0, badRequest("'%s' must be an integer, got %s", key, shorten(string(raw)))
	}
	return n, nil
}

// text returns "" for a key that is not there.
func (f *fields) text(key string) (string, error) {
	raw, given := f.values[key]
	if !given {
		return "", nil
	}
	s, err := mcp.String(raw)
	if err != nil {
		return "", badRequest("'%s' must be a string, got %s", key, mcp.TypeOf(raw))
	}
	return s, nil
}
