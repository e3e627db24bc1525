package controller

import (
	"cmp"
	"context"
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/catalogue"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/reconcile"
	"github.com/mcpfleet/mcpfleet/internal/route"
	"github.com/mcpfleet/mcpfleet/internal/store"
)

// publisher passes on what changed to those who answer requests. What it tells
// the front comes last: a fleet that says it is ready routes its calls.
type publisher struct {
	desired    *store.Store
	observer   *observe.Observer
	reconciler *reconcile.Reconciler
	router     *route.Router
	catalogue  *catalogue.Catalogue
	front      *view

	tools map[string]*route.Tools // by catalogue; of the replicas published last
}

// Run publishes after every change until ctx ends.
func (p *publisher) Run(ctx context.Context) error {
	desired, cancelDesired := p.desired.Subscribe()
	defer cancelDesired()
	observed, cancelObserved := p.observer.Subscribe()
	defer cancelObserved()
	decided, cancelDecided := p.reconciler.Subscribe()
	defer cancelDecided()
	for {
		p.publish()
		select {
		case <-ctx.Done():
			return nil
		case <-desired:
		case <-observed:
		case <-decided:
		}
	}
}

// publish is called by one goroutine at a time.
func (p *publisher) publish() {
	// The order matters: a status is never newer than the picture beside it.
	status := p.reconciler.Status()
	snap := p.observer.Snapshot()
	serving, ending := make(map[fleet.ServerName][]*fleet.Replica), make(map[fleet.ServerName][]*fleet.Replica)
	for _, r := range snap.Sorted() {
		switch {
		case snap.Serving(r):
			serving[r.Server] = append(serving[r.Server], r)
		case r.Exit != nil:
			ending[r.Server] = append(ending[r.Server], r)
		}
	}
	tools := make(map[string]*route.Tools, len(p.tools))
	byName := make(map[fleet.ServerName]*reconcile.ServerStatus, len(status))
	for i := range status {
		byName[status[i].Name] = &status[i]
	}
	state := p.desired.State()
	kept := make(map[string]*fleet.Catalogue) // of servers without a replica
	var routes []route.Server
	var offers []catalogue.Server
	for _, d := range state.List() {
		st := byName[d.Name]
		if st == nil { // it was applied a moment ago
			st = &reconcile.ServerStatus{Reason: "the server was just deployed"}
		}
		newest := newestRevision(state.Servers[d.Name])
		wanted := slices.DeleteFunc(serving[d.Name], func(r *fleet.Replica) bool {
			return r.Revision <= newest && superseded(&d, r)
		})
		to := routeOf(&d, st, wanted, snap)
		for i := range to.Replicas {
			to.Replicas[i].Tools = p.toolsOf(snap, to.Replicas[:i], to.Replicas[i].ID, tools)
		}
		to.Ends = endsOf(slices.Concat(ending[d.Name], snap.Ended[d.Name]))
		routes = append(routes, to)
		offer := offerOf(&d, st, wanted)
		if c := lastKnown(state.Servers[d.Name]); len(offer.Offers) == 0 && c != nil {
			kept[c.Hash] = c
			offer.Offers = []catalogue.Offer{{Revision: d.Revision, Hash: c.Hash}}
		}
		offers = append(offers, offer)
	}
	p.tools = tools
	p.router.Update(routes)
	p.catalogue.Update(catalogue.View{
		Default: state.Default(), Servers: offers,
		Lookup: func(hash string) *fleet.Catalogue {
			if c := snap.Catalogues[hash]; c != nil {
				return c
			}
			return kept[hash]
		},
	})
	p.front.publish(byName, snap)
}

// newestRevision returns the newest revision that this controller has heard of.
// Replicas of a later one show that it is behind, not that they are unwanted.
func newestRevision(sv *desired.Server) fleet.Revision {
	newest := sv.Revision
	for _, r := range sv.Revisions {
		newest = max(newest, r.Number)
	}
	return newest
}

// lastKnown is what a server offered when it last ran: its present revision,
// else the newest before it that ever did.
func lastKnown(sv *desired.Server) *fleet.Catalogue {
	if c := sv.Catalogue(sv.Revision); c != nil {
		return c
	}
	for _, r := range slices.Backward(sv.Revisions) {
		if r.Catalogue != nil {
			return r.Catalogue
		}
	}
	return nil
}

// routeOf is a server as the router needs it. Unhealthy replicas get no new
// calls: their replacements are on their way.
func routeOf(d *fleet.Server, st *reconcile.ServerStatus, serving []*fleet.Replica, snap *observe.Snapshot) route.Server {
	s := route.Server{
		Name: d.Name, MaxOngoing: d.Spec.MaxOngoingRequests, MaxQueued: d.Spec.MaxQueuedRequests,
		MaxRequestBytes: d.Spec.RequestLimit(), CallTimeout: d.Spec.CallTimeout, MaxCallDuration: d.Spec.MaxCallDuration,
	}
	if d.Target.Stopped() {
		s.Stopped = true
		return s
	}
	for _, r := range serving {
		if r.Unhealthy {
			continue
		}
		n := snap.Nodes[r.Node]
		s.Replicas = append(s.Replicas, route.Replica{ID: r.ID, Zone: n.Info.Zone, Backend: n.Worker, Ongoing: r.Load.Ongoing})
	}
	if st.StartFailed {
		s.Down = st.Reason
	}
	s.Resting = st.Resting
	return s
}

// superseded reports whether a replica is of a revision or generation that is
// wanted no more, since the rollout of another has ended. It may still serve:
// its worker does not take orders, or they are on their way.
func superseded(d *fleet.Server, r *fleet.Replica) bool {
	over := !d.Rolling && (d.Stable == 0 || d.Stable == d.Revision)
	return over && (r.Revision != d.Revision || r.Generation < d.Generation)
}

// toolsOf returns the tools that a replica lists, which it shares with all that
// list the same. They are made once for a catalogue and kept in both maps.
func (p *publisher) toolsOf(snap *observe.Snapshot, others []route.Replica, id fleet.ReplicaID, keep map[string]*route.Tools) *route.Tools {
	hash := snap.Replicas[id].Catalogue
	c := snap.Catalogues[hash]
	if c == nil {
		return nil
	}
	set := cmp.Or(keep[hash], p.tools[hash])
	if set == nil {
		var names []string
		for _, raw := range c.Tools {
			if t, err := mcp.ParseTool(raw); err == nil {
				names = append(names, t.Name)
			}
		}
		set = route.NewTools(names)
	}
	for _, o := range others { // catalogues may differ in other things
		if o.Tools != nil && o.Tools != set && o.Tools.Equal(set) {
			set = o.Tools
		}
	}
	keep[hash] = set
	return set
}

// endsOf tells how replicas ended, of which that is known.
func endsOf(list []*fleet.Replica) (ends []route.End) {
	for _, r := range list {
		if r.Exit != nil {
			ends = append(ends, route.End{ID: r.ID, FromOutside: r.Exit.FromOutside()})
		}
	}
	return ends
}

func offerOf(d *fleet.Server, st *reconcile.ServerStatus, serving []*fleet.Replica) catalogue.Server {
	s := catalogue.Server{
		Name: d.Name, DefaultTool: d.Spec.DefaultTool, Reason: st.Reason,
		Failed: st.StartFailed, Stopped: d.Target.Stopped(), EnabledTools: d.Spec.EnabledTools, DisabledTools: d.Spec.DisabledTools,
	}
	for _, r := range serving {
		s.Offers = append(s.Offers, catalogue.Offer{Revision: r.Revision, Hash: r.Catalogue})
	}
	return s
}
