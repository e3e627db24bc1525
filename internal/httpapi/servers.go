package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
	"github.com/mcpfleet/mcpfleet/internal/nearest"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

const (
	headerIndex = "Mcpfleet-Index"
	defaultWait = time.Minute
	maxWait     = 10 * time.Minute
)

// readOptions are the options of a read of desired state.
type readOptions struct {
	stale bool
	index int64 // wait for something newer; -1: do not wait
	wait  time.Duration
}

func readOptionsOf(r *http.Request) (readOptions, error) {
	const notGiven = -1
	o := readOptions{index: notGiven, wait: notGiven}
	err := web.Query(r, web.Flag("stale", &o.stale), web.Number("index", &o.index, 0, math.MaxInt64), web.Duration("wait", &o.wait, 0, maxWait))
	switch {
	case err != nil || o.wait >= 0 && o.index >= 0:
	case o.wait >= 0:
		err = web.BadRequest("wait needs index, as in index=17&wait=30s")
	default:
		o.wait = defaultWait
	}
	return o, err
}

// read answers from the leader's desired state, or from that of this controller
// for a stale read. index returns the index of what the client asks for.
func (h *API) read(w *web.Response, r *http.Request, index func(*desired.State) uint64, answer func(st *desired.State) error) error {
	o, err := readOptionsOf(r)
	if err != nil {
		return err
	}
	if o.index >= 0 && r.Header.Get(headerForwarded) == "" {
		h.await(r.Context(), o, index)
	}
	if o.stale {
		return h.perhapsUnknown(answer(h.cfg.Desired.State()))
	}
	return h.atLeader(w, r, nil, func(ctx context.Context) error {
		st, err := h.cfg.Desired.Read(ctx)
		if err != nil {
			return err
		}
		return answer(st)
	})
}

// perhapsUnknown replaces an error that says that something is unknown if this
// controller may lack recent writes: it may exist.
func (h *API) perhapsUnknown(err error) error {
	if !errors.Is(err, fleet.ErrUnknownServer) && !errors.Is(err, fleet.ErrUnknownRevision) {
		return err
	}
	if why := h.cfg.Stale(); why != "" {
		return notNow(fmt.Sprintf("%v, as far as is known here: %s", err, why))
	}
	return err
}

// await returns when there is something newer than what the client has, when it
// has waited long enough, or when this controller stops. It waits for the state of
// this controller, so that waiting clients do not burden the leader.
func (h *API) await(ctx context.Context, o readOptions, index func(*desired.State) uint64) {
	look, cancel := h.cfg.Desired.Subscribe()
	defer cancel()
	end := time.NewTimer(o.wait)
	defer end.Stop()
	for index(h.cfg.Desired.State()) <= uint64(o.index) {
		select {
		case <-look:
		case <-end.C:
			return
		case <-ctx.Done():
			return
		case <-h.cfg.Stopping:
			return
		}
	}
}

// nameOf returns the server in the path.
func nameOf(r *http.Request) fleet.ServerName { return fleet.ServerName(r.PathValue("name")) }

func (h *API) serveServers(w *web.Response, r *http.Request) error {
	return h.read(w, r, func(st *desired.State) uint64 { return st.Index }, func(st *desired.State) error {
		out := api.Servers{Servers: h.servers(st), DefaultServer: st.Default(), Gateways: gatewaysOf(st), ETag: st.ETag(), Index: st.Index}
		return tagged(w, r, st.ETag(), st.Index, out)
	})
}

func (h *API) serveServer(w *web.Response, r *http.Request) error {
	name := nameOf(r)
	return h.read(w, r, indexOf(name), func(st *desired.State) error {
		s, ok := h.server(st, name)
		if !ok {
			return unknownServer(st, name)
		}
		return tagged(w, r, s.ETag, s.Index, s)
	})
}

