package reconcile

import "github.com/mcpfleet/mcpfleet/internal/fleet"

// Event is one thing that happened, as the leader saw it. Fields that do not apply
// are zero.
type Event struct {
	Kind     fleet.EventKind
	Server   fleet.ServerName
	Replica  fleet.ReplicaID
	Node     fleet.NodeID
	Revision fleet.Revision
	Message  string // in words
}

// PlannedAction is one start or stop that would be made, and why.
type PlannedAction struct {
	Start    bool // else a stop
	Server   fleet.ServerName
	Replica  fleet.ReplicaID // of a stop
	Node     fleet.NodeID
	Revision fleet.Revision
	Reason   string
}

func (u *unit) event(kind fleet.EventKind, message string) Event {
	return Event{Kind: kind, Server: u.server, Replica: u.id, Node: u.node, Revision: u.rev, Message: message}
}
