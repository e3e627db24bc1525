package reconcile

import (
	"fmt"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// moveAgain is how long a server's replicas stay after a move that failed.
const moveAgain = 5 * time.Minute

// moving says that a replica is being moved to another node.
type moving struct {
	to     fleet.ReplicaID // that takes its place
	reason string
}

// moves reports whether the replica goes once another has taken its place on another
// node. An update replaces it anyway.
func (u *unit) moves(d *fleet.Server) bool { return u.moving != nil && !outdated(d, u) }

// move is a start that takes the place of a replica on another node.
type move struct {
	server int // index of the server
	from   *unit
	to     fleet.NodeID
	reason string
}

// rebalance returns up to most moves, one for each server at most, to nodes that have
// arrived. The plans were made for the same servers, and room is what they leave. Only
// servers with nothing else to do are moved, unless they are to stay.
//
// A move is from a zone with at least two replicas more, or else from a node with at
// least two more if the zones do not get less even. So moves end: each lowers the sum
// of the squares of the zones' counts, or keeps it and lowers that of the nodes' counts.
func rebalance(servers []want, plans []decision, rm *room, arrived map[fleet.NodeID]arrival, most int, stays func(fleet.ServerName) bool) (out []move) {
	byZone := make(map[string][]fleet.NodeID)
	for id := range arrived {
		byZone[rm.zoneOf(id)] = append(byZone[rm.zoneOf(id)], id)
	}
	for i := range servers {
		w := &servers[i]
		if len(out) >= most {
			break
		}
		if !calm(w, &plans[i]) || stays(w.name) {
			continue
		}
		req := request(&w.desired.Spec.Template, &w.desired.Spec)
		u, to := bestMove(w.units, req, rm, arrived, byZone)
		if u == nil {
			continue
		}
		rm.Take(to, req.Template.Resources)
		out = append(out, move{i, u, to, fmt.Sprintf("moves from node %s to node %s: rebalance after node %s %s", u.node, to, to, arrived[to].why)})
	}
	return out
}

// calm reports whether all replicas of a server serve and nothing is to be done.
func calm(w *want, d *decision) bool {
	s := w.desired
	if s == nil || s.Target.Replicas < 2 || s.Rolling() || s.StableTemplate != nil || len(d.actions) > 0 || d.need > 0 || d.unplaced != "" ||
		s.Spec.UpdatePolicy().MaxSurge.Up(s.Target.Replicas) == 0 { // one more than wanted must be allowed
		return false
	}
	n := 0
	for _, u := range w.units {
		switch {
		case u.spareReady():
		case !u.serving() || u.activate != nil || u.leaves || u.moving != nil || outdated(s, u):
			return false
		default:
			n++
		}
	}
	return n == s.Target.Replicas
}

// mostMoves returns how many moves may wait for their new replica at once: one for ten
// nodes, two at least. Those that only drain do not count, since calls may be long.
func mostMoves(nodes int) int { return max(2, nodes/10) }

// rebalance adds moves to the plans. It returns when it has to look again.
func (st *state) rebalance(now time.Time, servers []want, plans []decision, rm *room, after time.Duration) (wake time.Time) {
	arrived, wake := st.arrivals.settled(now, after)
	if len(arrived) == 0 {
		return wake
	}
	most := mostMoves(len(rm.Nodes()))
	for _, u := range st.replicas.sorted() {
		if u.moving != nil && !u.stopping() {
			most--
		}
	}
	stays := func(name fleet.ServerName) bool {
		until := st.stay[name]
		if now.Before(until) {
			wake = earlier(wake, until)
			return true
		}
		return false
	}
	for _, m := range rebalance(servers, plans, rm, arrived, most, stays) {
		d := servers[m.server].desired
		plans[m.server].actions = append(plans[m.server].actions, action{
			node: m.to, rev: d.Revision, template: &d.Spec.Template, moves: m.from, reason: m.reason,
		})
	}
	return wake
}

// observeMoves ends the moves whose new replica is gone before it could take the place
// of the old one, which then stays.
func (st *state) observeMoves(now time.Time) {
	for _, u := range st.replicas.sorted() {
		if u.moving == nil || st.replicas.has(u.moving.to) {
			continue
		}
		if u.moving = nil; u.stop == nil {
			st.stay[u.server] = now.Add(moveAgain)
		}
	}
	for name, until := range st.stay {
		if !now.Before(until) {
			delete(st.stay, name)
		}
	}
}
