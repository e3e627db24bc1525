package reconcile

import (
	"cmp"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// unit is one replica as the reconciler knows it: ordered and not yet reported, or
// reported.
type unit struct {
	id        fleet.ReplicaID
	server    fleet.ServerName
	rev       fleet.Revision
	gen       uint64
	node      fleet.NodeID
	life      fleet.LifeID
	view      *nodeView // of node; see nodeViews.viewOf
	resources fleet.Resources

	observed  bool        // a report has contained it
	phase     fleet.Phase // PENDING until a report says more
	unhealthy bool
	reachable bool            // its node is connected
	since     time.Time       // when reachable last changed
	leaves    bool            // its node is draining
	expired   bool            // its node should be empty by now
	ending    bool            // its worker is stopping
	rested    bool            // it replaces one that nobody needed
	era       fleet.Era       // that its revision is known to speak; see fleet.Assignment
	spare     bool            // it takes no calls, as ordered or as last reported
	ongoing   int             // calls on it, as last reported
	raw       bool            // it was started for a session
	session   fleet.SessionID // whose it is; "": nobody's
	claimed   bool            // it is being given to a session
	outSince  time.Time       // since when its session is to move; zero: it is not
	startedAt time.Time
	readyAt   time.Time // zero before READY

	removed bool // from the tracker

	failed      string       // its failure is recorded, with this reason
	unexplained *unexplained // nil once it is known how it ended

	template *fleet.Template // of one that was ordered here
	start    *order          // nil once a report has contained it
	stop     *order
	activate *order // of a spare; nil once a report shows it
	moving   *moving
}

func (u *unit) ready() bool    { return u.phase == fleet.PhaseReady }
func (u *unit) stopping() bool { return u.stop != nil || u.phase >= fleet.PhaseDraining }

// mayServe reports whether the replica may answer calls, now or later. One that
// was told to stop may until a report shows that it has begun to.
func (u *unit) mayServe() bool { return u.phase < fleet.PhaseDraining && !u.isSpare() }

// serving reports whether the replica takes calls and is to go on doing so.
func (u *unit) serving() bool {
	return u.ready() && u.reachable && !u.unhealthy && u.stop == nil && !u.spare
}

// leastUseful returns the unit that can best be spared: one that does not serve,
// else the one with the fewest calls, of those one in the most crowded zone, there
// on the most crowded node, else the youngest.
func leastUseful(units []*unit, rm *room) *unit {
	onNode, inZone := make(map[fleet.NodeID]int), make(map[string]int)
	zone := make(map[fleet.NodeID]string)
	for _, u := range units {
		zone[u.node] = rm.zoneOf(u.node)
		onNode[u.node]++
		inZone[zone[u.node]]++
	}
	return slices.MinFunc(units, func(a, b *unit) int {
		return cmp.Or(
			falseFirst(a.serving(), b.serving()),
			falseFirst(a.ready(), b.ready()),
			falseFirst(!a.leaves, !b.leaves),
			cmp.Compare(a.ongoing, b.ongoing),
			cmp.Compare(inZone[zone[b.node]], inZone[zone[a.node]]),
			cmp.Compare(onNode[b.node], onNode[a.node]),
			b.startedAt.Compare(a.startedAt),
			cmp.Compare(a.id, b.id),
		)
	})
}

func falseFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
