package desired

import (
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Command is one write to desired state. The commands are those that commands
// lists; the unexported method keeps others out. Each is a plain struct whose
// JSON form is what the log holds.
type Command interface {
	// Tag names the command in the log, and never changes.
	Tag() string
	// Subject returns the server or node that the command is about. It is zero
	// for commands about the whole fleet.
	Subject() Subject
	// String describes the command for messages, without secrets: "scale server x".
	String() string

	// apply changes a draft of the next state. The draft is discarded if it
	// returns an error, which is the same on every controller.
	apply(d *draft) error
}

// commands has a value of every command. The log is decoded with it.
func commands() []Command {
	return []Command{
		BeginTenure{}, PutServers{}, PutServer{}, DeleteServer{}, Scale{}, Restart{}, Rollback{}, SetNode{},
		EndRollout{}, SetCatalogue{}, SetKnown{}, SetTarget{}, SetFloor{}, FailRollout{}, SetRollout{}, AdvanceRollout{},
		AddSealKey{},
	}
}

// Entry is one entry of the log.
type Entry struct {
	Time    time.Time // on the leader's clock, when the command was proposed
	Command Command
}

// Subject is a server, a node or a gateway. The zero value is the whole fleet.
type Subject struct {
	Server  fleet.ServerName
	Node    fleet.NodeID
	Gateway fleet.GatewayName
}

func (s Subject) String() string {
	switch {
	case s.Server != "":
		return "server " + string(s.Server)
	case s.Node != "":
		return "node " + string(s.Node)
	case s.Gateway != "":
		return "gateway " + string(s.Gateway)
	default:
		return "the fleet"
	}
}

// Match is a condition on what is stored. The zero value always holds.
type Match struct {
	ETags []string `json:"etags,omitempty"` // If-Match: one of them, or "*": anything stored
	New   bool     `json:"new,omitempty"`   // If-None-Match: *: nothing stored
}

// Result is the outcome of a command.
type Result struct {
	Index   uint64 // of its entry
	Term    uint64
	State   *State   // after it
	Changes []Change // of a repeated idempotency key those of the first time
	// Warnings say what a command that was accepted has not done, and why.
	Warnings []Warning
	// Repeated: the idempotency key was used before, and nothing was done.
	Repeated bool
	// Err is a refusal: it wraps one of fleet's errors, for users to read, and
	// the state is as it was. It is the same on every controller.
	Err error
}

// Warning is something that the author of an accepted command should know.
type Warning struct {
	Server fleet.ServerName
	Text   string
}
