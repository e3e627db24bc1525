package reconcile

import "github.com/mcpfleet/mcpfleet/internal/fleet"

// Event is one thing that happened, as the leader saw it. Fields that do not apply
// are zero.
type Event struct {
	Kind     EventKind
	Server   fleet.ServerName
	Replica  fleet.ReplicaID
	Node     fleet.NodeID
	Revision fleet.Revision
	Message  string // in words
}

// EventKind is the kind of an Event.
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
