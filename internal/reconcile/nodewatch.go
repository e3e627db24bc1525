package reconcile

import (
	"maps"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// restartTime is how long a worker that has stopped in order counts as one that
// is being restarted.
const restartTime = 5 * time.Second

// nodeWatch compares the nodes with those of the last pass, and records events
// for what has become of them.
type nodeWatch struct {
	seen map[fleet.NodeID]nodeSeen
	left map[fleet.NodeID]time.Time // when workers left that had stopped in order
}

// nodeSeen is a node as it was at the last pass.
type nodeSeen struct {
	life                      fleet.LifeID // of the last report
	connected, draining, lost bool
}

func newNodeWatch() *nodeWatch {
	return &nodeWatch{seen: make(map[fleet.NodeID]nodeSeen), left: make(map[fleet.NodeID]time.Time)}
}

// observe records what has changed since it was last called.
func (w *nodeWatch) observe(nodes map[fleet.NodeID]observe.Node, now time.Time, record func(Event)) {
	event := func(kind fleet.EventKind, id fleet.NodeID, message string) {
		record(Event{Kind: kind, Node: id, Message: "node " + string(id) + " " + message})
	}
	for _, id := range sortedKeys(nodes) {
		n := nodes[id]
		if !n.Reported() {
			continue // nothing is known of this life yet
		}
		was, known := w.seen[id]
		is := nodeSeen{life: n.Member.Life, connected: n.Connected, draining: n.Draining, lost: n.Lost}
		w.seen[id] = is
		switch {
		case !known:
			event(fleet.EventNodeJoined, id, "joined")
		case was.life != is.life:
			event(fleet.EventNodeJoined, id, "came back as a new process")
		case is.lost && !was.lost:
			event(fleet.EventNodeLost, id, "could not be reached for too long: its replicas are replaced")
		case is.connected && !was.connected:
			event(fleet.EventNodeReturned, id, "can be reached again")
		case !is.connected && was.connected && !is.draining:
			event(fleet.EventNodeSilent, id, "cannot be reached")
		}
		if is.draining && !(was.draining && was.life == is.life) {
			event(fleet.EventNodeDraining, id, "is stopping: its replicas move to other nodes")
		}
	}
	for _, id := range sortedKeys(w.seen) {
		if _, ok := nodes[id]; ok {
			continue
		}
		switch was := w.seen[id]; {
		case was.draining:
			w.left[id] = now
			event(fleet.EventNodeLeft, id, "left")
		case !was.lost:
			event(fleet.EventNodeLost, id, "is gone: its replicas are replaced")
		}
		delete(w.seen, id)
	}
	maps.DeleteFunc(w.left, func(id fleet.NodeID, at time.Time) bool {
		_, back := nodes[id]
		return back || now.Sub(at) > restartTime
	})
}

// restartsUntil returns until when a worker that has stopped may come back; zero
// means that none is expected.
func (w *nodeWatch) restartsUntil() (until time.Time) {
	for _, at := range w.left {
		until = latest(until, at.Add(restartTime))
	}
	return until
}
