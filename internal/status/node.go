package status

import (
	"cmp"
	"slices"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// controllers returns the living controllers, by name.
func (v *View) controllers() []api.Node {
	leader, _, led := v.cfg.Store.Leader()
	var out []api.Node
	for _, m := range v.cfg.Members() {
		if m.Role != fleet.RoleController {
			continue
		}
		n := api.Node{
			Name: m.Node, Role: m.Role, PID: m.PID, HTTP: m.HTTP, GRPC: m.GRPC, Gossip: m.Gossip, Life: m.Life, State: api.NodeReady,
			Leader: led && m.Controller == leader, Version: m.Version,
		}
		if m.Life == v.cfg.Self {
			n.Zone = v.cfg.Zone
		}
		if n.Reason = v.cfg.Store.ProblemOf(m.Controller); n.Reason != "" {
			n.State = api.NodeDegraded
		}
		out = append(out, n)
	}
	return out
}

// workers returns the workers, and the nodes that have an intent and are gone,
// by name. cordons has why the leader has cordoned nodes by itself.
func workers(snap *observe.Snapshot, intents map[fleet.NodeID]fleet.NodeIntent, cordons map[fleet.NodeID]string) (out []api.Node) {
	allocated := make(map[fleet.NodeID]fleet.Resources)
	replicas := make(map[fleet.NodeID]int)
	for _, r := range snap.Replicas {
		allocated[r.Node] = allocated[r.Node].Add(r.Resources)
		replicas[r.Node]++
	}
	for name, n := range snap.Nodes {
		state, reason := nodeState(&n, cordons[name])
		out = append(out, intended(api.Node{
			Name: name, Role: fleet.RoleWorker, PID: n.Member.PID, Zone: n.Info.Zone, Labels: n.Info.Labels,
			GRPC: n.Member.GRPC, Gossip: n.Member.Gossip, Life: n.Member.Life, State: state, Reason: reason,
			Runtime: strings.Join(n.Info.Runtimes, ","), Runtimes: n.Info.Runtimes, Version: n.Info.Version, Replicas: replicas[name],
			Capacity: api.ResourcesOf(n.Info.Capacity), Allocated: api.ResourcesOf(allocated[name]),
		}, intents[name]))
	}
	for name, intent := range intents {
		if _, present := snap.Nodes[name]; !present { // listed, so that it can be uncordoned
			out = append(out, intended(api.Node{Name: name, Role: fleet.RoleWorker, State: api.NodeLost}, intent))
		}
	}
	slices.SortFunc(out, func(a, b api.Node) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// intended adds what operators want of a node.
func intended(n api.Node, intent fleet.NodeIntent) api.Node {
	n.Cordoned = intent.Cordoned
	if !intent.DrainUntil.IsZero() {
		n.DrainUntil = &intent.DrainUntil
		if n.State == api.NodeReady {
			n.State = api.NodeDraining
		}
	}
	return n
}

// nodeState returns the state of a node, and its reason. cordon is why the leader has
// cordoned it by itself, or "".
func nodeState(n *observe.Node, cordon string) (state, reason string) {
	switch {
	case n.Lost:
		return api.NodeLost, n.Unfit
	case n.Draining:
		return api.NodeDraining, n.Unfit
	case n.Connected && n.Unfit != "":
		return api.NodeDegraded, n.Unfit
	case n.Connected && cordon != "":
		return api.NodeDegraded, cordon
	case n.Connected:
		return api.NodeReady, ""
	case !n.Reported():
		return api.NodeJoining, n.Unfit
	default:
		return api.NodeUnreachable, cmp.Or(n.Unfit, cordon)
	}
}
