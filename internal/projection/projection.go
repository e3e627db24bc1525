// Package projection turns what is desired, what the reconciler decided and what
// runs into what answers requests: the servers that the router routes to, the
// servers whose tools the catalogue lists, and the picture that the HTTP API
// shows.
//
// The projection itself is a pure function. Publisher makes it again after every
// change and hands its parts out. Publisher.Run is the only goroutine.
package projection

import (
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/catalogue"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/reconcile"
	"github.com/mcpfleet/mcpfleet/internal/route"
)

// projection is what router and catalogue work with.
type projection struct {
	routes  []route.Server
	offered catalogue.Source
	tools   toolSets // for the next projection
}

// project makes a projection. known has the sets of tools of the one before.
func project(state *desired.State, status map[fleet.ServerName]*reconcile.ServerStatus, snap *observe.Snapshot, known toolSets) projection {
	serving, owned, spares, ended := byServer(snap)
	alive := aliveByServer(snap)
	kept := make(map[string]*fleet.Catalogue) // of servers without a replica
	out := projection{
		offered: catalogue.Source{Default: state.Default(), Gateways: gateways(state), Lookup: func(hash string) *fleet.Catalogue {
			if c := snap.Catalogues[hash]; c != nil {
				return c
			}
			return kept[hash]
		}},
		tools: make(toolSets, len(known)),
	}
	for _, d := range state.List() {
		sv, st := state.Servers[d.Name], status[d.Name]
		if st == nil {
			st = &reconcile.ServerStatus{Reason: "the server was just deployed"}
		}
		newest := newestRevision(sv)
		wanted := eligible(&d, sv, newest, serving[d.Name])
		to := routeOf(&d, st, slices.Concat(wanted, latest(owned[d.Name])), snap)
		for i := range to.Replicas {
			to.Replicas[i].Tools = out.tools.of(snap, to.Replicas[:i], to.Replicas[i].ID, known)
		}
		to.Apart = apartOf(to.Replicas, alive[d.Name], snap)
		to.Ends = endsOf(slices.Concat(ended[d.Name], snap.Ended[d.Name]))
		out.routes = append(out.routes, to)

		if len(wanted) == 0 {
			wanted = eligible(&d, sv, newest, spares[d.Name]) // they offer the same
		}
		offer := offerOf(&d, st, shown(&d, wanted))
		if c := lastKnown(sv, &d); len(offer.Offers) == 0 && c != nil {
			kept[c.Hash] = c
			offer.Offers = []catalogue.Offer{{Revision: d.Revision, Hash: c.Hash}}
		}
		out.offered.Servers = append(out.offered.Servers, offer)
	}
	return out
}

// gateways returns the gateways of a state, which may be nil.
func gateways(state *desired.State) map[fleet.GatewayName]fleet.Gateway {
	if state == nil {
		return nil
	}
	return state.Gateways
}

// byServer returns the replicas that serve, those that serve one session each, the spares
// that are ready to, and those that have ended and are still reported, by id.
func byServer(snap *observe.Snapshot) (serving, owned, spares, ended map[fleet.ServerName][]*fleet.Replica) {
	owned = make(map[fleet.ServerName][]*fleet.Replica)
	serving, ended = make(map[fleet.ServerName][]*fleet.Replica), make(map[fleet.ServerName][]*fleet.Replica)
	spares = make(map[fleet.ServerName][]*fleet.Replica)
	for _, r := range snap.Sorted() {
		switch {
		case r.Raw && (r.Session == "" || !snap.Serving(r)) && r.Exit == nil:
		case r.Raw && r.Session != "" && snap.Serving(r):
			owned[r.Server] = append(owned[r.Server], r) // whatever its revision
		case snap.Serving(r):
			serving[r.Server] = append(serving[r.Server], r)
		case r.Spare && r.Phase == fleet.PhaseReady:
			spares[r.Server] = append(spares[r.Server], r)
		case r.Exit != nil:
			ended[r.Server] = append(ended[r.Server], r)
		}
	}
	return serving, owned, spares, ended
}

// aliveByServer returns the replicas whose process may still run, whether they take calls
// or not, by id. Those of sessions are left out.
func aliveByServer(snap *observe.Snapshot) map[fleet.ServerName][]*fleet.Replica {
	alive := make(map[fleet.ServerName][]*fleet.Replica)
	for _, r := range snap.Sorted() {
		if (r.Phase == fleet.PhaseReady || r.Phase == fleet.PhaseDraining) && !r.Raw && !r.Spare && r.Exit == nil {
			alive[r.Server] = append(alive[r.Server], r)
		}
	}
	return alive
}

// apartOf returns the replicas that take no calls, and may still have tasks that clients
// ask for.
func apartOf(taking []route.Replica, alive []*fleet.Replica, snap *observe.Snapshot) (apart []route.Replica) {
	for _, r := range alive {
		if slices.ContainsFunc(taking, func(t route.Replica) bool { return t.ID == r.ID }) {
			continue
		}
		one := route.Replica{ID: r.ID}
		if n := snap.Nodes[r.Node]; n.Connected && n.Worker != nil {
			one.Backend = n.Worker
		}
		apart = append(apart, one)
	}
	return apart
}

// newestRevision returns the newest revision that this controller knows of. A
// replica of a later one shows that this controller is behind, not that the
// replica is unwanted.
func newestRevision(sv *desired.Server) fleet.Revision {
	newest := sv.Revision
	for _, r := range sv.Revisions {
		newest = max(newest, r.Number)
	}
	return newest
}

