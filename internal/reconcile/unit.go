package reconcile

import (
	"cmp"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// unit is one replica as the reconciler thinks of it: ordered and not yet seen,
// or seen in a report.
type unit struct {
	id        fleet.ReplicaID
	server    fleet.ServerName
	rev       fleet.Revision
	gen       uint64
	node      fleet.NodeID
	life      fleet.LifeID
	resources fleet.Resources

	observed  bool        // a report has shown it
	phase     fleet.Phase // PENDING until a report says more
	unhealthy bool
	reachable bool      // its node's stream delivers
	since     time.Time // of reachable
	leaves    bool      // its node is draining
	expired   bool      // and was to be empty by now
	ending    bool      // its worker is stopping
	rested    bool      // it replaces one that nobody needed
	startedAt time.Time
	readyAt   time.Time // zero before READY

	// failed: its failure is on the books, under these words until more is
	// known.
	failed      string
	unexplained *unexplained // until it is known how it ended

	template *fleet.Template // of an ordered one
	start    *order          // until it is seen
	stop     *order
}

// order is one StartReplica or StopReplica on its way: repeated until it is
// answered, remembered until a report as new as the answer has come.
type order struct {
	reason    string
	acked     bool
	version   uint64 // of the report in which it shows, once acked
	inFlight  bool
	tries     int
	first     time.Time // try
	notBefore time.Time // next try
	err       error     // of the last try
}

func (u *unit) ready() bool    { return u.phase == fleet.PhaseReady }
func (u *unit) stopping() bool { return u.stop != nil || u.phase >= fleet.PhaseDraining }

// mayServe reports whether the replica answers calls, or may come to do so, for
// all that is known: it was told to stop, perhaps, and nothing shows that it
// has begun to.
func (u *unit) mayServe() bool { return u.phase < fleet.PhaseDraining }

func (u *unit) serving() bool {
	return u.ready() && u.reachable && !u.unhealthy && u.stop == nil
}

// leastUseful returns the one of the units whose end costs the least: one that
// does not serve, else the one on the most crowded node and zone, else the
// youngest.
func leastUseful(units []*unit, nodes []node) *unit {
	zone := make(map[fleet.NodeID]string)
	for i := range nodes {
		zone[nodes[i].ID] = nodes[i].Zone
	}
	onNode, inZone := make(map[fleet.NodeID]int), make(map[string]int)
	for _, u := range units {
		onNode[u.node]++
		inZone[zone[u.node]]++
	}
	return slices.MinFunc(units, func(a, b *unit) int {
		return cmp.Or(
			falseFirst(a.serving(), b.serving()),
			falseFirst(a.ready(), b.ready()),
			falseFirst(!a.leaves, !b.leaves),
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
