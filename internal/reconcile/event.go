package reconcile

import (
	"maps"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// Event is one thing that happened, as the leader saw it. Fields that do not
// apply are zero.
type Event struct {
	Kind     EventKind
	Server   fleet.ServerName
	Replica  fleet.ReplicaID
	Node     fleet.NodeID
	Revision fleet.Revision
	Message  string // in words
}

// EventKind tells the events apart.
type EventKind string

// The kinds of event.
const (
	ReplicaStarted   EventKind = "replica_started" // it was ordered
	ReplicaReady     EventKind = "replica_ready"
	ReplicaUnhealthy EventKind = "replica_unhealthy"
	ReplicaFailed    EventKind = "replica_failed"  // it ended by itself, or with its node
	ReplicaStopped   EventKind = "replica_stopped" // it ended as it was told to
	ServerState      EventKind = "server_state"
	NodeJoined       EventKind = "node_joined"   // in a new life
	NodeSilent       EventKind = "node_silent"   // it cannot be reached: out of rotation
	NodeReturned     EventKind = "node_returned" // it can be reached again
	NodeLost         EventKind = "node_lost"     // it was given up with all it ran
	NodeLeft         EventKind = "node_left"     // it had said that it would
	NodeDraining     EventKind = "node_draining" // it is stopping
)

// PlannedAction is one start or stop that would be made, and why.
type PlannedAction struct {
	Start    bool // else a stop
	Server   fleet.ServerName
	Replica  fleet.ReplicaID // of a stop
	Node     fleet.NodeID
	Revision fleet.Revision
	Reason   string
}

func (u *unit) event(kind EventKind, message string) Event {
	return Event{Kind: kind, Server: u.server, Replica: u.id, Node: u.node, Revision: u.rev, Message: message}
}

// nodeSeen is a node as it was at the last pass.
type nodeSeen struct {
	life                      fleet.LifeID // of the last report
	connected, draining, lost bool
}

// watchNodes tells what has become of the nodes since the last pass.
func (m *memory) watchNodes(s *observe.Snapshot, now time.Time) {
	tell := func(kind EventKind, id fleet.NodeID, message string) {
		m.record(Event{Kind: kind, Node: id, Message: "node " + string(id) + " " + message})
	}
	for _, id := range sortedKeys(s.Nodes) {
		n := s.Nodes[id]
		if !n.Reported() {
			continue // nothing is known of this life yet
		}
		was, known := m.nodes[id]
		is := nodeSeen{life: n.Member.Life, connected: n.Connected, draining: n.Draining, lost: n.Lost}
		m.nodes[id] = is
		switch {
		case !known:
			tell(NodeJoined, id, "joined")
		case was.life != is.life:
			tell(NodeJoined, id, "came back as a new process")
		case is.lost && !was.lost:
			tell(NodeLost, id, "could not be reached for too long: what it ran is replaced")
		case is.connected && !was.connected:
			tell(NodeReturned, id, "can be reached again")
		case !is.connected && was.connected && !is.draining:
			tell(NodeSilent, id, "cannot be reached")
		}
		if is.draining && !(was.draining && was.life == is.life) {
			tell(NodeDraining, id, "is stopping: what it runs moves away")
		}
	}
	for _, id := range sortedKeys(m.nodes) {
		if _, ok := s.Nodes[id]; ok {
			continue
		}
		switch was := m.nodes[id]; {
		case was.draining:
			m.left[id] = now
			tell(NodeLeft, id, "left")
		case !was.lost:
			tell(NodeLost, id, "is gone: what it ran is replaced")
		}
		delete(m.nodes, id)
	}
	maps.DeleteFunc(m.left, func(id fleet.NodeID, at time.Time) bool {
		_, back := s.Nodes[id]
		return back || now.Sub(at) > restartTime
	})
}

// restartTime is how long a worker that has stopped is taken for one that is
// being restarted.
const restartTime = 5 * time.Second

// awaited returns until when a worker that has stopped may come back; zero: none
// is awaited.
func (m *memory) awaited() (until time.Time) {
	for _, at := range m.left {
		until = latest(until, at.Add(restartTime))
	}
	return until
}
