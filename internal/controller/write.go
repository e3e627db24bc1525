package controller

import (
	"fmt"
	"net"
	"net/http"
	"strings"
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

// eventOf tells a change of desired state.
func eventOf(c desired.Change) api.Event {
	e := api.Event{Kind: string(c.Kind), Server: c.Server, Node: c.Node, Revision: c.Revision}
	what := fmt.Sprintf("server %s", c.Server)
	if c.Node != "" {
		what = fmt.Sprintf("node %s", c.Node)
	} else {
		e.Kind = "server_" + e.Kind
	}
	if c.Node != "" {
		e.Kind = "node_" + e.Kind
	}
	e.Message = what + " " + strings.ReplaceAll(string(c.Kind), "_", " ")
	if c.Kind == desired.Updated || c.Kind == desired.RolledBack || c.Kind == desired.Rolled {
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
		Kind: "leader_elected", Node: st.Lead.Name,
		Message: fmt.Sprintf("controller %s leads in term %d", st.Lead.Name, st.Lead.Term),
	}
}
