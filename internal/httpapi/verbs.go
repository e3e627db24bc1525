package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/nearest"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// serveScale sets the target of a server, or the floor of one that scales by itself.
func (h *API) serveScale(w *web.Response, r *http.Request) error {
	o, fields, err := takeVerb(w, r, "replicas", "min_replicas", "ttl")
	if err != nil {
		return err
	}
	name := nameOf(r)
	c, err := scaleCommand(name, fields, o.match)
	if err != nil {
		return err
	}
	return h.writeServer(w, r, fields.body, name, o, c)
}

func scaleCommand(name fleet.ServerName, f fields, match desired.Match) (desired.Command, error) {
	replicas, err := integer[int](f, "replicas")
	if err != nil {
		return nil, err
	}
	least, err := integer[int](f, "min_replicas")
	if err != nil {
		return nil, err
	}
	ttl, err := f.text("ttl")
	if err != nil {
		return nil, err
	}
	fixed, floor, timed := f.values["replicas"] != nil, f.values["min_replicas"] != nil, f.values["ttl"] != nil
	switch {
	case fixed && floor:
		return nil, web.BadRequest("must include 'replicas' or 'min_replicas', not both")
	case fixed && timed:
		return nil, web.BadRequest("'ttl' goes with 'min_replicas', not with 'replicas'")
	case fixed:
		return desired.Scale{Name: name, Replicas: replicas, Match: match}, nil
	case !floor:
		return nil, web.BadRequest("must include 'replicas', or 'min_replicas' and 'ttl' for a server that scales by itself")
	case least == 0 && timed:
		return nil, web.BadRequest("'ttl' does not go with a 'min_replicas' of 0, which removes the floor")
	case least == 0:
		return desired.SetFloor{Name: name, Match: match}, nil
	case !timed:
		return nil, web.BadRequest("must include 'ttl': how long the floor holds, such as 10m")
	}
	length, err := time.ParseDuration(ttl)
	switch {
	case err != nil:
		return nil, web.BadRequest("'ttl' must be a duration like 10m, got %s", web.Shorten(ttl))
	case length < minFloorTime || length > maxFloorTime:
		return nil, outOfBounds("ttl", minFloorTime, maxFloorTime, ttl)
	}
	return desired.SetFloor{Name: name, MinReplicas: least, Until: time.Now().Add(length), Match: match}, nil
}

// The bounds of how long a floor holds.
const (
	minFloorTime = time.Second
	maxFloorTime = 30 * 24 * time.Hour
)

// serveRollout pauses or resumes the rollout of a server.
func (h *API) serveRollout(w *web.Response, r *http.Request) error {
	o, fields, err := takeVerb(w, r, "action")
	if err != nil {
		return err
	}
	action, err := fields.text("action")
	if err != nil {
		return err
	}
	name := nameOf(r)
	c := desired.SetRollout{Name: name, Match: o.match}
	switch action {
	case api.RolloutPause:
		c.Verb = desired.PauseRollout
	case api.RolloutResume:
		c.Verb = desired.ResumeRollout
	case "":
		return web.BadRequest("must include 'action': pause or resume")
	default:
		return web.BadRequest("'action' must be pause or resume, got %s", web.Shorten(action))
	}
	return h.writeServer(w, r, fields.body, name, o, c)
}

// serveRestart replaces all replicas of a server.
func (h *API) serveRestart(w *web.Response, r *http.Request) error {
	o, fields, err := takeVerb(w, r)
	if err != nil {
		return err
	}
	name := nameOf(r)
	return h.writeServer(w, r, fields.body, name, o, desired.Restart{Name: name, Key: o.key, Match: o.match})
}

// serveRollback returns a server to an earlier revision.
func (h *API) serveRollback(w *web.Response, r *http.Request) error {
	o, fields, err := takeVerb(w, r, "revision")
	if err != nil {
		return err
	}
	revision, err := integer[fleet.Revision](fields, "revision")
	if err != nil {
		return err
	}
	if fields.values["revision"] != nil && revision == 0 {
		return web.BadRequest("'revision' must be 1 or more; leave it out for the one before the present")
	}
	name := nameOf(r)
	return h.writeServer(w, r, fields.body, name, o, desired.Rollback{Name: name, Revision: revision, Key: o.key, Match: o.match})
}

// serveWake starts the replicas of a server that ended idle, as a waiting call
// does.
func (h *API) serveWake(w *web.Response, r *http.Request) error {
	err := web.Query(r)
	if err == nil && (r.Header["If-Match"] != nil || r.Header["If-None-Match"] != nil) {
		err = web.BadRequest("If-Match and If-None-Match do not go with this: it changes nothing that is stored")
	}
	if err != nil {
		return err
	}
	name := nameOf(r)
	return h.atLeader(w, r, nil, func(context.Context) error {
		if st := h.cfg.Desired.State(); st.Servers[name] == nil {
			return unknownServer(st, name)
		}
		h.cfg.Wake(name)
		return w.JSON(http.StatusAccepted, api.Woken{Server: name})
	})
}

// fields are the values of a small JSON object, except those that are null.
type fields struct {
	body   []byte
	values map[string]json.RawMessage
}

// takeVerb reads a POST whose body is optional and may have only these keys.
func takeVerb(w *web.Response, r *http.Request, keys ...string) (write, fields, error) {
	f := fields{values: map[string]json.RawMessage{}}
	if r.ContentLength != 0 {
		body, err := w.ReadJSON(r)
		if err != nil {
			return write{}, f, err
		}
		f.body = body.Keep()
	}
	o, err := writeOf(r)
	if err == nil {
		err = f.parse(keys)
	}
	return o, f, err
}

func (f *fields) parse(keys []string) error {
	if len(f.body) == 0 {
		return nil
	}
	values, err := mcp.Fields(f.body, keys...)
	if err != nil {
		if wrong := new(mcp.TypeError); errors.As(err, &wrong) {
			return web.BadRequest("the body must be an object, got %s", wrong.Got)
		}
		return web.BadRequest("%v", err)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(f.body, &all); err != nil {
		return web.BadRequest("%v", err)
	}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if !slices.Contains(keys, key) {
			return web.BadRequest("unknown key %s%s", web.Shorten(key), nearest.Hint(key, keys, nil))
		}
	}
	for i, key := range keys {
		if values[i] != nil && !mcp.IsNull(values[i]) {
			f.values[key] = values[i]
		}
	}
	return nil
}

// integer returns 0 for a key that is absent.
func integer[T int | fleet.Revision](f fields, key string) (T, error) {
	raw, given := f.values[key]
	if !given {
		return 0, nil
	}
	var n T
	if err := json.Unmarshal(raw, &n); err != nil {
		return 0, web.BadRequest("'%s' must be an integer, got %s", key, web.Shorten(string(raw)))
	}
	return n, nil
}

// text returns "" for a key that is absent.
func (f *fields) text(key string) (string, error) {
	raw, given := f.values[key]
	if !given {
		return "", nil
	}
	s, err := mcp.String(raw)
	if err != nil {
		return "", web.BadRequest("'%s' must be a string, got %s", key, mcp.TypeOf(raw))
	}
	return s, nil
}
