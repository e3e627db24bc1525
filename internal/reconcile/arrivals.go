package reconcile

import (
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// arrivalTime is for how long replicas move to a node that has begun to take them.
const arrivalTime = time.Hour

// arrival is when, and why, a node has begun to take replicas.
type arrival struct {
	at  time.Time
	why string // in words: "joined"
}

// arrivals are the nodes to which replicas move: those that have begun to take them.
type arrivals struct {
	seen map[fleet.NodeID]taking
	at   map[fleet.NodeID]arrival
}

// taking is whether a life of a node took replicas at the last pass.
type taking struct {
	life     fleet.LifeID
	yes      bool
	cordoned bool // by an operator, who may be draining it
	suspect  bool // cordoned by the leader
}

func newArrivals() *arrivals {
	return &arrivals{seen: make(map[fleet.NodeID]taking), at: make(map[fleet.NodeID]arrival)}
}

// observe finds the nodes that have begun to take replicas since the last pass. While
// complete is not set, nodes that report were there before.
func (a *arrivals) observe(now time.Time, views *nodeViews, suspects suspicions, complete bool) {
	for _, v := range views.list {
		if !v.node.Reported() {
			continue
		}
		was, known := a.seen[v.name]
		is := taking{
			life: v.node.Member.Life, cordoned: v.intent.Cordoned || !v.intent.DrainUntil.IsZero(), suspect: suspects.reason(v.name) != "",
		}
		is.yes = v.usable() && v.node.Connected && !is.suspect
		a.seen[v.name] = is
		switch {
		case !is.yes:
			delete(a.at, v.name)
		case !complete:
		case !known || was.life != is.life:
			a.at[v.name] = arrival{now, "joined"}
		case was.yes:
		case was.cordoned:
			a.at[v.name] = arrival{now, "was uncordoned"}
		case was.suspect:
			a.at[v.name] = arrival{now, "was taken back"}
		default:
			a.at[v.name] = arrival{now, "returned"}
		}
	}
	for name := range a.seen {
		if v := views.byName[name]; v == nil || !v.known {
			delete(a.seen, name)
			delete(a.at, name)
		}
	}
	for name, x := range a.at {
		if now.Sub(x.at) > arrivalTime {
			delete(a.at, name)
		}
	}
}

// settled returns the nodes that began to take replicas at least so long ago. wake is
// when the next one will have.
func (a *arrivals) settled(now time.Time, after time.Duration) (nodes map[fleet.NodeID]arrival, wake time.Time) {
	for name, x := range a.at {
		if over := x.at.Add(after); over.After(now) {
			wake = earlier(wake, over)
			continue
		}
		if nodes == nil {
			nodes = make(map[fleet.NodeID]arrival)
		}
		nodes[name] = x
	}
	return nodes, wake
}
