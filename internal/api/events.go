package api

import (
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Events is the answer of GET /api/v1/events, oldest first.
type Events struct {
	Events []Event `json:"events"`
	// Gap: the requested id is unknown, or events are missing from the list.
	Gap  bool   `json:"gap"`
	Last string `json:"last"` // id of the newest event, or ""; for ?since=
}

// Event is something that happened in the fleet, as the leader saw it.
type Event struct {
	// ID is unique in the cluster and grows: the leader's term and a count, such as
	// "7-12". It is also the id of the server-sent event.
	ID       string           `json:"id"`
	Time     time.Time        `json:"time"` // on the leader's clock
	Kind     fleet.EventKind  `json:"kind"`
	Server   fleet.ServerName `json:"server,omitempty"`
	Replica  fleet.ReplicaID  `json:"replica,omitempty"`
	Node     fleet.NodeID     `json:"node,omitempty"`
	Revision fleet.Revision   `json:"revision,omitempty"`
	Message  string           `json:"message"` // for people, with the reason; at most 1 KiB
}

// EventGap is the name of the server-sent event that comes first when the requested
// id is unknown, so that events may have been missed. Its data is an Event without
// an id. Other server-sent events have no name.
const EventGap = "gap"
