package reconcile

import (
	"cmp"
	"math"
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/schedule"
)

// bestMove returns the replica of a server that should move, and to which node. It
// returns nil if no move helps. byZone has the nodes that have arrived by zone.
func bestMove(units []*unit, req schedule.Request, rm *room, arrived map[fleet.NodeID]arrival, byZone map[string][]fleet.NodeID) (*unit, fleet.NodeID) {
	staying := slices.DeleteFunc(slices.Clone(units), (*unit).isSpare)
	s := balanceOf(staying, rm)
	if !s.mayImprove(byZone, rm) {
		return nil, ""
	}
	for _, u := range s.worst {
		rm.countFor(units, without(staying, u))
		to := rm.Peek(req)
		if _, ok := arrived[to]; ok && s.improves(u, to, rm) {
			return u, to
		}
	}
	return nil, ""
}

// balance is how a server's replicas are spread.
type balance struct {
	onNode map[fleet.NodeID]int
	inZone map[string]int
	// worst has, of each zone, the replica that should move first: on the fullest node,
	// there the one with the fewest calls, else the youngest. The fullest zone is first.
	worst []*unit
}

func balanceOf(units []*unit, rm *room) balance {
	s := balance{onNode: make(map[fleet.NodeID]int), inZone: make(map[string]int)}
	for _, u := range units {
		s.onNode[u.node]++
		s.inZone[rm.zoneOf(u.node)]++
	}
	worst := make(map[string]*unit)
	for _, u := range units {
		zone := rm.zoneOf(u.node)
		if w := worst[zone]; w == nil || cmp.Or(
			cmp.Compare(s.onNode[w.node], s.onNode[u.node]), cmp.Compare(u.ongoing, w.ongoing),
			w.startedAt.Compare(u.startedAt), cmp.Compare(u.id, w.id),
		) < 0 {
			worst[zone] = u
		}
	}
	for _, zone := range sortedKeys(worst) {
		s.worst = append(s.worst, worst[zone])
	}
	slices.SortStableFunc(s.worst, func(a, b *unit) int {
		return cmp.Compare(s.inZone[rm.zoneOf(b.node)], s.inZone[rm.zoneOf(a.node)])
	})
	return s
}

// improves reports whether a move makes the server more even.
func (s *balance) improves(u *unit, to fleet.NodeID, rm *room) bool {
	return s.improvesBy(u, rm.zoneOf(u.node), rm.zoneOf(to), s.onNode[to])
}

// improvesBy is improves for a node of a zone with so many replicas of the server.
func (s *balance) improvesBy(u *unit, from, to string, onNode int) bool {
	more := s.inZone[from] - s.inZone[to]
	return more >= 2 || (from == to || more == 1) && s.onNode[u.node]-onNode >= 2
}

// mayImprove reports whether a move to any of the nodes, by zone, makes the server more
// even. It looks at no more nodes of a zone than it takes to find one without a
// replica.
func (s *balance) mayImprove(arrived map[string][]fleet.NodeID, rm *room) bool {
	for zone, nodes := range arrived {
		fewest := math.MaxInt
		for _, id := range nodes[:min(len(nodes), s.inZone[zone]+1)] {
			fewest = min(fewest, s.onNode[id])
		}
		for _, u := range s.worst {
			if s.improvesBy(u, rm.zoneOf(u.node), zone, fewest) {
				return true
			}
		}
	}
	return false
}
