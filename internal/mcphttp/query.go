package mcphttp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// maxListWait bounds how long a request that needs no replica waits until an idle server
// has started whose lists are not known.
const maxListWait = 30 * time.Second

// query is a request to an endpoint, and how long its client waits.
type query struct {
	scope   fleet.Scope
	timeout time.Duration // 0: the server's own
	came    time.Time
	waited  bool // for its server
}

func newQuery(r *http.Request) (*query, error) {
	timeout, err := web.ClientTimeout(r)
	return &query{scope: scopeOf(r), timeout: timeout, came: time.Now()}, err
}

// look repeats a look-up that may fail because the server is not known yet, or because
// it is idle and never ran. It waits like a call, and g tells the client so.
func (f *Front) look(ctx context.Context, q *query, g *progress, lookUp func() error) error {
	err := lookUp()
	if err == nil {
		return nil
	}
	q.waited = true
	g.during(ctx, waitsForStart, func() { err = f.lookAgain(ctx, err, q, lookUp) })
	return err
}

// lookAgain repeats a look-up that failed.
func (f *Front) lookAgain(ctx context.Context, err error, q *query, lookUp func() error) error {
	err = f.lookup.Repeat(ctx, err, q.timeout, q.came, lookUp)
	// This controller may have just started: then it will soon know the server.
	for errors.Is(err, fleet.ErrCatalogueUnknown) && f.lacks() && time.Since(q.came) < catchUp {
		select {
		case <-time.After(catchUpPoll):
		case <-ctx.Done():
			return err
		}
		err = f.lookup.Repeat(ctx, lookUp(), q.timeout, q.came, lookUp)
	}
	return err
}

// lacks reports whether this controller may lack what the rest of the fleet knows.
func (f *Front) lacks() bool { return f.cfg.Incomplete != nil && f.cfg.Incomplete() != "" }

// view returns what the endpoint offers, for a request that needs no replica.
func (f *Front) view(ctx context.Context, q *query) (view View, err error) {
	bounded := *q
	if bounded.timeout == 0 || bounded.timeout > maxListWait {
		bounded.timeout = maxListWait
	}
	err = f.look(ctx, &bounded, nil, func() (err error) {
		view, err = f.cfg.Offers.View(q.scope)
		return err
	})
	return view, err
}

// destinations returns where a request that needs a replica may go, at an endpoint of
// which check returns no error: at least one, to be tried in order.
func (f *Front) destinations(ctx context.Context, q *query, p *reply, m *message, check func(View) error) (all []fleet.Destination, err error) {
	err = f.look(ctx, q, progressOf(p, m), func() error {
		view, err := f.cfg.Offers.View(q.scope)
		if err == nil {
			err = check(view)
		}
		if err == nil {
			all, err = f.destinationsIn(view, m)
		}
		return err
	})
	return all, err
}

// destinationsIn returns where a request may go at an endpoint.
func (f *Front) destinationsIn(view View, m *message) (_ []fleet.Destination, err error) {
	if _, err := m.about(); err != nil {
		return nil, invalidParams("Invalid params: %v", err)
	}
	var dest fleet.Destination
	switch m.method {
	case mcp.MethodResourcesRead:
		return view.Resources(m.target)
	case mcp.MethodToolsCall:
		dest, err = view.Tool(m.target)
	case mcp.MethodPromptsGet:
		dest, err = view.Prompt(m.target)
	case mcp.MethodComplete:
		kind := "ref/prompt"
		if mcp.IsResourceRef(m.params) {
			kind = "ref/resource"
		}
		dest, err = view.Ref(kind, m.target)
	case mcp.MethodTaskGet, mcp.MethodTaskUpdate, mcp.MethodTaskCancel, mcp.MethodTaskResult:
		dest, err = f.taskDestination(view, m)
	default:
		only := false
		if dest, only = view.Only(); !only || m.method == mcp.MethodTasksList && !ownsTasks(dest) {
			err = unknownMethod(m.method)
		}
		dest.Name = m.target
	}
	return []fleet.Destination{dest}, err
}

// withoutOpenings leaves out those destinations that are mere guesses, and at which a
// replica would have to be given to a session just to ask. opened returns the servers at
// which the session has one.
func withoutOpenings(all []fleet.Destination, m *message, opened func() []fleet.ServerName) ([]fleet.Destination, error) {
	if len(all) == 1 && !all[0].Guess {
		return all, nil
	}
	var kept []fleet.Destination
	has := opened()
	for _, dest := range all {
		if !dest.Guess || !ownsTasks(dest) || slices.Contains(has, dest.Server) {
			kept = append(kept, dest)
		}
	}
	if len(kept) == 0 {
		return nil, fmt.Errorf("%w %s", fleet.ErrUnknownResource, web.Shorten(m.target))
	}
	return kept, nil
}

// ask sends a request to its destinations, one after the other until one does not say
// that it has no such resource.
func ask(all []fleet.Destination, send func(fleet.Destination) outcome) (out outcome) {
	for i := range all {
		out = send(all[i])
		if out.refusal == nil || i == len(all)-1 {
			break
		}
		if code := mcp.ParseError(out.refusal).Code; code != mcp.CodeResourceNotFound && code != mcp.CodeInvalidParams {
			break
		}
	}
	return out
}

// shorten quotes raw JSON of a client for a message.
func shorten(raw []byte) string {
	if raw == nil {
		return "nothing"
	}
	return web.Shorten(string(raw))
}
