package api

import (
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Events is the answer of GET /api/v1/events: oldest first.
type Events struct {
	Events []Event `json:"events"`
	// Gap: the id asked for is unknown, or some are missing among these.
	Gap  bool   `json:"gap"`
	Last string `json:"last"` // id of the newest event there is; "" if there is none. Goes into ?since=
}

// Event is one thing that happened in the fleet, as the leader saw it.
type Event struct {
	// ID is unique in the cluster and grows: term of the leader, then its
	// count, as "7-12". It is the id of server-sent events, too.
	ID       string           `json:"id"`
	Time     time.Time        `json:"time"` // on the leader's clock
	Kind     fleet.EventKind  `json:"kind"`
	Server   fleet.ServerName `json:"server,omitempty"`
	Replica  fleet.ReplicaID  `json:"replica,omitempty"`
	Node     fleet.NodeID     `json:"node,omitempty"`
	Revision fleet.Revision   `json:"revision,omitempty"`
	Message  string           `json:"message"` // for people, with the reason; at most 1 KiB
}

// EventGap is the name of the server-sent event that comes before all others
// when the id asked for is unknown: events may have been missed. Its data is
// an Event without id. Events themselves have no name.
const EventGap = "gap"
