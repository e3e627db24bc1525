// Package status says how the fleet is doing, in the words of the HTTP API:
// the state and reason of each server, whether this controller is ready, which
// replicas and nodes there are, and the metrics of all that.
//
// It joins three things that change on their own: what is desired, what the
// reconciler said of each server, and what runs. What was said of a server
// before it was written is never shown as the state of what was written: the
// server is DEPLOYING or UPDATING until the reconciler has seen the write.
//
// The package starts no goroutine. All methods may be called at any time.
package status

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/reconcile"
)

// Store is desired state and the election. Package store implements it.
type Store interface {
	State() *desired.State
	Leader() (id fleet.ControllerID, term fleet.Epoch, ok bool)
	// ProblemOf says what keeps a controller from storing desired state, "" if
	// nothing is known to.
	ProblemOf(id fleet.ControllerID) string
}

// Config says what a View shows.
type Config struct {
	Store   Store
	Members func() []fleet.Member // the members of the ring
	Self    fleet.LifeID          // of this controller
	Zone    string                // its zone
	// Loads returns the load of each server that has calls, as this controller knows
	// it. nil: nothing is known.
	Loads func() map[fleet.ServerName]fleet.ServerLoad
	// Unready says why this controller is not ready, in words, "" if it is.
	Unready func() string
	// Cordons returns the nodes that the leader has cordoned by itself, and why. It may
	// be nil.
	Cordons func() map[fleet.NodeID]string
}

// View shows the fleet.
type View struct {
	cfg     Config
	picture atomic.Pointer[picture]
	starts  *coldStarts
}

// picture is what was last published.
type picture struct {
	servers map[fleet.ServerName]*reconcile.ServerStatus
	snap    *observe.Snapshot
}

// New returns a View of a fleet of which nothing is known.
func New(cfg Config) *View {
	v := &View{cfg: cfg, starts: newColdStarts()}
	v.Publish(nil, &observe.Snapshot{})
	return v
}

// Publish replaces what is shown. The caller edits neither argument afterwards.
func (v *View) Publish(servers map[fleet.ServerName]*reconcile.ServerStatus, snap *observe.Snapshot) {
	v.picture.Store(&picture{servers, snap})
	v.starts.count(servers, snap)
}

// Servers returns the servers of a state, and those that are being deleted, by
// name.
func (v *View) Servers(st *desired.State) []api.Server {
	status, loads, now := v.picture.Load().servers, v.loads(), time.Now()
	out := make([]api.Server, 0, len(st.Servers))
	for name, sv := range st.Servers {
		out = append(out, serverOf(st, name, sv, status[name], now))
		out[len(out)-1].Ongoing, out[len(out)-1].Queued = loads[name].Running, loads[name].Queued
	}
	for name, s := range status {
		if st.Servers[name] == nil {
			out = append(out, deletedOf(s))
		}
	}
	slices.SortFunc(out, func(a, b api.Server) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func (v *View) loads() map[fleet.ServerName]fleet.ServerLoad {
	if v.cfg.Loads == nil {
		return nil
	}
	return v.cfg.Loads()
}

// Ready reports whether this controller is ready, and every server settled.
func (v *View) Ready() api.Ready {
	out := ready(v.cfg.Store.State(), v.picture.Load().servers)
	out.Reason = v.cfg.Unready()
	out.Ready = out.Ready && out.Reason == ""
	return out
}

// ready is Ready without this controller's own reasons.
func ready(st *desired.State, status map[fleet.ServerName]*reconcile.ServerStatus) api.Ready {
	out := api.Ready{Ready: true}
	for _, name := range slices.Sorted(maps.Keys(st.Servers)) {
		sv, s := st.Servers[name], status[name]
		one := api.ServerReady{Name: name, Desired: sv.Target().Replicas}
		one.State, one.Reason = stateOf(sv, s)
		if s != nil {
			one.Ready = s.Ready
		}
		out.Servers = append(out.Servers, one)
		out.Ready = out.Ready && settled(sv, s)
	}
	return out
}

// settled reports whether a server has settled as it was last written. st may be
// older than that, or nil. A write that asks for nothing more than what serves makes
// no server unready, be it of another revision.
func settled(sv *desired.Server, st *reconcile.ServerStatus) bool {
	if st == nil || !st.Settled {
		return false
	}
	wanted, seen := sv.Replicas, current(sv, st)
	if sv.Spec.Autoscaling != nil {
		wanted = min(wanted, 1)
	} else if st.Target.Replicas != wanted {
		seen = false
	}
	return seen || st.Ready >= wanted
}

// Replicas returns the replicas that have not ended, by id.
func (v *View) Replicas() []api.Replica {
	var out []api.Replica
	snap := v.picture.Load().snap
	for _, r := range snap.Sorted() {
		one := api.ReplicaOf(r)
		if !snap.Nodes[r.Node].Connected {
			one.Reason = unreachable(r.Node, one.Reason)
		}
		out = append(out, one)
	}
	return out
}

// unreachable returns the reason of a replica whose node cannot be reached, so that what is
// shown of it may be over.
func unreachable(node fleet.NodeID, reported string) string {
	why := fmt.Sprintf("node %s cannot be reached: this is what it last reported", node)
	if reported != "" {
		why += ": " + reported
	}
	return why
}

// Nodes returns the controllers, then the workers, each by name.
func (v *View) Nodes() []api.Node {
	return append(v.controllers(), workers(v.picture.Load().snap, v.cfg.Store.State().Nodes, v.cordons())...)
}

func (v *View) cordons() map[fleet.NodeID]string {
	if v.cfg.Cordons == nil {
		return nil
	}
	return v.cfg.Cordons()
}

// Planned returns a preview of the reconciler's as the API shows it.
func Planned(plan []reconcile.PlannedAction) []api.PlannedAction {
	out := make([]api.PlannedAction, 0, len(plan))
	for _, a := range plan {
		one := api.PlannedAction{
			Action: api.PlanStop, Server: a.Server, Replica: a.Replica, Node: a.Node, Revision: a.Revision, Reason: a.Reason,
		}
		if a.Start {
			one.Action = api.PlanStart
		}
		out = append(out, one)
	}
	return out
}
