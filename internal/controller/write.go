package controller

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/events"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/gossip"
	"github.com/mcpfleet/mcpfleet/internal/store"
)

// writes is desired state as the HTTP front reads and writes it.
type writes struct {
	*store.Store
	ring  *gossip.Ring
	peers *http.Client // to other controllers
	gate  writeGate
	// mayLack says why servers that exist may be unknown here; "" if none is.
	mayLack func() string
}

// Stale implements httpapi.Desired. Beside the store's reasons it gives
// those of a controller that starts, or was stopped or cut off.
func (w *writes) Stale() string { return w.mayLack() }

// Propose implements httpapi.Desired.
func (w *writes) Propose(ctx context.Context, c desired.Command) (desired.Result, error) {
	if !w.gate.enter() {
		return desired.Result{}, fmt.Errorf("leadership is being handed over: %w", fleet.ErrNotLeader)
	}
	defer w.gate.leave()
	return w.Store.Propose(ctx, c)
}

// Transfer hands leadership over when no write is under way, for a write that
// is cut off by it has an unknown outcome. Those that come meanwhile are told
// that nobody leads, and come again.
func (w *writes) Transfer(ctx context.Context, to fleet.ControllerID) error {
	none := w.gate.shut()
	defer w.gate.open()
	grace := time.NewTimer(writeGrace)
	defer grace.Stop()
	select {
	case <-none:
	case <-grace.C:
	case <-ctx.Done():
	}
	return w.Store.Transfer(ctx, to)
}

// writeGate counts the writes under way, and keeps new ones out while it is
// shut. The zero value is open.
type writeGate struct {
	mu     sync.Mutex
	shuts  int // by so many
	inside int
	none   chan struct{} // closed once nobody is inside; nil while open
}

func (g *writeGate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shuts > 0 {
		return false
	}
	g.inside++
	return true
}

func (g *writeGate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside--; g.inside == 0 && g.none != nil {
		close(g.none)
		g.none = nil
	}
}

// shut returns a channel that is closed once nobody is inside. Whoever shuts the
// gate opens it.
func (g *writeGate) shut() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shuts++
	none := g.none
	if none == nil {
		none = make(chan struct{})
		if g.inside == 0 {
			close(none)
		} else {
			g.none = none
		}
	}
	return none
}

func (g *writeGate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shuts--
}

// peerClient is the way to other controllers: direct, whatever proxies the
// environment names, since fleet files with their secrets go this way. The
// caller closes its idle connections.
func peerClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:     (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
		IdleConnTimeout: 30 * time.Second,
	}}
}

// Leader implements httpapi.Desired.
func (w *writes) Leader() (self bool, http string, ok bool) {
	id, _, ok := w.Store.Leader()
	if !ok {
		return false, "", false
	}
	if id == w.ID() {
		return true, "", true
	}
	m, _ := controllerOf(w.ring.Members(), id)
	return false, m.HTTP, true // "": gossip has not told yet
}

// problemOf says why a controller does not keep desired state as it should, "" if
// nothing is known to be wrong. Each knows it of itself, the leader of all.
func (w *writes) problemOf(id fleet.ControllerID) string {
	if id == w.ID() {
		return w.Problem()
	}
	return w.PeerProblem(id)
}

// controllerOf finds a controller's present life.
func controllerOf(members []fleet.Member, id fleet.ControllerID) (found fleet.Member, ok bool) {
	for _, m := range members {
		if m.Controller == id && (!ok || m.Started.After(found.Started)) {
			found, ok = m, true
		}
	}
	return found, ok
}

// tellChanges records what a command did. The log of events drops it on
// controllers that do not lead.
func tellChanges(happened *events.Log) func(desired.Result) {
	return func(r desired.Result) {
		if r.Err != nil || r.Repeated { // what was told once is not news
			return
		}
		for _, change := range r.Changes {
			happened.Record(eventOf(change))
		}
	}
}

// eventOf returns the event of a change of desired state.
func eventOf(c desired.Change) api.Event {
	kind := "server_" + c.Kind
	if c.Node != "" {
		kind = "node_" + c.Kind
	}
	e := api.Event{
		Kind: fleet.EventKind(kind), Server: c.Server, Node: c.Node, Revision: c.Revision,
		Message: c.Subject().String() + " " + strings.ReplaceAll(string(c.Kind), "_", " "),
	}
	if c.Kind == desired.Updated || c.Kind == desired.RolledBack || c.Kind == desired.RolledOut {
		e.Message += fmt.Sprintf(": revision %d", c.Revision)
	}
	if len(c.Fields) > 0 {
		fields := make([]string, len(c.Fields))
		for i, f := range c.Fields {
			fields[i] = f.Field
		}
		e.Message += " (" + strings.Join(fields, ", ") + ")"
	}
	return e
}

// leaderEvent tells of a new tenure.
func leaderEvent(st *desired.State) api.Event {
	return api.Event{
		Kind: fleet.EventLeaderElected, Node: st.Lead.Name,
		Message: fmt.Sprintf("controller %s leads in term %d", st.Lead.Name, st.Lead.Term),
	}
}
