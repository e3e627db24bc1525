package httpapi

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/nearest"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// How long a drain may take.
const (
	defaultDrain = 10 * time.Minute
	minDrain     = time.Second
	maxDrainTime = 24 * time.Hour
)

func nodeOf(r *http.Request) fleet.NodeID { return fleet.NodeID(r.PathValue("name")) }

func (h *API) serveNodes(w *web.Response, _ *http.Request) error {
	return w.JSON(http.StatusOK, api.Nodes{Nodes: h.nodes()})
}

func (h *API) nodes() []api.Node {
	nodes := notNil(h.cfg.Fleet.Nodes())
	for i := range nodes {
		if nodes[i].Labels == nil {
			nodes[i].Labels = map[string]string{}
		}
		nodes[i].Runtimes = notNil(nodes[i].Runtimes)
	}
	return nodes
}

// serveDrain moves the replicas of a node elsewhere, before a deadline.
func (h *API) serveDrain(w *web.Response, r *http.Request) error {
	o, fields, err := takeVerb(w, r, "deadline")
	if err != nil {
		return err
	}
	text, err := fields.text("deadline")
	if err != nil {
		return err
	}
	deadline, err := time.ParseDuration(cmp.Or(text, defaultDrain.String()))
	switch {
	case err != nil:
		return web.BadRequest("'deadline' must be a duration like 10m, got %s", web.Shorten(text))
	case deadline < minDrain || deadline > maxDrainTime:
		return outOfBounds("deadline", minDrain, maxDrainTime, text)
	}
	return h.writeNode(w, r, fields.body, o, func() desired.SetNode {
		return desired.SetNode{Name: nodeOf(r), Verb: desired.Drain, DrainUntil: time.Now().Add(deadline)}
	})
}

// outOfBounds refuses a duration.
func outOfBounds(key string, least, most time.Duration, got string) error {
	return &web.Error{
		Status: http.StatusUnprocessableEntity, Code: api.CodeInvalid,
		Detail: fmt.Sprintf("%s: must be from %v to %v, got %s", key, least, most, web.Shorten(got)),
	}
}

// serveCordon stops placing replicas on a node. A drain goes on.
func (h *API) serveCordon(w *web.Response, r *http.Request) error {
	o, fields, err := takeVerb(w, r)
	if err != nil {
		return err
	}
	return h.writeNode(w, r, fields.body, o, func() desired.SetNode {
		return desired.SetNode{Name: nodeOf(r), Verb: desired.Cordon}
	})
}

// serveUncordon makes a node an ordinary one, and ends a drain.
func (h *API) serveUncordon(w *web.Response, r *http.Request) error {
	o, fields, err := takeVerb(w, r)
	if err != nil {
		return err
	}
	return h.writeNode(w, r, fields.body, o, func() desired.SetNode {
		return desired.SetNode{Name: nodeOf(r), Verb: desired.Uncordon}
	})
}

// writeNode changes what operators intend for a node, and answers. The command is
// made when it is written, because a deadline counts from then.
func (h *API) writeNode(w *web.Response, r *http.Request, body []byte, o write, command func() desired.SetNode) error {
	if len(o.match.ETags) > 0 {
		return web.BadRequest("If-Match does not go with nodes: they have no ETag")
	}
	return h.atLeader(w, r, body, func(ctx context.Context) error {
		c := command()
		if err := h.checkNode(ctx, c.Name); err != nil {
			return err
		}
		d, err := h.change(ctx, c, o.dry)
		switch {
		case err != nil:
			return err
		case o.dry:
			return dryRun(w, d)
		}
		return written(w, d.changes, "", d.state.Index, api.NodeWritten{Node: h.node(d.state, c.Name), Changes: changesOf(d.changes)})
	})
}

// checkNode refuses a node that is not a worker, or that is unknown. The leader's
// state is read only for a node that this controller does not know, since it may
// lack recent writes.
func (h *API) checkNode(ctx context.Context, name fleet.NodeID) error {
	if h.checkNodeIn(h.cfg.Desired.State(), name) == nil {
		return nil
	}
	st, err := h.cfg.Desired.Read(ctx)
	if err != nil {
		return err
	}
	return h.checkNodeIn(st, name)
}

func (h *API) checkNodeIn(st *desired.State, name fleet.NodeID) error {
	known := map[string]bool{}
	for _, n := range h.cfg.Fleet.Nodes() {
		if n.Role == fleet.RoleWorker {
			known[string(n.Name)] = true
		}
	}
	for n := range st.Nodes {
		known[string(n)] = true
	}
	for _, n := range st.Known {
		known[string(n)] = true
	}
	if known[string(name)] {
		return nil
	}
	if slices.ContainsFunc(h.cfg.Fleet.Nodes(), func(n api.Node) bool { return n.Name == name }) {
		return fmt.Errorf("%w: node %s is a controller; only workers have replicas to drain", fleet.ErrConflict, name)
	}
	return fmt.Errorf("%w %s%s", fleet.ErrUnknownNode, web.Shorten(string(name)), nearest.Hint(string(name), slices.Sorted(maps.Keys(known)), nil))
}

// node returns a node as it is shown after a write.
func (h *API) node(st *desired.State, name fleet.NodeID) api.Node {
	nodes := h.nodes()
	n := api.Node{Name: name, Role: fleet.RoleWorker, State: api.NodeLost, Labels: map[string]string{}}
	if i := slices.IndexFunc(nodes, func(n api.Node) bool { return n.Name == name && n.Role == fleet.RoleWorker }); i >= 0 {
		n = nodes[i]
	}
	intent := st.Nodes[name]
	n.Cordoned, n.DrainUntil = intent.Cordoned, nil
	if !intent.DrainUntil.IsZero() {
		n.DrainUntil = &intent.DrainUntil
	}
	return n
}