// superseded reports whether a replica is of a revision or generation that is
// no longer wanted, since the rollout of another has ended. The replica may
// still serve: its worker takes no orders, or the order is on its way.
func superseded(d *fleet.Server, r *fleet.Replica) bool {
	ended := !d.Rolling() && (d.Stable == 0 || d.Stable == d.Revision)
	return ended && (r.Revision != d.Revision || r.Generation < d.Generation)
}

// eligible returns the replicas that may take calls, of those that serve. It uses
// their slice.
func eligible(d *fleet.Server, sv *desired.Server, newest fleet.Revision, serving []*fleet.Replica) []*fleet.Replica {
	good, rest := serving[:0], []*fleet.Replica(nil)
	for _, r := range serving {
		switch {
		case r.Revision <= newest && superseded(d, r), unchecked(d, sv, r):
		case r.Revision > newest:
			rest = append(rest, r) // it may have to be checked first, but has been if it is the only one
		case failed(d, r) && d.Failed.Unfit:
			rest = append(rest, r)
		default:
			good = append(good, r)
		}
	}
	if len(good) > 0 {
		return good
	}
	return rest
}

// shown returns the replicas whose tools callers see. A canary shows nobody other
// tools: those of the old revision are all there, and the new ones may go again.
func shown(d *fleet.Server, serving []*fleet.Replica) []*fleet.Replica {
	if _, canary := d.CanaryShare(); !canary {
		return serving
	}
	old := slices.DeleteFunc(slices.Clone(serving), func(r *fleet.Replica) bool { return r.Revision == d.Revision })
	if len(old) > 0 {
		return old
	}
	return serving
}

// unchecked reports whether a replica takes no calls because its revision has not
// passed its checks.
func unchecked(d *fleet.Server, sv *desired.Server, r *fleet.Replica) bool {
	if r.Revision == d.Revision {
		return d.Unchecked()
	}
	rev := sv.Kept(r.Revision)
	return rev != nil && rev.Unchecked
}

// failed reports whether a replica is of the revision that was rolled back.
func failed(d *fleet.Server, r *fleet.Replica) bool {
	return d.Failed != nil && r.Revision == d.Failed.Revision && r.Revision != d.Revision
}

// lastKnown returns what a server offered when it last ran: the catalogue of its
// present revision, else of the stable one, and the other way round while the present
// one is not checked. If neither has one, it is that of the newest revision that has.
func lastKnown(sv *desired.Server, d *fleet.Server) *fleet.Catalogue {
	first, second := d.Revision, d.Stable
	if d.Unchecked() {
		first, second = second, first
	}
	for _, n := range []fleet.Revision{first, second} {
		if c := sv.Catalogue(n); c != nil {
			return c
		}
	}
	for _, r := range slices.Backward(sv.Revisions) {
		if r.Catalogue != nil {
			return r.Catalogue
		}
	}
	return nil
}

// routeOf returns a server as the router needs it. Unhealthy replicas are left
// out: their replacements are on their way.
func routeOf(d *fleet.Server, st *reconcile.ServerStatus, serving []*fleet.Replica, snap *observe.Snapshot) route.Server {
	s := route.Server{
		Name: d.Name, MaxOngoing: d.Spec.MaxOngoingRequests, MaxQueued: d.Spec.MaxQueuedRequests,
		MaxRequestBytes: d.Spec.RequestLimit(), CallTimeout: d.Spec.CallTimeout, MaxCallDuration: d.Spec.MaxCallDuration, PerSession: d.Spec.PerSession(),
	}
	if d.Target.Stopped() {
		s.Stopped = true
		return s
	}
	share, canary := d.CanaryShare()
	if canary {
		s.Canary = &route.Canary{Percent: share}
	}
	for _, r := range serving {
		if r.Unhealthy {
			continue
		}
		n := snap.Nodes[r.Node]
		s.Replicas = append(s.Replicas, route.Replica{
			ID: r.ID, Zone: n.Info.Zone, Backend: n.Worker, Ongoing: r.Load.Ongoing, Canary: canary && r.Revision == d.Revision, Session: r.Session,
		})
	}
	switch {
	case st.StartFailed:
		s.Down = st.Reason
	case len(s.Replicas) == 0 && st.State != fleet.StateIdle:
		s.Pending = st.Reason
	}
	s.Resting = st.Resting
	return s
}

// endsOf returns how replicas ended, as far as that is known.
func endsOf(list []*fleet.Replica) (ends []route.End) {
	for _, r := range list {
		if r.Exit != nil {
			ends = append(ends, route.End{ID: r.ID, FromOutside: r.Exit.FromOutside()})
		}
	}
	return ends
}

// offerOf returns a server as the catalogue needs it.
func offerOf(d *fleet.Server, st *reconcile.ServerStatus, ready []*fleet.Replica) catalogue.Server {
	s := catalogue.Server{
		Name: d.Name, DefaultTool: d.Spec.DefaultTool, Reason: st.Reason,
		Failed: st.StartFailed, Stopped: d.Target.Stopped(), Wakes: d.OnCall(), Tools: d.Spec.Tools(),
		Private: d.Spec.PerSession(),
	}
	for _, r := range ready {
		s.Offers = append(s.Offers, catalogue.Offer{Revision: r.Revision, Hash: r.Catalogue})
	}
	return s
}

// latest returns the replicas of sessions, of each session only the last one that it got.
func latest(owned []*fleet.Replica) (out []*fleet.Replica) {
	last := make(map[fleet.SessionID]*fleet.Replica, len(owned))
	for _, r := range owned {
		if o := last[r.Session]; o == nil || r.SessionAt.After(o.SessionAt) {
			last[r.Session] = r
		}
	}
	for _, r := range owned {
		if last[r.Session] == r {
			out = append(out, r)
		}
	}
	return out
}