// indexOf returns the index of a server. A server that does not exist is newer
// than anything.
func indexOf(name fleet.ServerName) func(*desired.State) uint64 {
	return func(st *desired.State) uint64 {
		if sv := st.Servers[name]; sv != nil {
			return sv.Index
		}
		return math.MaxUint64
	}
}

func unknownServer(st *desired.State, name fleet.ServerName) error {
	var names []string
	for _, n := range slices.Sorted(maps.Keys(st.Servers)) {
		names = append(names, string(n))
	}
	return fmt.Errorf("%w %s%s", fleet.ErrUnknownServer, web.Shorten(string(name)), nearest.Hint(string(name), names, nil))
}

// tagged answers with something that has an ETag. The tag covers the spec and not
// the status beside it, so the answer must not be cached.
func tagged(w *web.Response, r *http.Request, etag string, index uint64, v any) error {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set(headerIndex, strconv.FormatUint(index, 10))
	if etag != "" {
		header.Set("Etag", `"`+etag+`"`)
	}
	if tags, err := etagsOf(r.Header.Get("If-None-Match")); err == nil && etag != "" {
		if slices.Contains(tags, etag) || slices.Contains(tags, "*") || slices.Contains(tags, `W/"`+etag+`"`) {
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
	}
	return w.JSON(http.StatusOK, v)
}

// servers returns the servers of a state as they are shown.
func (h *API) servers(st *desired.State) []api.Server {
	servers := notNil(h.cfg.Fleet.Servers(st))
	for i := range servers {
		s := &servers[i]
		if s.Spec == nil {
			s.Spec = json.RawMessage("{}")
		}
		s.LastEnded = notNil(s.LastEnded)
		for k := range s.LastEnded {
			s.LastEnded[k].Log = notNil(s.LastEnded[k].Log)
		}
	}
	return servers
}

func (h *API) server(st *desired.State, name fleet.ServerName) (api.Server, bool) {
	servers := h.servers(st)
	i := slices.IndexFunc(servers, func(s api.Server) bool { return s.Name == name })
	if i < 0 {
		return api.Server{}, false
	}
	return servers[i], true
}

func (h *API) serveRevisions(w *web.Response, r *http.Request) error {
	name := nameOf(r)
	return h.read(w, r, indexOf(name), func(st *desired.State) error {
		sv := st.Servers[name]
		if sv == nil {
			return unknownServer(st, name)
		}
		out := api.Revisions{Revisions: []api.Revision{}, Index: sv.Index}
		for i, rev := range slices.Backward(sv.Revisions) {
			one := api.Revision{
				Revision: rev.Number, CreatedAt: rev.Created, Current: rev.Number == sv.Revision, Stable: rev.Number == sv.Stable,
				Spec: templateView(&rev.Template), Changes: []api.Difference{},
			}
			if i > 0 {
				one.Changes = differencesOf(desired.DiffTemplates(&sv.Revisions[i-1].Template, &rev.Template))
			}
			out.Revisions = append(out.Revisions, one)
		}
		w.Header().Set(headerIndex, strconv.FormatUint(out.Index, 10))
		return w.JSON(http.StatusOK, out)
	})
}

// templateView shows a template in the keys of the fleet file.
func templateView(t *fleet.Template) json.RawMessage {
	text, err := fleetfile.TemplateView(t)
	if err != nil {
		return json.RawMessage("{}") // plain data always encodes
	}
	return text
}

// gatewaysOf returns the gateways of a state in the keys of the fleet file.
func gatewaysOf(st *desired.State) map[fleet.GatewayName]json.RawMessage {
	var out map[fleet.GatewayName]json.RawMessage
	for name, g := range st.Gateways {
		text, err := json.Marshal(fleetfile.ViewGateway(&g))
		if err != nil {
			continue // cannot happen: it is made of strings and booleans
		}
		if out == nil {
			out = make(map[fleet.GatewayName]json.RawMessage, len(st.Gateways))
		}
		out[name] = text
	}
	return out
}
